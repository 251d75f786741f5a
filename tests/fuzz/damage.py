"""Ways to damage a file: its bytes, its lines, the values in its JSON or YAML, its columns, or what is at its path."""

from __future__ import annotations

import gzip
import json
import math
import random
import shutil
import zlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml


ODD_BYTES = (
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\x1a",
    b"\r",
    b"\x0b",
    b"\xef\xbb\xbf",
    b"9" * 400,
    b"\xe2\x80\xa8",
    b'"',
)

ODD_TEXTS = (
    "", " ", "\0", "nan", "NaN", "inf", "-inf", "null", "-1", "0", "1e400", "9" * 400, "9223372036854775808", "1.5",
    "true", "[]", "{}", "\ufeff", "\u2028", "x" * 5000, "'", '"', "2024-13-45", "0001-01-01", "9999-12-31T23:59:59",
    "-99999999999999999", "../..", "/", "\x1b[31m", "🍰", "é", "2009-02-30 25:61:00", "1_000", "٣",
)  # fmt: skip

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400, 1.5, math.nan, math.inf, -math.inf,
    1e308, [], {}, [None], [[]], {"": None}, ["a", 1, None], {"value": None}, "\ud800", *ODD_TEXTS,
)  # fmt: skip


def damage(rng: random.Random, path: Path) -> str:
    """Damage the file in one way, drawn from those that suit its kind; says which."""
    suit = rng.choices((PLACES, BYTES, _of_kind(path)), weights=(1, 4, 10))[0]
    how = rng.choice(suit)
    how(rng, path)
    return f"{how.__name__.removeprefix('_')} {path.name}"


def _of_kind(path: Path) -> tuple[Callable[[random.Random, Path], None], ...]:
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind == ".parquet":
        return TABLES
    if path.name.endswith(".json"):
        return JSON
    if kind in (".jsonl", ".ndjson"):
        return (*LINES, _json_line, _json_line, _json_line, _json_line)
    if kind in (".yaml", ".yml"):
        return (*LINES, _yaml_value, _yaml_value, _yaml_value, _yaml_value)
    return LINES


# What is at the path.


def _missing(rng: random.Random, path: Path) -> None:
    path.unlink()


def _directory(rng: random.Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(rng: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _dangling(rng: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


PLACES = (_missing, _directory, _loop, _dangling)


# Bytes.


def _truncated(rng: random.Random, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def _flipped(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 3, 20)) if content else 0):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _inserted(rng: random.Random, path: Path) -> None:
    content = path.read_bytes()
    at = rng.choice((0, len(content), rng.randrange(len(content) + 1)))
    path.write_bytes(content[:at] + rng.choice(ODD_BYTES) + content[at:])


def _removed(rng: random.Random, path: Path) -> None:
    content = path.read_bytes()
    at = rng.randrange(len(content) + 1)
    path.write_bytes(content[:at] + content[at + rng.choice((1, 4, 64)) :])


def _emptied(rng: random.Random, path: Path) -> None:
    path.write_bytes(b"")


def _magic(rng: random.Random, path: Path) -> None:
    path.write_bytes(rng.choice((b"PK\3\4", b"\x1f\x8b", b"PAR1", b"%PDF", b"<htm")) + path.read_bytes()[4:])


def _twice(rng: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def _noise(rng: random.Random, path: Path) -> None:
    path.write_bytes(rng.randbytes(rng.choice((1, 100, 5000))))


BYTES = (_truncated, _flipped, _flipped, _inserted, _removed, _emptied, _magic, _twice, _noise)


# Lines of text, packed or not.


def _text(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error):
        return content


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def _on_lines(change: Callable[[random.Random, list[bytes]], list[bytes]]) -> Callable[[random.Random, Path], None]:
    def damaged(rng: random.Random, path: Path) -> None:
        lines = _text(path).split(b"\n")
        _write(path, b"\n".join(change(rng, lines)))

    damaged.__name__ = change.__name__
    return damaged


def _place(rng: random.Random, lines: list[bytes]) -> int:
    """A line; often the first, which may be a header."""
    return 0 if rng.random() < 0.2 else rng.randrange(len(lines))


@_on_lines
def _line_deleted(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    at = _place(rng, lines)
    return lines[:at] + lines[at + 1 :]


@_on_lines
def _line_repeated(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    at = _place(rng, lines)
    return [*lines[:at], lines[at], *lines[at:]]


@_on_lines
def _line_moved(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    line = lines.pop(_place(rng, lines))
    lines.insert(rng.randrange(len(lines) + 1), line)
    return lines


@_on_lines
def _line_joined(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    at = _place(rng, lines)
    return [*lines[:at], b"".join(lines[at : at + 2]), *lines[at + 2 :]]


@_on_lines
def _line_long(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    at = _place(rng, lines)
    lines[at] += rng.choice((b"x", b" ", b"[", b'{"a":', b'"')) * rng.choice((10_000, 200_000))
    return lines


@_on_lines
def _only_first(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    return lines[: rng.choice((1, 2))]


@_on_lines
def _carriage_returns(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    return [line + b"\r" for line in lines]


@_on_lines
def _marked(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    return [rng.choice((b"\xef\xbb\xbf", b"\xff\xfe")) + lines[0], *lines[1:]]


def _separator(line: bytes) -> bytes:
    known = (b"::", b"\t", b"|", b",", b": ", b" ")
    return max(known, key=lambda one: (line.count(one) > 0, len(one) > 1, line.count(one)))


@_on_lines
def _field_odd(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    at = _place(rng, lines)
    separator = _separator(lines[at])
    fields = lines[at].split(separator)
    fields[rng.randrange(len(fields))] = rng.choice((*(text.encode() for text in ODD_TEXTS), *ODD_BYTES))
    lines[at] = separator.join(fields)
    return lines


@_on_lines
def _fields_swapped(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    wanted = range(len(lines)) if rng.random() < 0.3 else [_place(rng, lines)]
    separator = _separator(lines[wanted[0]])
    one, other = rng.randrange(8), rng.randrange(8)
    for at in wanted:
        fields = lines[at].split(separator)
        if max(one, other) < len(fields):
            fields[one], fields[other] = fields[other], fields[one]
        lines[at] = separator.join(fields)
    return lines


@_on_lines
def _field_dropped(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    wanted = range(len(lines)) if rng.random() < 0.3 else [_place(rng, lines)]
    separator, column = _separator(lines[wanted[0]]), rng.randrange(6)
    for at in wanted:
        fields = lines[at].split(separator)
        lines[at] = separator.join(fields[:column] + fields[column + 1 :])
    return lines


LINES = (
    _line_deleted, _line_repeated, _line_moved, _line_joined, _line_long, _only_first, _carriage_returns, _marked,
    _field_odd, _field_odd, _field_odd, _fields_swapped, _field_dropped,
)  # fmt: skip


# Values of JSON and YAML.


def odd_value(rng: random.Random) -> Any:
    if rng.random() < 0.05:
        deep: Any = 0
        for _ in range(400):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        return deep
    return deepcopy(rng.choice(ODD_VALUES))


def changed(rng: random.Random, value: Any) -> Any:
    """The value with one node below it replaced, removed, renamed, repeated or wrapped."""
    places = list(_nodes(value))
    if not places:
        return odd_value(rng)
    holder, key = rng.choice(places)
    how = rng.randrange(8)
    if how < 4:
        holder[key] = odd_value(rng)
    elif how == 4:
        del holder[key]
    elif how == 5:
        holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
    elif how == 6:
        holder[key] = str(holder[key]) if not isinstance(holder[key], str) else rng.choice((0, 1.5, [holder[key]]))
    elif isinstance(holder, dict):
        holder[rng.choice(("", "x", key + "x", key.upper()))] = holder.pop(key)
    else:
        holder.insert(key, holder[key])
    return value


def _nodes(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _nodes(value[key])


def _json_value(rng: random.Random, path: Path) -> None:
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError):
        return _flipped(rng, path)
    for _ in range(rng.choice((1, 1, 3))):
        value = changed(rng, value)
    path.write_text(json.dumps(value))


def _json_replaced(rng: random.Random, path: Path) -> None:
    path.write_text(rng.choice(("{}", "[]", "null", "1", '"x"', "[" * 100_000, '{"a":' * 100_000, "NaN", "9" * 5000)))


JSON = (_json_value, _json_value, _json_value, _json_value, _json_value, _json_replaced)


def _json_line(rng: random.Random, path: Path) -> None:
    lines = [line for line in _text(path).split(b"\n") if line.strip()]
    if not lines:
        return
    at = rng.randrange(len(lines))
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return
    lines[at] = json.dumps(changed(rng, value)).encode()
    if rng.random() < 0.05:
        lines[at] = rng.choice((b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"null", b"[]"))
    _write(path, b"\n".join(lines) + b"\n")


def _yaml_value(rng: random.Random, path: Path) -> None:
    try:
        value = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    value = changed(rng, value)
    try:
        path.write_text(yaml.safe_dump(value, sort_keys=False))
    except (UnicodeEncodeError, RecursionError):
        return


# Columns of parquet.


def _on_table(change: Callable[[random.Random, pa.Table], pa.Table]) -> Callable[[random.Random, Path], None]:
    def damaged(rng: random.Random, path: Path) -> None:
        try:
            table = change(rng, pq.read_table(path))
        except (pa.ArrowException, OSError, TypeError, ValueError, OverflowError, LookupError):
            return _flipped(rng, path)
        pq.write_table(table, path, row_group_size=rng.choice((None, 7)))

    damaged.__name__ = change.__name__
    return damaged


def _column(rng: random.Random, table: pa.Table) -> int:
    return rng.randrange(table.num_columns)


@_on_table
def _column_dropped(rng: random.Random, table: pa.Table) -> pa.Table:
    return table.remove_column(_column(rng, table))


@_on_table
def _column_renamed(rng: random.Random, table: pa.Table) -> pa.Table:
    names = list(table.column_names)
    names[_column(rng, table)] = rng.choice(("", "x", names[0], "line", "_file"))
    return table.rename_columns(names)


@_on_table
def _columns_swapped(rng: random.Random, table: pa.Table) -> pa.Table:
    names = list(table.column_names)
    rng.shuffle(names)
    return table.rename_columns(names) if rng.random() < 0.5 else table.select(names)


@_on_table
def _column_retyped(rng: random.Random, table: pa.Table) -> pa.Table:
    at = _column(rng, table)
    values, rows = table.column(at), table.num_rows
    kinds: list[Callable[[], Any]] = [
        lambda: values.cast(pa.string()), lambda: values.cast(pa.large_string()), lambda: values.cast(pa.float64()),
        lambda: values.cast(pa.int8(), safe=False), lambda: values.cast(pa.binary()), lambda: values.cast(pa.int64()),
        lambda: values.cast(pa.timestamp("ns")), lambda: values.cast(pa.timestamp("ms", "Asia/Tokyo")),
        lambda: values.combine_chunks().dictionary_encode(), lambda: pa.array([[v] for v in values.to_pylist()]),
        lambda: pa.nulls(rows), lambda: pa.array([True] * rows), lambda: pa.array([{"a": 1}] * rows),
        lambda: pa.array([math.nan] * rows), lambda: pa.array([str(v) for v in values.to_pylist()]),
        lambda: pa.array([b"\xff"] * rows),
    ]  # fmt: skip
    return table.set_column(at, table.column_names[at], rng.choice(kinds)())


@_on_table
def _cell_odd(rng: random.Random, table: pa.Table) -> pa.Table:
    at, row = _column(rng, table), rng.randrange(max(table.num_rows, 1))
    values, kind = table.column(at).to_pylist(), table.schema.field(at).type
    values[row] = rng.choice([
        None, changed(rng, values[row]) if isinstance(values[row], dict | list) else odd_value(rng), values[row - 1],
    ])  # fmt: skip
    return table.set_column(at, table.schema.field(at).with_nullable(True), pa.array(values, kind))


@_on_table
def _rows_changed(rng: random.Random, table: pa.Table) -> pa.Table:
    rows = np.arange(table.num_rows)
    return table.take(
        rng.choice(
            [
                rows[:0],
                rows[:1],
                rows[::-1].copy(),
                np.append(rows, rows[:1]),
                np.delete(rows, rng.randrange(len(rows))),
                np.repeat(rows, 2),
            ]
        )  # fmt: skip
    )


@_on_table
def _cells_swapped(rng: random.Random, table: pa.Table) -> pa.Table:
    at, rows = _column(rng, table), np.arange(table.num_rows)
    rows[[0, -1]] = rows[[-1, 0]]
    return table.set_column(at, table.schema.field(at), table.column(at).take(pa.array(rows)))


TABLES = (
    _column_dropped, _column_renamed, _columns_swapped, _column_retyped, _column_retyped, _column_retyped, _cell_odd,
    _cell_odd, _cell_odd, _cell_odd, _rows_changed, _cells_swapped,
)  # fmt: skip


def copy_tree(source: Path, place: Path) -> Path:
    """A copy of a directory, for a case to damage."""
    shutil.copytree(source, place, symlinks=True)
    return place
