"""Commands from raw files to preference pairs, in the order of the path. They parse, call and print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usermirrorer.cli.options import BaseUrl, Name, Source, Work, Workers, with_settings
from usermirrorer.errors import UserError
from usermirrorer.steps import DecideSettings, DistillSettings, PrepareSettings, SceneSettings


SPEC_FORMS = "vllm:MODEL, transformers:MODEL, openai:MODEL or scripted:NAME"


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


@with_settings
def decide(
    domain: Name,
    work: Work,
    variant: Annotated[str, typer.Option(help="strong or weak")],
    llm: Annotated[str, typer.Option(metavar="SPEC", help=SPEC_FORMS)],
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


def build(
    config: Annotated[str, typer.Option(metavar="NAME|FILE", help="Data recipe: see `usermirrorer recipes`.")],
    work: Work = Path("runs/build"),
    raw: Annotated[list[str] | None, typer.Option(metavar="DOMAIN=DIR", help="Directory of raw files.")] = None,
    workers: Workers = 2,
) -> None:
    """Raw files → pairs: prepare, scenes, decide, score and distill as a recipe says. Resumable.

    Example: usermirrorer build --config toy --work runs/toy
    """
    from usermirrorer.data.build import build as run
    from usermirrorer.data.recipe import read_data_recipe
    from usermirrorer.shipped import DATA, find_file

    recipe = read_data_recipe(find_file(config, DATA))
    directories = dict(entry.partition("=")[::2] for entry in raw or [])
    wrong = [name for name, directory in directories.items() if not directory]
    if wrong:
        raise UserError(f"--raw {wrong[0]}: write --raw DOMAIN=DIR")
    run(recipe, work, {name: Path(path) for name, path in directories.items()}, workers)
