"""Commands from raw files to preference pairs, in the order of the path. They parse, call and print."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from usermirrorer.cli.options import (
    BaseUrl,
    Concurrency,
    Name,
    Source,
    Work,
    Workers,
    complete_domain,
    reports,
    with_settings,
)
from usermirrorer.errors import UserError
from usermirrorer.steps import (
    MODEL_FORMS,
    DecideSettings,
    DistillSettings,
    EngineSettings,
    PrepareSettings,
    SceneSettings,
)


@reports
def domains(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[DOMAIN]", help="Only this one, or your own .yaml.", autocompletion=complete_domain),
    ] = None,
) -> None:
    """List the supported domains and where their publishers offer the raw files; of one, which files it needs.

    Example: usermirrorer domains ml-100k
    """
    from usermirrorer.console import headline, report, say
    from usermirrorer.data.sources import DOMAINS, load_domain
    from usermirrorer.data.sources.sketch import about, directory_sketch, facts

    known = [load_domain(one) for one in ([*DOMAINS, "amazon:Office_Products"] if name is None else [name])]
    for domain in known:
        title, *lines = about(domain)
        headline(title)
        files = [f"  {file}: {content}" for file, content in domain.raw_files.items()]
        say("\n".join([*lines, *(files if name is None else ["", *directory_sketch(domain)])]))
    report({"domains": [facts(domain) for domain in known]})


@reports
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
    from usermirrorer.console.steps import report_steps
    from usermirrorer.data.build import prepare_domain

    report_steps(prepare_domain(domain, raw, work, settings))


@reports
@with_settings
def scenes(domain: Name, work: Work, settings: SceneSettings, workers: Workers = 2) -> None:
    """Tables → scenes, with the exposure probe and the baselines. Make train before test.

    Example: usermirrorer scenes toy --work runs/toy --split train --num 500
    """
    from usermirrorer.console.steps import report_steps
    from usermirrorer.data.artefacts.run import run_step
    from usermirrorer.data.scenes.make import make_scenes

    make, split = partial(make_scenes, domain, work, settings, workers), settings.split
    report_steps(run_step(f"scenes {domain} {split}", make, work, [f"scenes/{domain}/{split}"]))


@reports
@with_settings
def decide(
    domain: Name,
    work: Work,
    variant: Annotated[str, typer.Option(help="strong or weak")],
    llm: Annotated[str, typer.Option(metavar="SPEC", help=MODEL_FORMS)],
    settings: DecideSettings,
    engine: EngineSettings,
    base_url: BaseUrl = None,
    concurrency: Concurrency = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Use the server's Batch API: within a day, for less.")
    ] = False,
) -> None:
    """Scenes → decision processes of one model. A killed run resumes where it stopped.

    Example: usermirrorer decide toy --work runs/toy --variant strong --llm scripted:reader --prompt plain
    """
    from usermirrorer.console.steps import report_steps
    from usermirrorer.data.decisions.run import run_decide
    from usermirrorer.llm import load_model

    model = load_model(llm, base_url=base_url, concurrency=concurrency, engine=engine)
    report_steps(run_decide(domain, work, variant, model, settings, batch))


@reports
@with_settings
def score(
    domain: Name,
    work: Work,
    predictor: Annotated[str, typer.Option(metavar="SPEC", help="One predictor for both variants.")],
    engine: EngineSettings,
    base_url: BaseUrl = None,
    concurrency: Concurrency = None,
) -> None:
    """Decision processes → the probability of every option after each of them.

    Example: usermirrorer score toy --work runs/toy --predictor vllm:tiny-base
    """
    from usermirrorer.console.steps import report_steps
    from usermirrorer.data.artefacts.run import run_step
    from usermirrorer.data.artefacts.schema import VARIANTS
    from usermirrorer.data.decisions.score import score as run
    from usermirrorer.llm import load_model

    places = [f"predictions/{domain}/{variant}" for variant in VARIANTS]
    model = load_model(predictor, base_url=base_url, concurrency=concurrency, engine=engine)
    answer = partial(run, domain, work, model)
    report_steps(run_step(f"score {domain}", answer, work, places, resumes=True))


@reports
@with_settings
def distill(
    work: Work,
    domain: Annotated[list[str], typer.Option(help="Repeat for several domains.")],
    settings: DistillSettings,
) -> None:
    """Predictions → preference pairs, as a data set for TRL.

    Example: usermirrorer distill --work runs/toy --domain toy --name toy --num 200
    """
    from usermirrorer.console.steps import report_steps
    from usermirrorer.data.artefacts.run import run_step
    from usermirrorer.data.pairs.distill import distill as run

    place = f"pairs/{settings.name}"
    report_steps(run_step(f"distill {settings.name}", lambda progress: run(work, domain, settings), work, [place]))


@reports
def build(
    config: Annotated[str, typer.Option(metavar="NAME|FILE", help="Data recipe: see `usermirrorer recipes`.")],
    work: Work = Path("runs/build"),
    raw: Annotated[list[str] | None, typer.Option(metavar="DOMAIN=DIR", help="Directory of raw files.")] = None,
    workers: Workers = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make scenes, then only say what the rest takes.")
    ] = False,
) -> None:
    """Raw files → pairs: prepare, scenes, decide, score and distill as a recipe says. Resumable.

    Example: usermirrorer build --config toy --work runs/toy
    """
    from usermirrorer.console.steps import report_steps
    from usermirrorer.data.build import build as run
    from usermirrorer.data.recipe import read_data_recipe
    from usermirrorer.shipped import DATA, find_file

    recipe = read_data_recipe(find_file(config, DATA))
    directories = dict(entry.partition("=")[::2] for entry in raw or [])
    wrong = [name for name, directory in directories.items() if not directory]
    if wrong:
        raise UserError(f"--raw {wrong[0]}: write --raw DOMAIN=DIR")
    raw_of = {name: Path(path) for name, path in directories.items()}
    report_steps(run(recipe, work, raw_of, workers, dry_run))
