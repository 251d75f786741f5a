"""Checks of artefacts: whole, of the right schema, and true to the rules of honesty (docs/design.md).

Every check reads its artefact in batches of a few thousand rows, so memory does not grow with the text. This module
has what holds for all artefacts: whole files and the schema; one module for each kind has the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.find import REQUIRED, SCHEMAS, Artefact, find_artefacts
from usermirrorer.data.artefacts.reader import columns_of
from usermirrorer.data.artefacts.store import SHARD_ROWS, file_digest, fingerprint
from usermirrorer.data.audit.answers import check_baselines, check_decisions, check_predictions
from usermirrorer.data.audit.checks import BadRow, Check, Result
from usermirrorer.data.audit.lengths import TokenCounter, check_lengths
from usermirrorer.data.audit.pairs import check_pairs
from usermirrorer.data.audit.scenes import check_scenes
from usermirrorer.data.audit.tables import check_embeddings, check_tables


KINDS: dict[str, Callable[[Artefact], list[Check]]] = {
    "tables": check_tables,
    "embeddings": check_embeddings,
    "scenes": check_scenes,
    "baselines": check_baselines,
    "decisions": check_decisions,
    "predictions": check_predictions,
    "pairs": check_pairs,
}


def validate(path: Path, counter: TokenCounter | None = None) -> list[Check]:
    """All checks of all artefacts at `path`; with a `counter`, lengths in tokens of scenes and pairs too.

    Raises UserError where no artefact is there, or a line of a JSONL file is no object.
    """
    checks: list[Check] = []
    for artefact in find_artefacts(path):
        checks += _check(artefact, counter)
    return checks


def _check(artefact: Artefact, counter: TokenCounter | None) -> list[Check]:
    whole = _whole(artefact)
    if any(check.result == "failed" and check.name == "finished" for check in whole):
        return whole
    try:
        checks = whole + _schema(artefact)
        if checks[-1].result != "failed":
            checks += KINDS[artefact.kind](artefact)
            if counter is not None and artefact.kind in ("scenes", "pairs"):
                checks.append(check_lengths(artefact, counter))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        return [*whole, Check(artefact.name, "readable", "failed", f"a file can't be read: {reason}")]
    return checks


def _whole(artefact: Artefact) -> list[Check]:
    """Whether the step ended and its files are the ones that it wrote."""
    if artefact.content is None:
        return [
            Check(artefact.name, "manifest", "warning", "there is none: files, windows and probe can't be checked")
        ]
    if not artefact.content.get("finished"):
        return [Check(artefact.name, "finished", "failed", "the step did not end; run it again, it goes on")]
    recorded = artefact.content["files"]
    present = {path.name: path for path in artefact.files}
    bad = [BadRow(name, "", "is missing") for name in recorded if name not in present]
    bad += [BadRow(name, "", "is not in the manifest") for name in present if name not in recorded]
    for name in sorted(recorded.keys() & present.keys()):
        digest = file_digest(present[name])
        if digest != recorded[name]:
            bad.append(BadRow(name, "", f"has digest {digest}, the manifest says {recorded[name]}"))
    told = f"{len(recorded)} files" if not bad else f"{len(bad)} of {len(recorded.keys() | present.keys())} files"
    return [Check(artefact.name, "files", "failed" if bad else "ok", told, tuple(bad[:5])), *_inputs(artefact)]


def _inputs(artefact: Artefact) -> list[Check]:
    """Whether what lies beside an artefact is what it was made from, by the fingerprints in its manifest."""
    assert artefact.content is not None
    recipe, domain = artefact.content["recipe"], artefact.domain
    named = {
        ("tables", domain, ""): recipe.get("tables"),
        ("embeddings", domain, ""): recipe.get("embeddings"),
        ("scenes", domain, "train"): recipe.get("scenes"),
        ("decisions", domain, artefact.part): recipe.get("decisions"),
    }
    for name, prints in recipe.get("inputs", {}).items():
        for place, recorded in prints.items():
            kind, _, part = place.partition("/")
            named[kind, name, part or "train"] = recorded
    bad, agreeing = [], 0
    for (kind, name, part), recorded in named.items():
        beside = artefact.beside(kind, part, name) if recorded else None
        if beside is not None and fingerprint(beside.path) != recorded:
            bad.append(BadRow(beside.name, "", "is not what it was made from: it has been made anew since"))
        agreeing += beside is not None
    if not agreeing:
        return []
    return [Check(artefact.name, "inputs", "failed" if bad else "ok", f"{agreeing} beside it", tuple(bad[:5]))]


def _schema(artefact: Artefact) -> list[Check]:
    """Columns and types of every file, and how many rows they have."""
    if artefact.kind not in SCHEMAS:
        return []
    wanted, bad, strange = SCHEMAS[artefact.kind], [], []
    for path in artefact.files:
        named = columns_of(path) if artefact.content is None else pq.read_schema(path).names
        needed = wanted.names if artefact.content is not None else REQUIRED[artefact.kind]
        bad += [BadRow(path.name, "", f"lacks the column `{name}`") for name in needed if name not in named]
        if path.suffix == ".parquet":
            given = pq.read_schema(path)
            strange += [
                BadRow(path.name, "", f"`{name}` is {given.field(name).type}, in the schema {wanted.field(name).type}")
                for name in wanted.names
                if name in given.names and given.field(name).type != wanted.field(name).type
            ]
    if artefact.content is None:
        told = f"{len(wanted.names)} columns in the schema" + (", some read from another type" if strange else "")
        result: Result = "failed" if bad else "warning" if strange else "ok"
        return [Check(artefact.name, "schema", result, told, tuple((bad or strange)[:5]))]
    bad += strange
    check = Check(artefact.name, "schema", "failed" if bad else "ok", f"{len(wanted.names)} columns", tuple(bad[:5]))
    return [_rows(artefact), check]


def _rows(artefact: Artefact) -> Check:
    """Whether there are as many rows as the manifest says, in shards of the fixed size."""
    assert artefact.content is not None
    counts = [pq.ParquetFile(path).metadata.num_rows for path in artefact.files]
    bad = [
        BadRow(path.name, "", f"holds {count:,} rows, a shard that is not the last has {SHARD_ROWS:,}")
        for path, count in zip(artefact.files[:-1], counts, strict=False)
        if count != SHARD_ROWS
    ]
    if sum(counts) != artefact.content["rows"]:
        bad.append(BadRow("manifest", "", f"says {artefact.content['rows']:,} rows"))
    return Check(artefact.name, "rows", "failed" if bad else "ok", f"{sum(counts):,} rows", tuple(bad[:5]))
