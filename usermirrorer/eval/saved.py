"""What `eval` leaves in its directory, read back: only if it is as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from usermirrorer.data.artefacts.store import file_digest
from usermirrorer.errors import UserError
from usermirrorer.eval.card import PREDICTIONS
from usermirrorer.records import read_record


METRICS, EXAMPLES, RUN = "metrics.json", "examples.json", "run.json"

REMEDY = "run `usermirrorer eval` again"


def read_saved(directory: Path, name: str) -> dict[str, Any]:
    """A JSON file of an evaluation. Raises UserError if it is missing, or if a file has changed since (`run.json`)."""
    _check(directory, name)
    return read_record(directory / name, REMEDY)


def read_predictions(directory: Path) -> pl.DataFrame:
    """The predictions of an evaluation. Raises UserError as `read_saved` does."""
    _check(directory, PREDICTIONS)
    try:
        return pl.read_parquet(directory / PREDICTIONS)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{directory / PREDICTIONS} can't be read ({error}); {REMEDY}") from None


def _check(directory: Path, name: str) -> None:
    if not (directory / name).is_file():
        raise UserError(f"{directory} holds no {name}: pass a directory that `usermirrorer eval` wrote")
    if not (directory / RUN).is_file():
        return
    run = read_record(directory / RUN, REMEDY)
    if not isinstance(run.get("versions"), dict) or not {"command", "finished_at"} <= run.keys():
        raise UserError(f"{directory / RUN} is not the record of an evaluation; {REMEDY}")
    recorded = run.get("files", {}).get(name)
    if recorded is not None and file_digest(directory / name) != recorded:
        raise UserError(f"{directory / name} is not what {RUN} says (changed or damaged); {REMEDY}")
