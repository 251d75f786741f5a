"""All steps of a data recipe, from raw files to pairs: finished steps are skipped, unfinished ones resumed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from usermirrorer.console import headline, say
from usermirrorer.console.steps import StepReport, show_build
from usermirrorer.data.artefacts.run import run_step
from usermirrorer.data.decisions.run import run_decide
from usermirrorer.data.decisions.score import score
from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.pairs.distill import distill
from usermirrorer.data.recipe import DataRecipe, DomainRecipe, Predictor, Writer
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.data.sources import load_domain
from usermirrorer.errors import UserError
from usermirrorer.llm import load_model
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.shipped import shipped
from usermirrorer.steps import PrepareSettings


def build(
    recipe: DataRecipe, work: Path, raw: Mapping[str, Path], workers: int = 1, dry_run: bool = False
) -> list[StepReport]:
    """Make the pairs of a recipe under `work`; returns a report of every step, that of the pairs last.

    `raw` overrides the recipe's directories of raw files. All models and settings are checked before anything is
    computed, so a wrong SPEC costs nothing. A `dry_run` stops before the models: it shows what they will take.
    """
    unknown = set(raw) - {domain.name for domain in recipe.domains}
    if unknown:
        raise UserError(f"--raw {unknown.pop()}=…: the recipe has {', '.join(d.name for d in recipe.domains)}")
    models = {variant: load(writer) for variant, writer in recipe.writers.items()}
    predictor = load(recipe.predictor)
    for domain in recipe.domains:
        source = load_domain(domain.name, work)
        for settings in domain.scene_settings(recipe.seed).values():
            settings.for_domain(source.name, source.exposures, source.choice_rules)
    reports: list[StepReport] = []
    for domain in recipe.domains:
        reports += _scenes(domain, recipe, work, raw.get(domain.name), workers)
    domains = [load_domain(domain.name, work).name for domain in recipe.domains]
    if dry_run:
        from usermirrorer.data.forecast import forecast, show_forecast

        show_forecast(recipe.name, forecast(recipe, work, domains, models, predictor))
        return reports
    # The writer that is the predictor too comes last, so that no model is loaded twice.
    writers = sorted(recipe.writers.items(), key=lambda one: models[one[0]].name == predictor.name)
    for variant, writer in writers:
        chosen = writer.settings(recipe.prompt, recipe.seed)
        for name in domains:
            reports += run_decide(
                name, work, variant, models[variant], chosen, writer.batch, writer.dollars_per_million
            )
    for name in domains:
        places = [f"predictions/{name}/{variant}" for variant in recipe.writers]
        weigh, prices = partial(score, name, work, predictor), recipe.predictor.dollars_per_million
        reports += run_step(f"score {name}", weigh, work, places, resumes=True, prices=prices)
    select = partial(distill, work, domains, recipe.distill_settings)
    reports += run_step(f"distill {recipe.name}", lambda progress: select(), work, [f"pairs/{recipe.name}"])
    show_build(recipe.name, reports)
    pairs = reports[-1]
    headline(f"build {recipe.name}: {pairs.rows:,} pairs in {pairs.directory}")
    fitting = [known for known in shipped("sft") if known.endswith(f"/{recipe.name}")]
    say("Next:" if fitting else "Next, with one of `usermirrorer recipes`:")
    say(f"  usermirrorer train sft --config {fitting[0] if fitting else 'RECIPE'} \\")
    say(f"    --dataset_name {pairs.directory} --output_dir {work / 'models' / 'sft'}")
    return reports


def load(asked: Writer | Predictor) -> LanguageModel:
    """The model that a recipe names, where and how it says."""
    model = load_model(asked.llm, base_url=asked.base_url, concurrency=asked.concurrency, engine=asked.engine)
    if isinstance(asked, Writer) and asked.batch:
        from usermirrorer.llm.servers.batch import check_batched

        check_batched(model)
    return model


def prepare_domain(domain: str, raw: Path | None, work: Path, settings: PrepareSettings) -> list[StepReport]:
    """Tables and item vectors of a domain, given by its name or its YAML."""
    name = load_domain(domain, work).name
    read = partial(prepare, domain, raw, work, settings.seed, settings.snapshot)
    embed = partial(embed_items, name, work, settings.embedder)
    return [
        *run_step(f"prepare {name}", lambda progress: read(), work, [f"tables/{name}"]),
        *run_step(f"embed {name}", lambda progress: embed(), work, [f"embeddings/{name}"]),
    ]


def _scenes(domain: DomainRecipe, recipe: DataRecipe, work: Path, raw: Path | None, workers: int) -> list[StepReport]:
    """Prepare a domain and make its scenes of both splits."""
    source = raw or (Path(domain.raw).expanduser() if domain.raw else None)
    prepared = PrepareSettings(recipe.embedder, domain.snapshot, recipe.seed)
    reports = prepare_domain(domain.name, source, work, prepared)
    name = load_domain(domain.name, work).name
    for split, settings in domain.scene_settings(recipe.seed).items():
        make = partial(make_scenes, name, work, settings, workers)
        reports += run_step(f"scenes {name} {split}", make, work, [f"scenes/{name}/{split}"])
    return reports
