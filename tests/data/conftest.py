"""Prepared work directories that the tests of `data` share; each is made once a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from usermirrorer.data.choices import USER_CAP, Choices, eligible
from usermirrorer.data.draw import SceneSettings
from usermirrorer.data.embeddings import embed_items, load_vectors
from usermirrorer.data.tables import Cuts, Tables, load_cuts, load_tables, prepare


@dataclass(frozen=True)
class Prepared:
    """A prepared domain: its work directory and what lies in it."""

    name: str
    work: Path
    tables: Tables
    cuts: Cuts
    vectors: np.ndarray

    def choices(self, settings: SceneSettings) -> Choices:
        return eligible(
            self.tables, self.cuts, settings.split, settings.choice, settings.exposure == "logged", settings.seed,
            USER_CAP[settings.split],
        )[0]  # fmt: skip


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Prepared]:
    """Prepare a domain from raw files in a new work directory."""

    def make(name: str, raw: Path | None = None) -> Prepared:
        work = tmp_path_factory.mktemp(name)
        prepare(name, raw, work)
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
    """A generated log in the raw format of ml-100k: few items, occasions of several ratings, dates of release."""
    raw = tmp_path_factory.mktemp("raw")
    write_small_log(raw)
    return ready("ml-100k", raw)


def write_small_log(raw: Path, users: int = 120, items: int = 80, seed: int = 0) -> None:
    """Write u.data, u.item and u.user of people who rate one to three films at a time; no film twice."""
    rng = np.random.default_rng(seed)
    flags = "|".join(["0", "1"] + ["0"] * 17)
    dates = ["" if item % 20 == 0 else f"01-Jan-{1980 + item % 20}" for item in range(items)]
    dates[5] = "09-Sep-2001"  # released in the middle of the log
    lines = [f"{item}|Film {item} (Cité)|{dates[item]}||http://x|{flags}" for item in range(items)]
    (raw / "u.item").write_bytes(("\n".join(lines) + "\n").encode("latin-1"))
    (raw / "u.user").write_text("".join(f"{u}|{18 + u % 50}|{'MF'[u % 2]}|writer|94703\n" for u in range(users)))
    law = 1 / np.arange(1, items + 1)
    ratings = []
    for user in range(users):
        seen = rng.choice(items, size=40, replace=False, p=law / law.sum())
        time = 1_000_000_000 + int(rng.integers(0, 200)) * 86_400
        while len(seen):
            together = int(rng.integers(1, 4))
            ratings += [(user, item, int(rng.integers(1, 6)), time) for item in seen[:together]]
            seen, time = seen[together:], time + int(rng.integers(3_600, 5 * 86_400))
    (raw / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ratings))
