"""Checks of any artefact's files: whole and finished, made from what is beside them, in the schema."""

from __future__ import annotations

import pyarrow.parquet as pq

from usermirrorer.data.artefacts.find import REQUIRED, SCHEMAS, Artefact
from usermirrorer.data.artefacts.reader import columns_of
from usermirrorer.data.artefacts.store import SHARD_ROWS, changed_files, fingerprint
from usermirrorer.data.audit.checks.result import BadRow, Check, verdict


def check_files(artefact: Artefact) -> list[Check]:
    """Whether the step finished, its files are the ones it wrote, and its inputs are still the same."""
    if not artefact.content:
        return [Check(artefact.name, "manifest", "warning", "no manifest: can't check files, windows and probe")]
    if not artefact.content.get("finished"):
        return [Check(artefact.name, "finished", "failed", "the step did not finish; run it again to resume")]
    recorded = artefact.content.get("files", {})
    present = {path.name: path for path in artefact.files}
    bad = [BadRow(name, "", problem) for name, problem in changed_files(present, recorded)]
    summary = f"{len(bad)} of {len(recorded.keys() | present.keys())} files" if bad else f"{len(recorded)} files"
    return [verdict(artefact.name, "files", bad, summary), *_check_inputs(artefact)]


def check_schema(artefact: Artefact) -> list[Check]:
    """Whether every file has the schema's columns and types; before that, the number of rows the manifest says."""
    if artefact.kind not in SCHEMAS:
        return []
    schema, missing, mistyped = SCHEMAS[artefact.kind], [], []
    required = schema.names if artefact.content else REQUIRED[artefact.kind]
    for path in artefact.files:
        types = {field.name: field.type for field in pq.read_schema(path)} if path.suffix == ".parquet" else {}
        present = types if artefact.content else columns_of(path)
        missing += [BadRow(path.name, "", f"lacks the column `{name}`") for name in required if name not in present]
        mistyped += [
            BadRow(path.name, "", f"`{field.name}` is {types[field.name]}, the schema says {field.type}")
            for field in schema
            if types.get(field.name, field.type) != field.type
        ]
    summary = f"{len(schema.names)} columns"
    if artefact.content:
        return [_check_rows(artefact), verdict(artefact.name, "schema", missing + mistyped, summary)]
    summary += " in the schema" + (", some converted from another type" if mistyped else "")
    if missing:
        return [verdict(artefact.name, "schema", missing, summary)]
    return [verdict(artefact.name, "schema", mistyped, summary, "warning")]


def _check_inputs(artefact: Artefact) -> list[Check]:
    """Whether the inputs beside an artefact still have the fingerprints in its manifest."""
    recipe, domain = artefact.content["recipe"], artefact.domain
    parts = {"tables": "", "embeddings": "", "scenes": "train", "decisions": artefact.part}
    recorded = {(kind, domain, part): recipe.get(kind) for kind, part in parts.items()}
    for name, fingerprints in recipe.get("inputs", {}).items():
        for place, value in fingerprints.items():
            kind, _, part = place.partition("/")
            recorded[kind, name, part or "train"] = value
    bad, found = [], 0
    for (kind, name, part), value in recorded.items():
        beside = artefact.beside(kind, part, name) if value else None
        if beside is not None and fingerprint(beside.path) != value:
            bad.append(BadRow(beside.name, "", "is not what this was made from: its input was rebuilt later"))
        found += beside is not None
    return [verdict(artefact.name, "inputs", bad, f"{found} found beside it")] if found else []


def _check_rows(artefact: Artefact) -> Check:
    """Whether there are as many rows as the manifest says, in shards of the fixed size."""
    counts = [pq.ParquetFile(path).metadata.num_rows for path in artefact.files]
    bad = [
        BadRow(path.name, "", f"holds {count:,} rows, every shard but the last must hold {SHARD_ROWS:,}")
        for path, count in zip(artefact.files[:-1], counts, strict=False)
        if count != SHARD_ROWS
    ]
    if sum(counts) != artefact.content["rows"]:
        bad.append(BadRow("manifest", "", f"says {artefact.content['rows']:,} rows"))
    return verdict(artefact.name, "rows", bad, f"{sum(counts):,} rows")
