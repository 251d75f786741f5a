"""Raw files: found under one of their names, and damage is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.sources.readers.files import find_file, first_bad, read_chunks
from usermirrorer.errors import UserError


CUT_SHORT = gzip.compress(b'{"id": 1}\n' * 99, mtime=0)[:-12]
"""Without the present time, so that processes that share the tests name them alike."""


@pytest.mark.parametrize("content", [b"no gzip", CUT_SHORT, b"\x1f\x8b"])
def test_damaged_gzip_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json\.gz:1: gzip is damaged"):
        list(read_chunks(tmp_path / "a.json.gz"))


def test_one_of_several_names_is_found(tmp_path: Path) -> None:
    names = ("a.json.gz", "a.json")
    with pytest.raises(UserError, match=r"a\.json\.gz is missing.*example\.org.*a\.json will do"):
        find_file(tmp_path, names, "d", "https://example.org")
    with pytest.raises(UserError, match="--raw"):
        find_file(None, names, "d", "https://example.org")
    (tmp_path / "a.json").touch()
    assert find_file(tmp_path, names, "d", "https://example.org") == tmp_path / "a.json"


@given(st.lists(st.booleans(), max_size=20), st.integers(0, 20))
def test_the_first_bad_row_is_found(rest: list[bool], good: int) -> None:
    rows = [True] * good + [False] + rest
    assert first_bad(rows, lambda some: True if all(some) else None) == good
