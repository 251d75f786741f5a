"""Comma-separated records: the same as Python's reader gives, in chunks of any size; damage is named."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.data.sources.readers import csv_files, files
from usermirrorer.data.sources.readers.csv_files import read_records
from usermirrorer.errors import UserError


def read(path: Path, content: bytes) -> pl.DataFrame:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return pl.concat(read_records(path, ("b", "a"))).drop("line")


def test_quotes_line_breaks_and_order_of_columns(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbfa,n,b\r\n1,x,"two\nlines, and ""quotes"""\r\n\r\n"2",,\r\n3,y'
    frame = read(tmp_path / "a.csv.gz", content)
    assert frame.rows() == [('two\nlines, and "quotes"', "1"), (None, "2"), (None, "3")]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "a.csv:1"), (b"a,c\n1,2\n", "a.csv:1"), (b"a,b,a\n", "a.csv:1"), (b"a,b\n1,2\n1,2,3\n", "a.csv:3"),
        (b'a,b\n1,"x\ny"\n1,2,3\n', "a.csv:4"), (b'a,b\n1,2\n1,"open\n3,4\n', "a.csv:3"),
        (b"a,b\n1,\xff\n", "a.csv:2"),
        (b'a,b\n1,"x"y\n', "a.csv:2"), (b"a\r,b\n1,2\n", "a.csv:1"),
        (b'a,b,"c\n1,"\n', "a.csv:1"), (b'a,b,c"\n1,"\n', "a.csv:1"), (b"a" * 200_000, "a.csv:1"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path: Path, content: bytes, place: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.csv", content)
    assert f"{place}: " in str(error.value) and "\n" not in str(error.value)


def test_an_open_quote_does_not_swallow_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "LONGEST_RECORD", 1000)
    monkeypatch.setattr(files, "CHUNK_BYTES", 100)
    with pytest.raises(UserError, match=r"a\.csv:3: "):
        read(tmp_path / "a.csv", b'a,b\n1,2\n1,"open\n' + b"3,4\n" * 10_000)


fields = st.text(st.sampled_from('ab",\n\r é'), max_size=6)


@settings(max_examples=300)
@given(rows=st.lists(st.tuples(fields, fields.filter(bool)), max_size=8), chunk=st.integers(1, 60))
def test_records_are_what_was_written(rows: list[tuple[str, str]], chunk: int) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("a", "b"), *rows])
    before, files.CHUNK_BYTES = files.CHUNK_BYTES, chunk
    try:
        with tempfile.TemporaryDirectory() as folder:
            frame = read(Path(folder) / "a.csv", text.getvalue().encode())
    finally:
        files.CHUNK_BYTES = before
    assert frame.rows() == [(b, a or None) for a, b in rows]


@pytest.mark.slow
@settings(max_examples=300)
@given(
    content=st.lists(st.sampled_from([b"a", b"b", b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"1,2\n"]), max_size=25),
    header=st.sampled_from([b"a,b\n", b""]),
)
def test_garbage_gives_rows_or_one_sentence(content: list[bytes], header: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            read(Path(folder) / "a.csv", header + b"".join(content))
        except UserError as error:
            assert "a.csv:" in str(error)
