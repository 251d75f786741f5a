"""The `validate` command: every check that an artefact's kind gets.

Artefacts must be whole, in their schema, and true to the rules of honesty (docs/design.md). Rows are read in batches
of a few thousand, so memory does not grow with the text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.find import Artefact, find_artefacts
from usermirrorer.data.audit.checks.answers import check_baselines, check_decisions, check_predictions
from usermirrorer.data.audit.checks.files import check_files, check_schema
from usermirrorer.data.audit.checks.lengths import TokenCounter, check_lengths
from usermirrorer.data.audit.checks.pairs import check_pairs
from usermirrorer.data.audit.checks.result import Check
from usermirrorer.data.audit.checks.scenes import check_scenes
from usermirrorer.data.audit.checks.tables import check_embeddings, check_tables
from usermirrorer.errors import UserError


CHECKS: dict[str, Callable[[Artefact], list[Check]]] = {
    "tables": check_tables,
    "embeddings": check_embeddings,
    "scenes": check_scenes,
    "baselines": check_baselines,
    "decisions": check_decisions,
    "predictions": check_predictions,
    "pairs": check_pairs,
}
"""Kind of artefact -> the checks of its rows."""


def validate(path: Path, counter: TokenCounter | None = None) -> list[Check]:
    """All checks of all artefacts at `path`; with a `counter`, also the lengths of scenes and pairs in tokens.

    Raises UserError if there is no artefact at `path`, or if a line of a JSONL file is not an object.
    """
    return [check for artefact in find_artefacts(path) for check in _validate_artefact(artefact, counter)]


def _validate_artefact(artefact: Artefact, counter: TokenCounter | None) -> list[Check]:
    files = check_files(artefact)
    if any(check.name == "finished" for check in files):
        return files
    try:
        checks = files + check_schema(artefact)
        if checks[-1].result != "failed":
            checks += CHECKS[artefact.kind](artefact)
            if counter is not None and artefact.kind in ("scenes", "pairs"):
                checks.append(check_lengths(artefact, counter))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, UserError) as error:
        if isinstance(error, UserError) and not artefact.content:
            raise
        reason = str(error).strip().split("\n")[0]
        return [*files, Check(artefact.name, "readable", "failed", f"can't read a file: {reason}")]
    return checks
