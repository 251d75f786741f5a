"""Remains of web pages in raw text: tags such as `<br />` and character references such as `&#34;`."""

from __future__ import annotations

from html.entities import html5

import polars as pl

from usermirrorer.data.sources.readers.text import one_line


_CODES = (*range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x2010, 0x2040))
_REFERENCES = (
    {f"&{name}": text for name, text in html5.items() if name.endswith(";")}
    | {f"&#{code};": chr(code) for code in _CODES}
    | {f"&#x{code:x};": chr(code) for code in _CODES}
)


def without_markup(text: pl.Expr) -> pl.Expr:
    """Text on one line without HTML tags, its character references resolved once; empty text becomes null."""
    untagged = text.str.replace_all(r"<(?:[A-Za-z/][^<>]*|!--.*?--)>", " ")
    return one_line(untagged.str.replace_many(_REFERENCES))
