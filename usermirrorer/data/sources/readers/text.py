"""Expressions that clean text of raw files: white space, remains of web pages, prices and days."""

from __future__ import annotations

from html.entities import html5

import polars as pl


_CODES = (*range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x2010, 0x2040))
_REFERENCES = (
    {f"&{name}": text for name, text in html5.items() if name.endswith(";")}
    | {f"&#{code};": chr(code) for code in _CODES}
    | {f"&#x{code:x};": chr(code) for code in _CODES}
)


def stripped(text: pl.Expr) -> pl.Expr:
    """Text without white space around it; empty text becomes null."""
    return text.str.strip_chars().replace("", None)


def one_line(text: pl.Expr) -> pl.Expr:
    """White space collapsed to single spaces and stripped; empty text becomes null."""
    # Each expression occurs once: polars computes it as often as it occurs.
    return text.str.replace_all(r"\s{2,}|[^\S ]", " ").str.extract(r"(\S(?:.*\S)?)")


def first_words(text: pl.Expr, count: int) -> pl.Expr:
    """At most `count` words, separated by single spaces, then … if more follow; empty text becomes null."""
    return one_line(text).str.replace(rf"^((?:[^ ]+ ){{{count - 1}}}[^ ]+) .*$", "$1 …")


def without_markup(text: pl.Expr) -> pl.Expr:
    """Text on one line without HTML tags, character references (`&#34;`) resolved once; empty text becomes null."""
    untagged = text.str.replace_all(r"<(?:[A-Za-z/][^<>]*|!--.*?--)>", " ")
    return one_line(untagged.str.replace_many(_REFERENCES))


def dollars(price: pl.Expr) -> pl.Expr:
    """ "4.9", "$4.90" and "$1,204.90" (text) as "$4.90" and "$1204.90", a price of 0 as "Free", all else null."""
    number = price.str.replace_all(",", "").str.extract(r"^\s*\$?\s*(\d{1,9}(?:\.\d+)?)\s*$")
    cents = number.cast(pl.Float64).mul(100).round().cast(pl.Int64)
    written = pl.format("${}.{}", cents // 100, (cents % 100).cast(pl.String).str.zfill(2))
    return pl.when(cents == 0).then(pl.lit("Free")).otherwise(written)


def day_ms(text: pl.Expr, form: str = "%Y-%m-%d") -> pl.Expr:
    """Start of a day as UTC milliseconds; null if the text is not a day written in this form."""
    return text.str.to_date(form, strict=False).cast(pl.Datetime("ms")).dt.epoch("ms")
