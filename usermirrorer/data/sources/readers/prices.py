"""Prices as shops write them."""

from __future__ import annotations

import polars as pl


def dollars(price: pl.Expr) -> pl.Expr:
    """ "4.9", "$4.90" and "$1,204.90" (text) as "$4.90" and "$1204.90", nothing to pay as "Free", all else null."""
    number = price.str.replace_all(",", "").str.extract(r"^\s*\$?\s*(\d{1,9}(?:\.\d+)?)\s*$")
    cents = number.cast(pl.Float64).mul(100).round().cast(pl.Int64)
    written = pl.format("${}.{}", cents // 100, (cents % 100).cast(pl.String).str.zfill(2))
    return pl.when(cents == 0).then(pl.lit("Free")).otherwise(written)
