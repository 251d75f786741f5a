"""Templates of a domain, filled column by column.

A template is a format string. A part in <angle brackets> is left out where one of its values is not known; elsewhere
an unknown value reads "unknown".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

import numpy as np
import polars as pl


_PART = re.compile(r"<([^<>]*)>|([^<>]+)")


@dataclass(frozen=True)
class Part:
    """A stretch of a template: literals, and fields as (name, format spec)."""

    optional: bool
    pieces: tuple[str | tuple[str, str], ...]


def parse(template: str) -> list[Part]:
    """The parts of a template. Raises ValueError where it is no format string."""
    parts = []
    for found in _PART.finditer(template):
        pieces: list[str | tuple[str, str]] = []
        for literal, name, spec, _ in Formatter().parse(found[1] if found[1] is not None else found[2]):
            if literal:
                pieces.append(literal)
            if name is not None:
                pieces.append((name, spec or ""))
        parts.append(Part(found[1] is not None, tuple(pieces)))
    return parts


def field_names(template: str) -> set[str]:
    """Names of the values that a template shows."""
    return {piece[0] for part in parse(template) for piece in part.pieces if isinstance(piece, tuple)}


def fill(template: str, columns: Mapping[str, pl.Series | np.ndarray | str], rows: int) -> pl.Series:
    """One text a row: `(rows,)`. `columns` are `(rows,)` each, or one string for all; null and NaN are unknown."""
    texts: dict[str, pl.Series] = {}
    parts: list[pl.Expr] = []
    for part in parse(template):
        pieces = []
        for piece in part.pieces:
            if isinstance(piece, str):
                pieces.append(pl.lit(piece))
            elif isinstance(value := columns[piece[0]], str):
                pieces.append(pl.lit(value))
            else:
                label = f"{piece[0]}:{piece[1]}"
                texts[label] = as_text(value, piece[1])
                pieces.append(pl.col(label) if part.optional else pl.col(label).fill_null("unknown"))
        whole = pl.concat_str(pieces)
        parts.append(whole.fill_null("") if part.optional else whole)
    if not parts:
        return pl.repeat("", rows, eager=True)
    frame = pl.DataFrame(texts) if texts else pl.DataFrame({"": pl.repeat(0, rows, eager=True)})
    filled = frame.select(pl.concat_str(parts).alias("text"))["text"]
    return filled if len(filled) == rows else pl.repeat(filled[0], rows, eager=True)


def fill_lines(template: str, columns: Mapping[str, pl.Series], rows: int) -> pl.Series:
    """As `fill`, but a line with an unknown value is left out: `(rows,)`."""
    # Every line is an optional part that ends itself.
    lines = "".join(f"<{line}\n>" for line in template.splitlines())
    return fill(lines, columns, rows).str.strip_chars_end("\n")


def as_text(values: pl.Series | np.ndarray, spec: str) -> pl.Series:
    """Values as text under a format spec, null where unknown. Equal values are formatted once."""
    series = pl.Series(values) if isinstance(values, np.ndarray) else values
    if series.dtype == pl.String and not spec:
        return series
    if series.dtype.is_float():
        series = series.fill_nan(None)
    distinct = series.unique().drop_nulls()
    texts = [format(value, spec) for value in distinct.to_list()]
    return series.replace_strict(distinct, pl.Series(texts, dtype=pl.String), default=None, return_dtype=pl.String)
