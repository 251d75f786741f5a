"""`prepare` says so if two raw files hardly belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import raw_amazon
import raw_goodreads
import raw_kuairec
import raw_lastfm
import raw_mind
import raw_ml_1m
import raw_mobilerec
import raw_shop
import raw_steam
from small_log import write_small_log

from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.sources import load_domain
from usermirrorer.errors import StepFailed


WRITERS: dict[str, Callable[[Path], None]] = {
    "ml-100k": write_small_log, "ml-1m": raw_ml_1m.write, "steam": raw_steam.write, "mobilerec": raw_mobilerec.write,
    "mind": raw_mind.write, "kuairec": raw_kuairec.write, "lastfm": raw_lastfm.write, "goodreads": raw_goodreads.write,
    f"amazon:{raw_amazon.CATEGORY}": raw_amazon.write, "shop.yaml": raw_shop.write_recbole,
    "market.yaml": raw_shop.write_interchange,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_every_reader_names_its_files(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    domain = load_domain(str(tmp_path / name) if name.endswith(".yaml") else name)
    files = domain.read(tmp_path, 0).files
    assert set(files) >= {"items", "interactions"}
    assert all(list(tmp_path.rglob(Path(file).name)) for file in files.values())


def keep_items(raw: Path, share: float) -> None:
    """Leave out films, so that about `share` of the ratings are of known ones."""
    lines = (raw / "u.item").read_bytes().splitlines(keepends=True)
    ratings = [line.split("\t")[1] for line in (raw / "u.data").read_text().splitlines()]
    kept: list[bytes] = []
    for line in lines:
        ids = {one.split(b"|")[0].decode() for one in [*kept, line]}
        if sum(rating in ids for rating in ratings) <= share * len(ratings):
            kept.append(line)
    (raw / "u.item").write_bytes(b"".join(kept))


def test_many_rows_of_unknown_items_are_a_warning_that_names_both_files(tmp_path: Path) -> None:
    write_small_log(tmp_path)
    assert prepare("ml-100k", tmp_path, tmp_path / "whole")["warnings"] == []
    keep_items(tmp_path, 0.9)
    assert prepare("ml-100k", tmp_path, tmp_path / "most")["warnings"] == []
    keep_items(tmp_path, 0.7)
    content = prepare("ml-100k", tmp_path, tmp_path / "some")
    [warning] = content["warnings"]
    dropped, kept = content["dropped"]["unknown_item"], content["rows"]["interactions"]
    assert warning.startswith(f"{dropped:,} of ") and kept > dropped > 0.25 * (kept + dropped)
    assert "rows of u.data were dropped: u.item lacks their item_id" in warning


def test_users_too_and_a_log_of_which_nothing_is_left(tmp_path: Path) -> None:
    write_small_log(tmp_path)
    (tmp_path / "u.user").write_text("u1|24|M|writer|94703\n")
    with pytest.raises(StepFailed, match=r"no usable interaction.*u\.user lacks their user_id") as error:
        prepare("ml-100k", tmp_path, tmp_path / "work")
    assert "\n" not in str(error.value)
