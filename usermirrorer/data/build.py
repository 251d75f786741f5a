"""All steps of a data recipe, from raw files to pairs: each is skipped where it is done and resumed where not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from usermirrorer.console import progress, say, show_pairs, show_scenes
from usermirrorer.data.decisions.decide import decide
from usermirrorer.data.decisions.score import score
from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.pairs.distill import distill
from usermirrorer.data.recipe import DataRecipe, DomainRecipe
from usermirrorer.data.scenes.make import SceneSettings, make_scenes
from usermirrorer.data.sources import load_domain
from usermirrorer.errors import UserError
from usermirrorer.llm import load_model


def build(recipe: DataRecipe, work: Path, raw: Mapping[str, Path], workers: int = 1) -> dict[str, Any]:
    """Make the pairs of a recipe under `work`; `raw` overrides directories of raw files. The pairs' manifest content.

    All models are named before anything is computed, so that a wrong SPEC costs nothing.
    """
    unknown = set(raw) - {domain.name for domain in recipe.domains}
    if unknown:
        raise UserError(f"--raw {unknown.pop()}=…: the recipe has {', '.join(d.name for d in recipe.domains)}")
    writers = {"strong": recipe.strong, "weak": recipe.weak}
    models = {variant: load_model(writer.llm) for variant, writer in writers.items()}
    predictor = load_model(recipe.predictor.llm)
    for domain in recipe.domains:
        settings = scene_settings(domain, recipe.seed, work)
        for split in settings.values():
            split.check(load_domain(domain.name, work).exposures, domain.name)
    for domain in recipe.domains:
        _scenes(domain, recipe, work, raw.get(domain.name), workers)
    recipe = replace(
        recipe, domains=[replace(one, name=load_domain(one.name, work).name) for one in recipe.domains]
    )  # fmt: skip
    for variant, writer in writers.items():
        for domain in recipe.domains:
            with progress(f"decide {domain.name} {variant}") as told:
                decide(
                    domain.name, work, variant, models[variant], recipe.prompt, writer.n, writer.sampling,
                    recipe.seed, told,
                )  # fmt: skip
    for domain in recipe.domains:
        with progress(f"score {domain.name}") as told:
            score(domain.name, work, predictor, told)
    content = distill(work, [d.name for d in recipe.domains], recipe.distill.settings(recipe.name, recipe.seed))
    show_pairs(content, work / "pairs" / recipe.name)
    return content


def scene_settings(domain: DomainRecipe, seed: int, work: Path | None = None) -> dict[str, SceneSettings]:
    """Settings of both splits; exposure and choice are the domain's first unless the recipe names others."""
    source = load_domain(domain.name, work)
    exposure, choice = domain.exposure or source.exposures[0], domain.choice or next(iter(source.choice_rules))
    counts = domain.scenes
    bounds = {"train": (counts.train, counts.min, counts.max), "test": (counts.test, counts.test_min, counts.test_max)}
    return {
        split: SceneSettings(split, num, exposure, choice, low, high, seed)
        for split, (num, low, high) in bounds.items()
    }


def _scenes(domain: DomainRecipe, recipe: DataRecipe, work: Path, raw: Path | None, workers: int) -> None:
    source = raw or (Path(domain.raw).expanduser() if domain.raw else None)
    prepared = prepare(domain.name, source, work, recipe.seed, domain.snapshot)
    name = prepared["recipe"]["domain"]
    say(f"prepare {name}: {prepared['rows']}, dropped {sum(prepared['dropped'].values())}")
    embed_items(name, work, recipe.embedder)
    for split, settings in scene_settings(domain, recipe.seed, work).items():
        with progress(f"scenes {name} {split}") as told:
            content = make_scenes(name, work, settings, workers, told)
        show_scenes(content, work / "scenes" / name / split)
