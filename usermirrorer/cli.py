"""The command line: one command per step. It parses, calls and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from usermirrorer.errors import StepFailed, UserError


app = typer.Typer(
    help="Turn interaction logs into preference-aligned LLM user simulators, and measure them.\n\n"
    "The path: prepare → scenes → decide → score → distill (all five: build) → train sft → train dpo → eval → report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _name(domain: str) -> str:
    """The name of a domain that may be given as the path of its YAML."""
    if not domain.endswith((".yaml", ".yml")):
        return domain
    from usermirrorer.data.sources import load_domain

    return load_domain(domain).name


Source = Annotated[
    str,
    typer.Argument(metavar="DOMAIN", help="Source domain, `usermirrorer domains` lists them; or your own .yaml."),
]
Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="Source domain, or your own .yaml.", callback=_name)]
Work = Annotated[Path, typer.Option(help="Directory under which every step keeps its output.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same bytes.")]
BaseUrl = Annotated[Optional[str], typer.Option(help="Server of openai:MODEL; default OPENAI_BASE_URL.")]  # noqa: UP045


@app.command()
def domains() -> None:
    """What is supported, the raw files each needs, and where their publishers offer them.

    Example: usermirrorer domains
    """
    from usermirrorer.console import say
    from usermirrorer.data.sources import DOMAINS, load_domain

    for name in [*DOMAINS, "amazon:Office_Products"]:
        domain = load_domain(name)
        say(f"{name}: {domain.title}\n  from {domain.publisher}\n  licence: {domain.licence}")
        say(f"  exposures: {', '.join(domain.exposures)}; choices: {', '.join(domain.choice_rules)}")
        hidden = [field for field, kind in domain.fields.items() if kind == "snapshot"]
        if hidden:
            say(f"  hidden without --snapshot: {', '.join(hidden)}")
        for file, about in domain.raw_files.items():
            say(f"  {file}: {about}")


@app.command()
def prepare(
    domain: Source,
    work: Work,
    raw: Annotated[Optional[Path], typer.Option(help="Directory of the raw files as distributed.")] = None,  # noqa: UP045
    embedder: Annotated[str, typer.Option(help="Item vectors: tfidf, or a SPEC such as vllm:MODEL.")] = "tfidf",
    snapshot: Annotated[bool, typer.Option(help="Show end-of-crawl values too, which tell of the future.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the embedded domains.")] = 0,
) -> None:
    """Raw files → tables with fixed cut times, and item vectors.

    Example: usermirrorer prepare toy --work runs/toy
    """
    from usermirrorer.console import say
    from usermirrorer.data.items.embeddings import embed_items
    from usermirrorer.data.log.prepare import prepare as run

    content = run(domain, raw, work, seed, snapshot)
    domain = content["recipe"]["domain"]
    say(f"prepare {domain}: rows {content['rows']}, dropped {content['dropped']}, cuts {content['cuts']}")
    vectors = embed_items(domain, work, embedder)
    say(f"embed {domain}: {vectors['rows']:,} vectors, {vectors['width']} wide")


@app.command()
def scenes(
    domain: Name,
    work: Work,
    split: Annotated[str, typer.Option(help="train or test")],
    num: Annotated[int, typer.Option(help="Scenes to keep; fewer where the choices run out.")],
    exposure: Annotated[str, typer.Option(help="natural, hard, retrieved or logged; default: the domain's.")] = "",
    choice: Annotated[str, typer.Option(help="What counts as a choice, as min_rating=4; default: the domain's.")] = "",
    min_exposure: Annotated[Optional[int], typer.Option(help="Fewest options; default 2, in test 5.")] = None,  # noqa: UP045
    max_exposure: Annotated[Optional[int], typer.Option(help="Most options; default 12, in test 5.")] = None,  # noqa: UP045
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(min=1, help="Threads; any number gives the same bytes.")] = 2,
) -> None:
    """Tables → scenes, with the exposure probe and the baselines. Make train before test.

    Example: usermirrorer scenes toy --work runs/toy --split train --num 500
    """
    from usermirrorer.console import progress, show_scenes
    from usermirrorer.data.scenes.make import SceneSettings, make_scenes
    from usermirrorer.data.sources import load_domain

    low, high = (5, 5) if split == "test" else (2, 12)
    source = load_domain(domain, work)
    settings = SceneSettings(
        split, num, exposure or source.exposures[0], choice or next(iter(source.choice_rules)),
        low if min_exposure is None else min_exposure, high if max_exposure is None else max_exposure, seed,
    )  # fmt: skip
    with progress(f"scenes {domain} {split}") as told:
        content = make_scenes(domain, work, settings, workers, told)
    show_scenes(content, work / "scenes" / domain / split)


@app.command()
def decide(
    domain: Name,
    work: Work,
    variant: Annotated[str, typer.Option(help="strong or weak")],
    llm: Annotated[str, typer.Option(metavar="SPEC", help="vllm:MODEL, openai:MODEL or scripted:NAME")],
    n: Annotated[int, typer.Option(help="Decision processes per scene.")] = 10,
    prompt: Annotated[str, typer.Option(help="Instruction: ekb or plain.")] = "ekb",
    temperature: float = 1.0,
    top_p: float = 0.9,
    max_tokens: int = 1024,
    seed: Seed = 0,
    base_url: BaseUrl = None,
) -> None:
    """Scenes → decision processes of one model. A killed run goes on where it stopped.

    Example: usermirrorer decide toy --work runs/toy --variant strong --llm scripted:reader --prompt plain
    """
    from usermirrorer.console import progress, say
    from usermirrorer.data.decisions.decide import decide as run
    from usermirrorer.llm import load_model
    from usermirrorer.llm.protocol import Sampling

    model, sampling = load_model(llm, base_url=base_url), Sampling(temperature, top_p, max_tokens)
    with progress(f"decide {domain} {variant}") as told:
        content = run(domain, work, variant, model, prompt, n, sampling, seed, told)
    say(f"decide {domain} {variant}: {content['rows']:,} decision processes, counted {content['counts']}")


@app.command()
def score(
    domain: Name,
    work: Work,
    predictor: Annotated[str, typer.Option(metavar="SPEC", help="One predictor for both variants.")],
    base_url: BaseUrl = None,
) -> None:
    """Decision processes → the probability of every option behind each.

    Example: usermirrorer score toy --work runs/toy --predictor vllm:tiny-base
    """
    from usermirrorer.console import progress, say
    from usermirrorer.data.decisions.score import score as run
    from usermirrorer.llm import load_model

    with progress(f"score {domain}") as told:
        contents = run(domain, work, load_model(predictor, base_url=base_url), told)
    for variant, content in contents.items():
        say(f"score {domain} {variant}: {content['rows']:,} predictions, counted {content['counts']}")


@app.command()
def distill(
    work: Work,
    domain: Annotated[list[str], typer.Option(help="Repeat for several domains.")],
    name: Annotated[str, typer.Option(help="The pairs go to WORK/pairs/NAME.")],
    num: Annotated[int, typer.Option(help="Pairs to select.")] = 10000,
    selector: Annotated[str, typer.Option(help="uncertainty or random")] = "uncertainty",
    behaviour: Annotated[str, typer.Option(help="Predicted behaviour: argmax or sample.")] = "argmax",
    rejected_from: Annotated[str, typer.Option(help="strong, or any (the published way).")] = "strong",
    min_accepted: Annotated[Optional[int], typer.Option(help="Accepted decisions a scene needs.")] = None,  # noqa: UP045
    seed: Seed = 0,
) -> None:
    """Predictions → preference pairs, as a data set for TRL.

    Example: usermirrorer distill --work runs/toy --domain toy --name toy --num 200
    """
    from usermirrorer.console import show_pairs
    from usermirrorer.data.pairs.distill import DistillSettings
    from usermirrorer.data.pairs.distill import distill as run

    settings = DistillSettings(
        name=name, num=num, seed=seed, selector=selector, behaviour=behaviour, rejected_from=rejected_from,
        min_accepted=min_accepted,
    )  # fmt: skip
    show_pairs(run(work, domain, settings), work / "pairs" / name)


@app.command()
def build(
    config: Annotated[Path, typer.Option(help="Data recipe, such as recipes/data/toy.yaml.")],
    work: Work = Path("runs/build"),
    raw: Annotated[Optional[list[str]], typer.Option(metavar="DOMAIN=DIR", help="Where raw files lie.")] = None,  # noqa: UP045
    workers: Annotated[int, typer.Option(min=1, help="Threads; any number gives the same bytes.")] = 2,
) -> None:
    """Raw files → pairs: prepare, scenes, decide, score and distill as a recipe says, resumable.

    Example: usermirrorer build --config recipes/data/toy.yaml --work runs/toy
    """
    from usermirrorer.data.build import build as run
    from usermirrorer.data.recipe import read_data_recipe

    places = dict(entry.partition("=")[::2] for entry in raw or [])
    wrong = [name for name, place in places.items() if not place]
    if wrong:
        raise UserError(f"--raw {wrong[0]}: write --raw DOMAIN=DIR")
    run(read_data_recipe(config), work, {name: Path(place) for name, place in places.items()}, workers)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="sft or dpo")],
    config: Annotated[Path, typer.Option(help="Recipe: TRL's own keys.")],
    accelerate: Annotated[Optional[Path], typer.Option(help="A file of accelerate_configs/.")] = None,  # noqa: UP045
) -> None:
    """Pairs → a fine-tuned model, by `accelerate launch`. Further flags override the recipe's keys.

    Example: usermirrorer train sft --config recipes/tiny-base/sft/config_toy.yaml --max_steps 10
    """
    from usermirrorer.train.launch import launch

    raise typer.Exit(launch(method, config, accelerate, context.args))


@app.command("eval")
def evaluate(
    model: Annotated[list[str], typer.Option(metavar="[NAME=]MODEL", help="Directory, Hub id or SPEC; repeatable.")],
    scenes: Annotated[str, typer.Option(help="Scenes: directory, FILE.parquet, FILE.jsonl(.gz) or Hub id.")],
    out: Annotated[Path, typer.Option(help="metrics.json and predictions.parquet go here.")],
    repeat: Annotated[int, typer.Option(help="Decision processes per scene.")] = 5,
    mode: Annotated[str, typer.Option(help="decision or direct")] = "decision",
    context: Annotated[
        str, typer.Option(help="full, no-history, no-profile, no-user, swapped-history; several by commas.")
    ] = "full",
    anonymise_items: Annotated[bool, typer.Option(help="Replace titles by neutral names.")] = False,
    prompt: Annotated[Optional[str], typer.Option(help="Instruction; default: as trained, else ekb.")] = None,  # noqa: UP045
    calibrate: Annotated[Optional[str], typer.Option(help="Train scenes to fit one temperature on.")] = None,  # noqa: UP045
    temperature: float = 1.0,
    top_p: float = 0.9,
    max_tokens: int = 1024,
    seed: Seed = 0,
    base_url: BaseUrl = None,
) -> None:
    """Measure models on scenes, beside the baselines and the exposure probe.

    Example: usermirrorer eval --model tiny-base --scenes runs/toy/scenes/toy/test --out runs/toy/eval --prompt plain
    """
    from usermirrorer.eval.run import run_eval
    from usermirrorer.llm.protocol import Sampling

    run_eval(
        _models(model), scenes, out, repeat=repeat, mode=mode, contexts=context.split(","), anonymise=anonymise_items,
        prompt=prompt, sampling=Sampling(temperature, top_p, max_tokens), seed=seed, calibrate=calibrate,
        base_url=base_url,
    )  # fmt: skip


@app.command()
def simulate(
    model: Annotated[str, typer.Option(metavar="MODEL", help="Directory, Hub id or SPEC.")],
    requests: Annotated[Path, typer.Option(help="JSONL of {user_id, items, timestamp?}: your recommender's lists.")],
    domain: Annotated[str, typer.Option(help="Domain of the users and items.")],
    work: Work,
    out: Annotated[Path, typer.Option(help="JSONL of choices.")],
    samples: Annotated[int, typer.Option(help="Decision processes per list.")] = 5,
    mode: Annotated[str, typer.Option(help="decision or direct")] = "decision",
    prompt: Annotated[Optional[str], typer.Option(help="Instruction; default: as trained, else ekb.")] = None,  # noqa: UP045
    seed: Seed = 0,
) -> None:
    """Your recommender's lists in, choices out.

    Example: usermirrorer simulate --model tiny-base --requests r.jsonl --domain toy --work runs/toy --out o.jsonl
    """
    from usermirrorer.console import say
    from usermirrorer.data.log.tables import load_tables
    from usermirrorer.simulate.requests import read_requests, write_choices
    from usermirrorer.simulate.simulator import Simulator

    asked = read_requests(requests, load_tables(work, domain))
    choices = Simulator(model, prompt, mode, samples, seed).simulate([request.text for request in asked])
    write_choices(out, asked, choices)
    say(f"simulate {domain}: {len(choices):,} choices in {out}")


@app.command()
def report(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Directories that eval wrote.")],
    out: Annotated[Optional[Path], typer.Option(help="Where the page goes; default: the first DIR.")] = None,  # noqa: UP045
) -> None:
    """Compare evaluations of the same scenes: summary.json and one HTML page.

    Example: usermirrorer report runs/toy/eval
    """
    from usermirrorer.console import say
    from usermirrorer.eval.report import report as run

    say(f"report: {run(directories, out or directories[0])}")


@app.command()
def validate(
    path: Annotated[
        Path, typer.Argument(help="An artefact's directory, FILE.parquet, FILE.jsonl, or a whole --work.")
    ],
    tokenizer: Annotated[
        Optional[str], typer.Option(metavar="MODEL", help="Count tokens with a model's: directory, Hub id, tiny-base.")  # noqa: UP045
    ] = None,
    prompt: Annotated[Optional[str], typer.Option(help="Instruction; default: that of the decisions.")] = None,  # noqa: UP045
    max_length: Annotated[Optional[int], typer.Option(help="Tokens of prompt and answer; default: MODEL's.")] = None,  # noqa: UP045
) -> None:
    """Check artefacts: files, schema, ids, windows, positions, probe and, with --tokenizer, lengths.

    Example: usermirrorer validate runs/toy --tokenizer tiny-base
    """
    from usermirrorer.data.audit.checks.lengths import token_counter
    from usermirrorer.data.audit.checks.result import print_checks
    from usermirrorer.data.audit.validate import validate as run

    if tokenizer is None and (prompt is not None or max_length is not None):
        raise UserError("--prompt and --max-length are about lengths in tokens: name whose with --tokenizer MODEL")
    checks = run(path, token_counter(tokenizer, prompt, max_length) if tokenizer else None)
    print_checks(checks)
    if any(check.result == "failed" for check in checks):
        raise StepFailed(f"{path} failed {sum(check.result == 'failed' for check in checks)} of {len(checks)} checks")


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="An artefact's directory or file; with --scene a whole --work too.")],
    num: Annotated[int, typer.Option(help="Rows, drawn by the seed.")] = 3,
    scene: Annotated[str, typer.Option(metavar="ID", help="All rows of one scene.")] = "",
    seed: Seed = 0,
) -> None:
    """Print rows as a person reads them, with the probe's and the baselines' answers beside the truth.

    Example: usermirrorer show runs/toy/scenes/toy/train --num 2
    """
    from usermirrorer.data.audit.show import show as run

    run(path, num, scene, seed)


@app.command()
def push(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Scenes, pairs …, or a whole --work.")],
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="OWNER/NAME of the data set on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Only for those whom you let in.")] = False,
    include_text: Annotated[
        bool, typer.Option("--include-text", help="Send text that its publisher does not let be passed on.")
    ] = False,
    token_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable of the token.")
    ] = "HF_TOKEN",
) -> None:
    """Publish a data set with its card: checked first, staged in WORK/publish, then sent.

    Example: usermirrorer push runs/toy/scenes/toy runs/toy/pairs/toy you/toy-scenes --private
    """
    from usermirrorer.console import say
    from usermirrorer.data.audit.checks.result import print_checks
    from usermirrorer.data.audit.publish import push as run

    say(f"push: {run(paths, repo_id, private, include_text, token_env, print_checks, say)}")


def _models(entries: list[str]) -> dict[str, str]:
    """Shown names and SPECs of `[NAME=]MODEL` entries."""
    models: dict[str, str] = {}
    for entry in entries:
        name, _, model = entry.rpartition("=")
        name = name or Path(model).name
        if name in models:
            raise UserError(f"--model {entry}: two models are called {name}; write --model NAME={model}")
        models[name] = model if model.startswith(("vllm:", "openai:", "scripted:")) else f"vllm:{model}"
    return models


def main() -> None:
    """Entry point: one sentence for what the user can mend, never a traceback."""
    try:
        app()
    except UserError as error:
        print(f"usermirrorer: {error}", file=sys.stderr)
        sys.exit(2)
    except StepFailed as error:
        print(f"usermirrorer: {error}", file=sys.stderr)
        sys.exit(1)
