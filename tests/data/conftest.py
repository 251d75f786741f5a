"""Prepared work directories shared by the tests of `data`; each is made once per session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from built import build
from small_log import write_small_log

from usermirrorer.data.items.embeddings import embed_items, load_vectors
from usermirrorer.data.log.choices import Choices, qualifying_choices
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.log.tables import Cuts, Tables, load_cuts, load_tables
from usermirrorer.steps import SceneSettings


@dataclass(frozen=True)
class Prepared:
    """A prepared domain: its work directory and contents."""

    name: str
    work: Path
    tables: Tables
    cuts: Cuts
    vectors: np.ndarray

    def filled_in(self, settings: SceneSettings) -> SceneSettings:
        """The settings with the defaults of the domain and the split."""
        domain = self.tables.domain
        return settings.for_domain(self.name, domain.exposures, domain.choice_rules)

    def choices(self, settings: SceneSettings) -> Choices:
        full = self.filled_in(settings)
        return qualifying_choices(self.tables, self.cuts, full.split, full.choice, full.exposure, full.seed)[0]


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Prepared]:
    """Prepare a domain, by name or by its YAML, from raw files in a new work directory."""

    def make(name: str, raw: Path | None = None) -> Prepared:
        work = tmp_path_factory.mktemp("work")
        name = prepare(name, raw, work)["recipe"]["domain"]
        embed_items(name, work)
        tables = load_tables(work, name)
        return Prepared(name, work, tables, load_cuts(work, name), load_vectors(work, name, tables))

    return make


@pytest.fixture(scope="session")
def toy(ready: Callable[..., Prepared]) -> Prepared:
    return ready("toy")


@pytest.fixture(scope="session")
def toy_log(ready: Callable[..., Prepared]) -> Prepared:
    return ready("toy-log")


@pytest.fixture(scope="session")
def ml_100k(ready: Callable[..., Prepared], test_data: Path) -> Prepared:
    return ready("ml-100k", test_data / "ml-100k")


@pytest.fixture(scope="session")
def small(ready: Callable[..., Prepared], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A generated log in the raw format of ml-100k: few items, occasions with several ratings, release dates."""
    raw = tmp_path_factory.mktemp("raw")
    write_small_log(raw)
    return ready("ml-100k", raw)


@pytest.fixture(scope="session")
def small_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw files of the small log."""
    raw = tmp_path_factory.mktemp("raw")
    write_small_log(raw)
    return raw


@pytest.fixture(scope="session")
def built_films(small_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --work in which every step has run on the small log; copy it before changing it."""
    return build(tmp_path_factory.mktemp("films"), "ml-100k", small_raw)


@pytest.fixture(scope="session")
def built_toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for the toy domain, whose scenes are logged."""
    return build(tmp_path_factory.mktemp("toy"), "toy")
