"""Files whose lines are printed Python dictionaries, `{u'id': u'10', u'early_access': False}`.

Older releases of the McAuley group are printed that way. Nothing is executed: replacing tokens turns all lines of a
chunk into JSON at once; if that does not yield JSON, `ast.literal_eval` parses them, which accepts only literals and
is some twenty times slower.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.readers.files import ColumnType, decoded, read_chunks
from usermirrorer.data.sources.readers.json_lines import parse_chunk
from usermirrorer.errors import UserError, shorten


OPEN, CLOSE = "\x01", "\x02"
"""Placeholders for the quotes of a string during rewriting; a printed string never holds them unescaped."""

_STRING = r"""[uU]?(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")"""
_TOKENS = {
    r"\\": r"\\",
    r"\'": "'",
    r"\"": r"\"",
    r"\x": r"\u00",
    '"': r"\"",
    "\t": r"\t",
    f"{CLOSE}: True": '": true',
    f"{CLOSE}: False": '": false',
    f"{CLOSE}: None": '": null',
    OPEN: '"',
    CLOSE: '"',
}
_IRREGULAR = r"[\x00-\x08\x0b-\x1f]|\\[UNav0-7]"
"""Escapes that JSON lacks or reads differently, and bytes that printing never leaves in a line."""


def read_python_lines(path: Path, schema: Mapping[str, ColumnType]) -> Iterator[pl.DataFrame]:
    """`read_json_lines` for a file whose lines are JSON objects or printed Python dictionaries.

    The file's first object decides which. Raises UserError with file:line at the first line that is neither.
    """
    printed = None
    for first_line, chunk in read_chunks(path):
        if printed is None and chunk.strip():
            printed = chunk.lstrip()[:3].startswith((b"{'", b"{u'", b'{u"'))
        if not printed:
            yield parse_chunk(path, first_line, chunk, schema)
            continue
        text = decoded(path, first_line, chunk).removesuffix("\n")
        lines = pl.Series(text.split("\n"), dtype=pl.String).str.strip_chars(" \r")
        try:
            frame = parse_chunk(path, first_line, _rewritten(path, first_line, lines), schema)
        except UserError:  # a literal that rewriting does not cover, or a bad line, which the second attempt names
            evaluated = "\n".join(_evaluated(path, first_line + row, line) for row, line in enumerate(lines))
            frame = parse_chunk(path, first_line, evaluated.encode(), schema)
        yield frame


def _rewritten(path: Path, first_line: int, lines: pl.Series) -> bytes:
    """Lines of printed dictionaries as lines of JSON, one for one. Raises UserError with file:line."""
    rewritten = lines.str.replace_all(_STRING, f"{OPEN}$1$2{CLOSE}").str.replace_many(_TOKENS, leftmost=True)
    irregular = lines.str.contains(_IRREGULAR).arg_true()
    if len(irregular):
        values = [_evaluated(path, first_line + row, lines[row]) for row in irregular]
        rewritten = rewritten.scatter(irregular, values)
    return "\n".join(rewritten).encode()


def _evaluated(path: Path, number: int, line: str) -> str:
    """One printed dictionary as JSON; a blank line stays blank."""
    if not line.strip():
        return ""
    try:
        value = ast.literal_eval(line)
        if isinstance(value, dict):
            return json.dumps(value)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass
    raise UserError(f"{path}:{number}: not a printed Python dictionary: {shorten(line)!r}; repair or delete the line")
