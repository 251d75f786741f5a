"""Text of raw files as expressions over columns."""

from __future__ import annotations

import polars as pl


def first_words(text: pl.Expr, count: int) -> pl.Expr:
    """At most `count` words, parted by single spaces, with … where the text goes on; empty text becomes null."""
    words = one_line(text).str.split(" ")
    more = pl.when(words.list.len() > count).then(pl.lit(" …")).otherwise(pl.lit(""))
    return words.list.head(count).list.join(" ") + more


def one_line(text: pl.Expr) -> pl.Expr:
    """White space collapsed to single spaces and stripped; empty text becomes null."""
    clean = text.str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(clean != "").then(clean)
