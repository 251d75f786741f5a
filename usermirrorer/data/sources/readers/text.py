"""Text of raw files as expressions over columns."""

from __future__ import annotations

import polars as pl


def first_words(text: pl.Expr, count: int) -> pl.Expr:
    """At most `count` words, parted by single spaces, with … where the text goes on; empty text becomes null."""
    return one_line(text).str.replace(rf"^((?:[^ ]+ ){{{count - 1}}}[^ ]+) .*$", "$1 …")


def one_line(text: pl.Expr) -> pl.Expr:
    """White space collapsed to single spaces and stripped; empty text becomes null."""
    # Every expression stands once: polars computes it as often as it is written.
    return text.str.replace_all(r"\s{2,}|[^\S ]", " ").str.extract(r"(\S(?:.*\S)?)")
