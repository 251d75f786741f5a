"""Templates of a domain, filled column by column.

A template is a format string. A part in <angle brackets> is left out if one of its values is unknown; elsewhere an
unknown value reads "unknown". A count brings its nouns: `{sold:,|order|orders}` reads "1 order" or "1,200 orders".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

import numpy as np
import polars as pl


_PART = re.compile(r"<([^<>]*)>|([^<>]+)")


@dataclass(frozen=True)
class Part:
    """A stretch of a template: literals, and placeholders as (name, format spec)."""

    optional: bool
    pieces: tuple[str | tuple[str, str], ...]


def parse(template: str) -> list[Part]:
    """The parts of a template. Raises ValueError if it is not a format string."""
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


def placeholders(template: str) -> list[tuple[str, str]]:
    """(name, format spec) of every value that a template shows, in order. Raises ValueError as `parse` does."""
    return [piece for part in parse(template) for piece in part.pieces if isinstance(piece, tuple)]


def field_names(template: str) -> set[str]:
    """Names of the values that a template shows."""
    return {name for name, _ in placeholders(template)}


def required_names(template: str) -> set[str]:
    """Names of the values outside of <angle brackets>, which read "unknown" if they are."""
    parts = [part for part in parse(template) if not part.optional]
    return {piece[0] for part in parts for piece in part.pieces if isinstance(piece, tuple)}


def fill(template: str, columns: Mapping[str, pl.Series | np.ndarray | str], rows: int) -> pl.Series:
    """One text per row: `(rows,)`. A column is `(rows,)`, or one string for all rows; null and NaN are unknown."""
    texts: dict[str, pl.Series] = {}
    parts = [pl.lit("")]
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
    frame = pl.DataFrame({"rows": pl.repeat(0, rows, eager=True), **texts})
    return frame.with_columns(text=pl.concat_str(parts))["text"]


def fill_lines(template: str, columns: Mapping[str, pl.Series], rows: int) -> pl.Series:
    """Like `fill`, but lines with an unknown value are left out: `(rows,)`."""
    # Every line is an optional part that includes its line break.
    lines = "".join(f"<{line}\n>" for line in template.splitlines())
    return fill(lines, columns, rows).str.strip_chars_end("\n")


def formatted(value: Any, spec: str) -> str:
    """A value in a format spec, or in FORMAT|ONE|MANY with the noun that goes with a count: "1 review", "2 reviews".

    Raises ValueError for a spec that is neither.
    """
    form, *nouns = spec.split("|")
    text = format(value, form)
    if not nouns:
        return text
    if len(nouns) != 2:
        raise ValueError(f"{spec!r} has {len(nouns)} nouns; a count has two, as in ,|review|reviews")
    one, many = nouns
    return f"{text} {one if text == '1' else many}"


def as_text(values: pl.Series | np.ndarray, spec: str) -> pl.Series:
    """Values as text in a format, null where unknown: `(rows,)`. Equal values are formatted once."""
    series = pl.Series(values) if isinstance(values, np.ndarray) else values
    if series.dtype == pl.String and not spec:
        return series
    if series.dtype.is_float():
        series = series.fill_nan(None)
    distinct = series.unique().drop_nulls()
    texts = [formatted(value, spec) for value in distinct.to_list()]
    return series.replace_strict(distinct, pl.Series(texts, dtype=pl.String), default=None, return_dtype=pl.String)
