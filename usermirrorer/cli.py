"""The command line: one command per step. It parses, calls and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.options import BaseUrl, Name, Prompt, Source, Version, Work, Workers, with_settings
from usermirrorer.steps import (
    DecideSettings,
    DistillSettings,
    EvalSettings,
    PrepareSettings,
    SceneSettings,
    SimulateSettings,
)


app = typer.Typer(
    help="Turn interaction logs into preference-aligned LLM user simulators, and measure them.\n\n"
    "The path: prepare → scenes → decide → score → distill (all five: build) → train sft → train dpo → eval → report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def usermirrorer(version: Version = False) -> None:
    pass


@app.command()
def domains(
    name: Annotated[str | None, typer.Argument(metavar="[DOMAIN]", help="Only this one, or your own .yaml.")] = None,
) -> None:
    """List the supported domains and where their publishers offer the raw files; of one, which files it needs.

    Example: usermirrorer domains ml-100k
    """
    from usermirrorer.console import say
    from usermirrorer.data.sources import DOMAINS, load_domain
    from usermirrorer.data.sources.sketch import about, directory_sketch

    if name is not None:
        domain = load_domain(name)
        say("\n".join([*about(domain), "", *directory_sketch(domain)]))
        return
    for domain in map(load_domain, [*DOMAINS, "amazon:Office_Products"]):
        say("\n".join(about(domain)))
        for file, content in domain.raw_files.items():
            say(f"  {file}: {content}")


@app.command()
@with_settings
def prepare(
    domain: Source,
    work: Work,
    settings: PrepareSettings,
    raw: Annotated[Path | None, typer.Option(help="Directory of the raw files as distributed.")] = None,
) -> None:
    """Raw files → tables with fixed cut times, and item vectors.

    Example: usermirrorer prepare toy --work runs/toy
    """
    from usermirrorer.console import say, show_tables
    from usermirrorer.data.items.embeddings import embed_items
    from usermirrorer.data.log.prepare import prepare as run

    content = run(domain, raw, work, settings.seed, settings.snapshot)
    name = content["recipe"]["domain"]
    show_tables(content)
    vectors = embed_items(name, work, settings.embedder)
    say(f"embed {name}: {vectors['rows']:,} vectors, {vectors['width']} wide")


@app.command()
@with_settings
def scenes(domain: Name, work: Work, settings: SceneSettings, workers: Workers = 2) -> None:
    """Tables → scenes, with the exposure probe and the baselines. Make train before test.

    Example: usermirrorer scenes toy --work runs/toy --split train --num 500
    """
    from usermirrorer.console import progress, show_scenes
    from usermirrorer.data.scenes.make import make_scenes

    with progress(f"scenes {domain} {settings.split}") as report:
        content = make_scenes(domain, work, settings, workers, report)
    show_scenes(content, work / "scenes" / domain / settings.split)


@app.command()
@with_settings
def decide(
    domain: Name,
    work: Work,
    variant: Annotated[str, typer.Option(help="strong or weak")],
    llm: Annotated[str, typer.Option(metavar="SPEC", help="vllm:MODEL, openai:MODEL or scripted:NAME")],
    settings: DecideSettings,
    base_url: BaseUrl = None,
) -> None:
    """Scenes → decision processes of one model. A killed run resumes where it stopped.

    Example: usermirrorer decide toy --work runs/toy --variant strong --llm scripted:reader --prompt plain
    """
    from usermirrorer.console import progress, say
    from usermirrorer.data.decisions.decide import decide as run
    from usermirrorer.llm import load_model

    model = load_model(llm, base_url=base_url)
    with progress(f"decide {domain} {variant}") as report:
        content = run(domain, work, variant, model, settings, report)
    say(f"decide {domain} {variant}: {content['rows']:,} decision processes, counted {content['counts']}")


@app.command()
def score(
    domain: Name,
    work: Work,
    predictor: Annotated[str, typer.Option(metavar="SPEC", help="One predictor for both variants.")],
    base_url: BaseUrl = None,
) -> None:
    """Decision processes → the probability of every option after each of them.

    Example: usermirrorer score toy --work runs/toy --predictor vllm:tiny-base
    """
    from usermirrorer.console import progress, say
    from usermirrorer.data.decisions.score import score as run
    from usermirrorer.llm import load_model

    with progress(f"score {domain}") as report:
        contents = run(domain, work, load_model(predictor, base_url=base_url), report)
    for variant, content in contents.items():
        say(f"score {domain} {variant}: {content['rows']:,} predictions, counted {content['counts']}")


@app.command()
@with_settings
def distill(
    work: Work,
    domain: Annotated[list[str], typer.Option(help="Repeat for several domains.")],
    settings: DistillSettings,
) -> None:
    """Predictions → preference pairs, as a data set for TRL.

    Example: usermirrorer distill --work runs/toy --domain toy --name toy --num 200
    """
    from usermirrorer.console import show_pairs
    from usermirrorer.data.pairs.distill import distill as run

    show_pairs(run(work, domain, settings), work / "pairs" / settings.name)


@app.command()
def build(
    config: Annotated[Path, typer.Option(help="Data recipe, such as recipes/data/toy.yaml.")],
    work: Work = Path("runs/build"),
    raw: Annotated[list[str] | None, typer.Option(metavar="DOMAIN=DIR", help="Directory of raw files.")] = None,
    workers: Workers = 2,
) -> None:
    """Raw files → pairs: prepare, scenes, decide, score and distill as a recipe says. Resumable.

    Example: usermirrorer build --config recipes/data/toy.yaml --work runs/toy
    """
    from usermirrorer.data.build import build as run
    from usermirrorer.data.recipe import read_data_recipe

    directories = dict(entry.partition("=")[::2] for entry in raw or [])
    wrong = [name for name, directory in directories.items() if not directory]
    if wrong:
        raise UserError(f"--raw {wrong[0]}: write --raw DOMAIN=DIR")
    run(read_data_recipe(config), work, {name: Path(path) for name, path in directories.items()}, workers)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="sft or dpo")],
    config: Annotated[Path, typer.Option(help="Recipe: TRL's own keys.")],
    accelerate: Annotated[Path | None, typer.Option(help="A file of accelerate_configs/.")] = None,
) -> None:
    """Pairs → a fine-tuned model, by `accelerate launch`. Further flags override the recipe's keys.

    Example: usermirrorer train sft --config recipes/tiny-base/sft/config_toy.yaml --max_steps 10
    """
    from usermirrorer.train.launch import launch

    raise typer.Exit(launch(method, config, accelerate, context.args))


@app.command("eval")
@with_settings
def evaluate(
    model: Annotated[list[str], typer.Option(metavar="[NAME=]MODEL", help="Directory, Hub id or SPEC; repeatable.")],
    scenes: Annotated[str, typer.Option(help="Scenes: directory, FILE.parquet, FILE.jsonl(.gz) or Hub id.")],
    out: Annotated[Path, typer.Option(help="Directory for metrics.json and predictions.parquet.")],
    settings: EvalSettings,
    base_url: BaseUrl = None,
) -> None:
    """Measure models on scenes, beside the baselines and the exposure probe.

    Example: usermirrorer eval --model tiny-base --scenes runs/toy/scenes/toy/test --out runs/toy/eval --prompt plain
    """
    from usermirrorer.eval.run import named_models, run_eval

    run_eval(named_models(model), scenes, out, settings, base_url=base_url)


@app.command()
@with_settings
def simulate(
    model: Annotated[str, typer.Option(metavar="MODEL", help="Directory, Hub id or SPEC.")],
    requests: Annotated[Path, typer.Option(help="JSONL of {user_id, items, timestamp?}: your recommender's lists.")],
    domain: Annotated[str, typer.Option(help="Domain of the users and items.")],
    work: Work,
    out: Annotated[Path, typer.Option(help="JSONL of answers.")],
    settings: SimulateSettings,
) -> None:
    """Your recommender's lists in, the users' choices out.

    Example: usermirrorer simulate --model tiny-base --requests r.jsonl --domain toy --work runs/toy --out o.jsonl
    """
    from usermirrorer.console import say
    from usermirrorer.data.log.tables import load_tables
    from usermirrorer.simulate.requests import read_requests, write_choices
    from usermirrorer.simulate.simulator import Simulator

    lists = read_requests(requests, load_tables(work, domain))
    user = Simulator(model, settings.prompt, settings.mode, settings.samples, settings.seed)
    answers = user.simulate([request.text for request in lists])
    write_choices(out, lists, answers)
    say(f"simulate {domain}: {len(answers):,} choices in {out}")


@app.command()
def report(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Directories that eval wrote.")],
    out: Annotated[Path | None, typer.Option(help="Directory for the page; default: the first DIR.")] = None,
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
        str | None, typer.Option(metavar="MODEL", help="Also count tokens, with this model's tokenizer.")
    ] = None,
    prompt: Prompt = None,
    max_length: Annotated[int | None, typer.Option(help="Most tokens of prompt and answer; default: MODEL's.")] = None,
) -> None:
    """Check artefacts: files, schema, ids, windows, positions, probe and, with --tokenizer, lengths.

    Example: usermirrorer validate runs/toy --tokenizer tiny-base
    """
    from usermirrorer.data.audit.checks.lengths import token_counter
    from usermirrorer.data.audit.checks.result import print_checks
    from usermirrorer.data.audit.validate import validate as run

    if tokenizer is None and (prompt is not None or max_length is not None):
        raise UserError("--prompt and --max-length set how tokens are counted: add --tokenizer MODEL")
    checks = run(path, token_counter(tokenizer, prompt, max_length) if tokenizer else None)
    print_checks(checks)
    failed = sum(check.result == "failed" for check in checks)
    if failed:
        raise StepFailed(f"{path} failed {failed} of {len(checks)} checks")


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="An artefact's directory or file; with --scene also a whole --work.")],
    num: Annotated[int, typer.Option(help="Rows, drawn by the seed.")] = 3,
    scene: Annotated[str, typer.Option(metavar="ID", help="All rows of one scene.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed shows the same rows.")] = 0,
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
    private: Annotated[bool, typer.Option("--private", help="Make the data set private.")] = False,
    include_text: Annotated[
        bool, typer.Option("--include-text", help="Send text even if its publisher forbids redistribution.")
    ] = False,
    token_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable that holds the token.")
    ] = "HF_TOKEN",
) -> None:
    """Publish a data set with its card: checked first, staged in WORK/publish, then sent.

    Example: usermirrorer push runs/toy/scenes/toy runs/toy/pairs/toy you/toy-scenes --private
    """
    from usermirrorer.console import say
    from usermirrorer.data.audit.checks.result import print_checks
    from usermirrorer.data.audit.publish import push as run

    say(f"push: {run(paths, repo_id, private, include_text, token_env, print_checks, say)}")


def main() -> None:
    """Entry point: one sentence for errors the user can fix, never a traceback."""
    try:
        app()
    except (UserError, StepFailed) as error:
        print(f"usermirrorer: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
