"""Lines of JSON: what is read, what is tolerated, and that a bad line is named whatever it holds."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from usermirrorer.data.sources.readers import files
from usermirrorer.data.sources.readers.json_lines import read_json_lines
from usermirrorer.errors import UserError


SCHEMA = {"id": pl.String, "n": pl.Int64, "x": pl.Float64, "b": pl.Boolean, "tags": pl.List(pl.String)}


def read(path: Path, content: bytes, required: tuple[str, ...] = ()) -> pl.DataFrame:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return pl.concat(read_json_lines(path, SCHEMA, required))


def test_values_and_lines(tmp_path: Path) -> None:
    content = (
        b'{"id": "0012", "n": 3, "x": 1.5, "b": true, "tags": ["a", "b"], "more": {"k": 1}}\n'
        b"\n"
        b'{"id": 12, "n": "4", "x": "2", "b": "False", "tags": []}\r\n'
        b'{"n": 5.0, "x": "", "b": null}'
    )
    frame = read(tmp_path / "a.jsonl", content)
    assert frame.rows() == [
        ("0012", 3, 1.5, True, ["a", "b"], 1),
        ("12", 4, 2.0, False, [], 3),
        (None, 5, None, None, None, 4),
    ]
    assert frame.schema == {**{name: dtype for name, dtype in SCHEMA.items()}, "line": pl.Int64}
    assert read(tmp_path / "a.json.gz", content).equals(frame)


def test_an_empty_file_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n  \n")
    assert list(read_json_lines(tmp_path / "a.jsonl", SCHEMA)) == []


@pytest.mark.parametrize("chunk_bytes", [1, 40, 1000])
def test_chunks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    lines = [json.dumps({"id": f"é{n}", "n": n}) if n % 5 else "" for n in range(100)]
    monkeypatch.setattr(files, "CHUNK_BYTES", chunk_bytes)
    frame = read(tmp_path / "a.jsonl.gz", "\n".join(lines).encode())
    assert frame["n"].to_list() == [n for n in range(100) if n % 5]
    assert (frame["line"] == frame["n"] + 1).all()


@pytest.mark.parametrize(
    "bad",
    [
        b"{", b"[1]", b"7", b"null", b'{"id": 1} {"id": 2}', b'{"id": "\xff"}', b"{'id': 1}", b'{"tags": "a"}',
        b'{"n": "many"}', b'{"n": 1.5}', b'{"x": "dear"}', b'{"b": "maybe"}', b'{"id": null}', b"{}", b'{"id": NaN}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [0, 1, 700])
def test_a_bad_line_is_named(tmp_path: Path, bad: bytes, before: int) -> None:
    good = b'{"id": "1"}\n'
    if b'"id"' not in bad and bad != b"{}":
        bad = bad.replace(b"{", b'{"id": 1, ', 1)
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.jsonl", good * before + b"\n" + bad + b"\n" + good * 5, required=("id",))
    assert f"a.jsonl:{before + 2}: " in str(error.value)
    assert "\n" not in str(error.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.sampled_from([*SCHEMA, "other"]), values, max_size=4).map(
    lambda value: json.dumps(value).encode()
)


@pytest.mark.slow
@settings(max_examples=400)
@example(lines=[b"\x0b"])  # blank to Python, not to JSON
@given(lines=st.lists(objects | st.binary(max_size=20) | st.just(b'{"id": "1", "n": 2}'), max_size=6))
def test_garbage_gives_rows_or_one_sentence(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(b"\n".join(lines))
        try:
            frames = list(read_json_lines(path, SCHEMA, ("id",)))
        except UserError as error:
            assert "a.jsonl:" in str(error)
        else:
            filled = [number for number, line in enumerate(b"\n".join(lines).split(b"\n"), 1) if line.strip(b" \t\r")]
            assert [line for frame in frames for line in frame["line"]] == filled
