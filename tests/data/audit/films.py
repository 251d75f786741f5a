"""Where the artefacts of the built films are, and what `validate` finds in them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from usermirrorer.data.audit.checks.result import Check
from usermirrorer.data.audit.validate import validate


NAME = "ml-100k"
TRAIN, TEST, PAIRS = f"scenes/{NAME}/train", f"scenes/{NAME}/test", f"pairs/{NAME}"
STRONG, SCORED, BASELINES = f"decisions/{NAME}/strong", f"predictions/{NAME}/strong", f"baselines/{NAME}/test"
TABLES, EMBEDDINGS = f"tables/{NAME}", f"embeddings/{NAME}"


def checks_of(work: Path, place: str) -> dict[str, Check]:
    """The checks of one artefact by name."""
    return by_name(validate(work / place), place)


def by_name(checks: list[Check], artefact: str) -> dict[str, Check]:
    return {check.name: check for check in checks if check.artefact == artefact}


def failed(checks: list[Check]) -> set[tuple[str, str]]:
    return {(check.artefact, check.name) for check in checks if check.result == "failed"}


def rows_of(work: Path, place: str) -> pl.DataFrame:
    """All rows of an artefact."""
    return pl.concat([pl.read_parquet(file) for file in sorted((work / place).glob("*.parquet"))])


def other_id(row: dict) -> dict:
    return row | {"scene_id": "0" * 16}
