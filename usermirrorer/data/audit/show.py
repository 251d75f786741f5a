"""The `show` command: rows drawn from an artefact, and what the same scenes have in the artefacts beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.console import headline, say
from usermirrorer.console.tables import show_table
from usermirrorer.data.artefacts.convert import polars_types
from usermirrorer.data.artefacts.find import SCHEMAS, Artefact, find_artefacts
from usermirrorer.data.artefacts.schema import VARIANTS
from usermirrorer.data.audit.display import VIEWS, Row, shorten
from usermirrorer.errors import UserError


NEIGHBOURS = 3
"""Most similar items shown with an item's vector."""


def show(path: Path, num: int = 3, scene: str = "", seed: int = 0) -> list[Row]:
    """Show `num` rows of the artefact at `path`, drawn by `seed`, or all rows of one `scene`; returns them.

    With `scene`, `path` may be a whole --work. Raises UserError if there is nothing to show.
    """
    if num < 1:
        raise UserError(f"--num {num}: must be at least 1")
    artefacts = find_artefacts(path)
    if not scene and len(artefacts) > 1:
        names = ", ".join(artefact.name for artefact in artefacts)
        raise UserError(f"{path} holds {names}: pass one of them, or a scene with --scene ID")
    shown: list[Row] = []
    for artefact in artefacts:
        try:
            if artefact.kind in VIEWS:
                shown += _show_rows(artefact, num, scene, seed)
            elif not scene:
                shown += (_show_tables if artefact.kind == "tables" else _show_items)(artefact, num, seed)
        except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{artefact.path} can't be shown ({reason}): `usermirrorer validate` says why") from None
    if not shown:
        raise UserError(f"{path} has no row" + (f" of the scene {scene!r}" if scene else "") + " to show")
    return shown


def _show_rows(artefact: Artefact, num: int, scene: str, seed: int) -> list[Row]:
    """Rows that belong to scenes."""
    if scene:
        rows = [row for batch in artefact.rows() for row in batch.filter(scene_id=scene).to_dicts()]
    else:
        rows = _drawn_rows(artefact, num, seed)
    related = _related_rows(artefact, [row["scene_id"] for row in rows])
    for row in rows:
        headline(f"--- {artefact.name}: {row['_file']} row {row['_row']}")
        VIEWS[artefact.kind](row, related)
        say()
    return [_named(artefact, row["_file"], row["_row"], row) for row in rows]


def _drawn_rows(artefact: Artefact, num: int, seed: int) -> list[Row]:
    """`num` rows drawn by `seed`, in the order of the files."""
    total = sum(len(rows) for rows in artefact.rows(["scene_id"]))
    wanted = np.sort(_draw(total, num, seed))
    drawn: list[Row] = []
    begin = 0
    for rows in artefact.rows():
        drawn += rows[wanted[(wanted >= begin) & (wanted < begin + len(rows))] - begin].to_dicts()
        begin += len(rows)
    return drawn


def _related_rows(artefact: Artefact, ids: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Kind -> rows of the same scenes beside the artefact: scenes, baselines and, in train, what was answered."""
    split = artefact.split
    parts = {"scenes": [split], "baselines": [split]}
    parts |= {kind: list(VARIANTS) if split == "train" else [] for kind in ("decisions", "predictions")}
    related: dict[str, pl.DataFrame] = {}
    for kind, names in parts.items():
        found = [artefact.beside(kind, part, domain) for part in names for domain in artefact.domains]
        files = [file for other in found if other is not None for file in other.files]
        rows = pl.scan_parquet(files) if files else pl.LazyFrame(schema=polars_types(SCHEMAS[kind]))
        related[kind] = rows.filter(pl.col("scene_id").is_in(list(ids))).collect()
    return related


def _show_tables(artefact: Artefact, num: int, seed: int) -> list[Row]:
    """`num` rows of every table."""
    shown: list[Row] = []
    for path in artefact.files:
        total = pq.ParquetFile(path).metadata.num_rows
        wanted = (_draw(total, num, seed) + 1).tolist()
        rows = pl.scan_parquet(path).with_row_index("_row", 1).filter(pl.col("_row").is_in(wanted)).collect()
        headline(f"--- {artefact.name}: {path.name}, {total:,} rows")
        fields = [(name, *map(shorten, rows[name].to_list())) for name in rows.columns if name != "_row"]
        show_table(("", *(f"row {number:,}" for number in rows["_row"])), fields, "lp")
        shown += [_named(artefact, path.name, row["_row"], row) for row in rows.to_dicts()]
    return shown


def _show_items(artefact: Artefact, num: int, seed: int) -> list[Row]:
    """`num` items, each with those the content model takes as most similar."""
    frame = pl.read_parquet(list(artefact.files), columns=["item_id", "vector"])
    tables = artefact.beside("tables")
    items = pl.read_parquet(tables.path / "items.parquet", columns=["item_id", "text"]).iter_rows() if tables else ()
    text_of = dict(items)
    vectors, ids = frame["vector"].to_numpy(), frame["item_id"].to_list()
    shown: list[Row] = []
    for index in _draw(len(ids), num, seed).tolist():
        similarity = vectors @ vectors[index]
        similarity[index] = -np.inf
        headline(f"--- {artefact.name}: {ids[index]} {text_of.get(ids[index], '')}")
        nearest = {ids[other]: float(similarity[other]) for other in _highest(similarity)}
        for other, likeness in nearest.items():
            say(f"  {likeness:.2f}  {other} {text_of.get(other, '')}")
        shown.append({"artefact": artefact.name, "item_id": ids[index], "nearest": nearest})
    return shown


def _named(artefact: Artefact, file: str, number: int, row: Row) -> Row:
    """A row as --json gives it, with its place."""
    values = {name: value for name, value in row.items() if not name.startswith("_")}
    return {"artefact": artefact.name, "file": file, "row": number, **values}


def _highest(similarity: np.ndarray) -> list[int]:
    return np.argsort(-similarity, kind="stable")[:NEIGHBOURS].tolist()


def _draw(total: int, num: int, seed: int) -> np.ndarray:
    """`num` of `total` row numbers."""
    return np.random.default_rng(seed).permutation(total)[:num]
