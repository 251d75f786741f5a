"""Lines of printed Python dictionaries: the values that Python would read, and garbage is named."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_steam import printed

from usermirrorer.data.sources.readers import files
from usermirrorer.data.sources.readers.python_lines import read_python_lines
from usermirrorer.errors import UserError


SCHEMA = {"a": pl.String, "n": pl.Float64, "b": pl.Boolean, "tags": pl.List(pl.String)}


def read(path: Path, lines: list[str]) -> pl.DataFrame:
    path.write_bytes(gzip.compress("\n".join(lines).encode()) if path.suffix == ".gz" else "\n".join(lines).encode())
    return pl.concat(read_python_lines(path, SCHEMA))


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("u'plain'", "plain"), ("'u'", "u"), ('u"it\'s"', "it's"), ("u'a \"b\" c'", 'a "b" c'),
        (r"u'it\'s \"so\"'", 'it\'s "so"'), (r"u'caf\xe9 \u2019 \U0001f600'", "café ’ 😀"), (r"u'\ud83d\ude00'", "😀"),
        (r"u'C:\\new\\x41'", "C:\\new\\x41"), (r"u'one\ntwo\t'", "one\ntwo\t"), ("u'say, u'", "say, u"),
        ("u'{u\"a\": False}'", '{u"a": False}'), (r"u'\a\x07\0'", "\x07\x07\x00"), ("u': True'", ": True"),
        ("'a' 'b'", "ab"), ("True", "true"), ("12", "12"), ("None", None), ("u'tab\there'", "tab\there"),
    ],
)  # fmt: skip
def test_strings(tmp_path: Path, written: str, read_as: str | None) -> None:
    frame = read(tmp_path / "a.json.gz", [f"{{u'a': {written}, u'b': False}}", "", "{'a': 'next', 'b': None}"])
    assert frame.select("a", "b", "line").rows() == [(read_as, False, 1), ("next", None, 3)]


def test_json_lines_are_read_too(tmp_path: Path) -> None:
    frame = read(tmp_path / "a.jsonl", ["", '{"a": "it\'s \\u00e9", "b": true, "tags": ["x"]}'])
    assert frame.rows() == [("it's é", None, True, ["x"], 2)]


def test_chunks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 50)
    frame = read(tmp_path / "a.json", [printed({"a": f"é{n}", "n": n}) for n in range(100)])
    assert frame["n"].to_list() == list(range(100))
    assert frame["line"].to_list() == list(range(1, 101))


@pytest.mark.parametrize(
    "bad", ["{u'a': ", "{'a': print(1)}", "[1]", "{'a': 1L}", "{'a': b'x'}", "x" * 200, "{'n': 'y'}"]
)
def test_a_bad_line_is_named_and_nothing_is_evaluated(tmp_path: Path, bad: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.json", ["{u'a': u'good'}"] * 3 + [bad, "{u'a': u'good'}"])
    assert "a.json:4: " in str(error.value)
    assert "\n" not in str(error.value)


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12)
dictionaries = st.fixed_dictionaries({"a": st.text(max_size=12)}, optional={
    "n": st.floats(allow_nan=False, allow_infinity=False), "b": st.booleans() | st.none(),
    "tags": st.lists(st.text(max_size=4), max_size=3), "x": scalars, "y": st.lists(scalars, max_size=3),
    "z": st.dictionaries(st.text(max_size=3), scalars, max_size=2),
})  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300)
@given(values=st.lists(dictionaries, min_size=1, max_size=4), python_2=st.booleans())
def test_printed_dictionaries_equal_json(values: list[dict], python_2: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        from_python = read(Path(folder) / "a.json", [printed(value) if python_2 else repr(value) for value in values])
        (Path(folder) / "b.json").write_text("\n".join(json.dumps(value) for value in values))
        assert from_python.equals(pl.concat(read_python_lines(Path(folder) / "b.json", SCHEMA)))


@pytest.mark.slow
@settings(max_examples=300)
@given(garbage=st.binary(max_size=30), at=st.integers(0, 40), removed=st.integers(0, 10))
def test_garbage_gives_rows_or_one_sentence(garbage: bytes, at: int, removed: int) -> None:
    good = b"{u'a': u'x', u'n': 1.5, u'b': False}\n{u'a': u\"it's\"}\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_bytes(good[:at] + garbage + good[at + removed :])
        try:
            list(read_python_lines(path, SCHEMA))
        except UserError as error:
            assert "a.json:" in str(error)
