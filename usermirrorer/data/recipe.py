"""Data recipes: one YAML file that says how pairs are made, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from usermirrorer.settings import read_settings
from usermirrorer.steps import (
    DecideSettings,
    DistillSettings,
    EngineSettings,
    PrepareSettings,
    Sampling,
    SceneSettings,
    Selection,
)


@dataclass(frozen=True)
class SceneCounts:
    """Scenes of each split; lists have `min` to `max` options in train and `test_min` to `test_max` in test."""

    train: int
    test: int
    min: int | None = None
    max: int | None = None
    test_min: int | None = None
    test_max: int | None = None


@dataclass(frozen=True)
class DomainRecipe:
    """One source of scenes."""

    name: str
    scenes: SceneCounts
    exposure: str = SceneSettings.exposure
    choice: str = SceneSettings.choice
    max_span: float | None = SceneSettings.max_span
    alike: str = SceneSettings.alike
    evidence: bool = SceneSettings.evidence
    raw: str = ""
    snapshot: bool = PrepareSettings.snapshot

    def scene_settings(self, seed: int) -> dict[str, SceneSettings]:
        """The settings of both splits."""
        of = self.scenes
        sizes = (("train", of.train, of.min, of.max), ("test", of.test, of.test_min, of.test_max))
        return {
            split: SceneSettings(
                split, num, self.exposure, self.choice, low, high, self.max_span, self.alike, self.evidence, seed
            )
            for split, num, low, high in sizes
        }


@dataclass(frozen=True, kw_only=True)
class Writer(Sampling):
    """A model that writes decision processes, and how it is sampled; where and how it runs as in `load_model`."""

    llm: str
    n: int = DecideSettings.n
    base_url: str | list[str] | None = None
    concurrency: int | None = None
    batch: bool = False
    engine: EngineSettings = field(default_factory=EngineSettings)
    dollars_per_million: list[float] | None = None  # prompt and completion tokens, for --dry-run and progress
    tokens_per_second: float | None = None  # of all engines together, for --dry-run

    def settings(self, prompt: str, seed: int) -> DecideSettings:
        return DecideSettings(**vars(self.sampling), n=self.n, prompt=prompt, seed=seed)


@dataclass(frozen=True)
class Predictor:
    """The model under which decision processes are scored; where and how it runs as in `load_model`."""

    llm: str
    base_url: str | list[str] | None = None
    concurrency: int | None = None
    engine: EngineSettings = field(default_factory=EngineSettings)
    dollars_per_million: list[float] | None = None  # prompt and completion tokens, for --dry-run and progress
    tokens_per_second: float | None = None  # of all engines together, for --dry-run


@dataclass(frozen=True)
class DataRecipe:
    """From raw files to pairs."""

    name: str
    domains: list[DomainRecipe]
    strong: Writer
    weak: Writer
    predictor: Predictor
    seed: int = 0
    prompt: str = DecideSettings.prompt
    embedder: str = PrepareSettings.embedder
    distill: Selection = field(default_factory=Selection)

    @property
    def writers(self) -> Mapping[str, Writer]:
        """By variant."""
        return {"strong": self.strong, "weak": self.weak}

    @property
    def distill_settings(self) -> DistillSettings:
        return DistillSettings(name=self.name, seed=self.seed, **vars(self.distill))


def read_data_recipe(path: Path) -> DataRecipe:
    """The recipe in a file. Raises UserError with file:line for a wrong name, type or missing key."""
    return read_settings(DataRecipe, path, "data recipe")[0]
