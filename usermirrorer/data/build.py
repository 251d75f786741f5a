"""All steps of a data recipe, from raw files to pairs: finished steps are skipped, unfinished ones resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usermirrorer.console import progress, show_pairs, show_scenes, show_tables
from usermirrorer.data.decisions.decide import decide
from usermirrorer.data.decisions.score import score
from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.pairs.distill import distill
from usermirrorer.data.recipe import DataRecipe, DomainRecipe
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.data.sources import load_domain
from usermirrorer.errors import UserError
from usermirrorer.llm import load_model


def build(recipe: DataRecipe, work: Path, raw: Mapping[str, Path], workers: int = 1) -> dict[str, Any]:
    """Make the pairs of a recipe under `work`; returns the content of their manifest.

    `raw` overrides the recipe's directories of raw files. All models and settings are checked before anything is
    computed, so a wrong SPEC costs nothing.
    """
    unknown = set(raw) - {domain.name for domain in recipe.domains}
    if unknown:
        raise UserError(f"--raw {unknown.pop()}=…: the recipe has {', '.join(d.name for d in recipe.domains)}")
    models = {variant: load_model(writer.llm) for variant, writer in recipe.writers.items()}
    predictor = load_model(recipe.predictor.llm)
    for domain in recipe.domains:
        source = load_domain(domain.name, work)
        for settings in domain.scene_settings(recipe.seed).values():
            settings.for_domain(source.name, source.exposures, source.choice_rules)
    for domain in recipe.domains:
        _scenes(domain, recipe, work, raw.get(domain.name), workers)
    domains = [load_domain(domain.name, work).name for domain in recipe.domains]
    for variant, writer in recipe.writers.items():
        for name in domains:
            with progress(f"decide {name} {variant}") as report:
                chosen = writer.settings(recipe.prompt, recipe.seed)
                decide(name, work, variant, models[variant], chosen, report)
    for name in domains:
        with progress(f"score {name}") as report:
            score(name, work, predictor, report)
    content = distill(work, domains, recipe.distill_settings)
    show_pairs(content, work / "pairs" / recipe.name)
    return content


def _scenes(domain: DomainRecipe, recipe: DataRecipe, work: Path, raw: Path | None, workers: int) -> None:
    source = raw or (Path(domain.raw).expanduser() if domain.raw else None)
    prepared = prepare(domain.name, source, work, recipe.seed, domain.snapshot)
    name = prepared["recipe"]["domain"]
    show_tables(prepared)
    embed_items(name, work, recipe.embedder)
    for split, settings in domain.scene_settings(recipe.seed).items():
        with progress(f"scenes {name} {split}") as report:
            content = make_scenes(name, work, settings, workers, report)
        show_scenes(content, work / "scenes" / name / split)
