"""Goodreads: what a row of a shelf means, the odd cases one by one, and a scene as a person reads it."""

from __future__ import annotations

import gzip
import tempfile
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import raw_goodreads
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import damaged
from raw_goodreads import START, book, genres, interaction, moment, review, write_lines
from rendered import lines, rendered

from usermirrorer.data.sources import RawTables
from usermirrorer.data.sources.goodreads import AUTHORS, BOOKS, FILES, GENRES, GOODREADS, INTERACTIONS, REVIEWS, read
from usermirrorer.errors import UserError


def ms(day: float) -> int:
    return round((START + timedelta(days=day)).timestamp() * 1000)


def read_lines(
    raw: Path, rows: list[dict], books: list[dict] | None = None, reviews: list[dict] | None = None
) -> RawTables:
    write_lines(raw / INTERACTIONS, rows)
    write_lines(raw / BOOKS, books or [book(3)])
    write_lines(raw / GENRES, [genres(3), genres(7)])
    write_lines(raw / REVIEWS, reviews or [])
    write_lines(raw / AUTHORS, [{"author_id": "3", "name": "Ánn  Author"}, {"author_id": "0", "name": "Bob Brush"}])
    return read(raw, 0)


def test_the_fixture(tmp_path: Path) -> None:
    raw_goodreads.write(tmp_path)
    tables = read(tmp_path, 0)
    assert len(tables.users) == 40 and len(tables.items) == 60
    assert len(tables.interactions) == 602, "600, one of a book that is not listed and one twice: `prepare` drops both"
    assert dict(tables.dropped) == {
        "row_without_id": 1, "row_without_time": 2, "book_without_title": 1, "repeated_book": 1
    }  # fmt: skip
    assert 100 < (tables.interactions["action"] == "shelved").sum() < 200


def test_a_read_book_has_the_time_at_which_all_of_it_was_known(tmp_path: Path) -> None:
    was_read = {**interaction(1, 3, 10), "is_read": True, "rating": 4}
    shelved = {**interaction(2, 3, 10), "is_read": False, "rating": 0, "date_added": moment(3.25)}
    events = read_lines(tmp_path, [was_read, shelved], reviews=[review(was_read), review(shelved)]).interactions
    assert events.select("timestamp", "action", "rating").rows() == [
        (ms(10.01), "read", 4),
        (ms(3.25), "shelved", None),
    ]
    assert events["review"][0].startswith('I read it twice. I liked "it" a lot') and events["review"][1] is None


def test_the_offset_is_honoured_and_the_machine_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    row = {**interaction(1, 3, 0), "is_read": False, "date_added": "Sat Dec 31 23:30:00 +0530 2016"}
    assert read_lines(tmp_path, [row]).interactions["timestamp"].to_list() == [1483207200000]


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Fri Dec 31 23:30:00 -0800 2016", "Thu Jan 01 00:00:00 -0800 1970", "2016-12-31"]
)
def test_a_row_without_a_possible_time_is_dropped_and_counted(tmp_path: Path, date: str) -> None:
    tables = read_lines(
        tmp_path, [{**interaction(1, 3, 0), "date_added": date, "date_updated": ""}, interaction(2, 3, 0)]
    )
    assert len(tables.interactions) == 1 and tables.dropped["row_without_time"] == 1


def test_books(tmp_path: Path) -> None:
    items = read_lines(tmp_path, [interaction(1, 3, 0)], [book(number) for number in (3, 1, 2, 4, 5, 6, 7)]).items
    assert items.row(0, named=True) == {
        "item_id": "3", "title": "Hero 3, Vol. 0 (Hero, #0)", "publisher": "House 3", "publication_year": 1993,
        "num_pages": 43, "description": "The story of hero 3, who wins.",
        "authors": "Ánn Author, Ánn Author (Illustrator)", "genres": "comics, graphic / fantasy, paranormal",
    }  # fmt: skip
    of = {row["item_id"]: row for row in items.to_dicts()}
    assert of["1"]["publication_year"] is None and of["2"]["publication_year"] is None
    assert of["4"]["num_pages"] is None and of["4"]["publisher"] is None
    assert of["5"]["authors"] is None and of["6"]["authors"] is None and of["7"]["genres"] is None


def test_to_read_shelves_are_not_choices_by_default() -> None:
    events = pl.DataFrame({"action": ["read", "shelved", "read"], "rating": [2, None, None]})
    kept = {
        name: events.select(x=rule(3 if name == "min_rating" else 0))["x"].to_list()
        for name, rule in GOODREADS.choice_rules.items()
        if name != "any"
    }
    assert kept == {"read": [True, False, True], "min_rating": [False, False, False]}
    assert next(iter(GOODREADS.choice_rules)) == "read"


@pytest.mark.parametrize("file", list(FILES))
def test_a_bad_line_and_a_missing_file_are_named(tmp_path: Path, file: str) -> None:
    read_lines(tmp_path, [interaction(1, 3, 0)])
    whole = gzip.decompress((tmp_path / file).read_bytes())
    count = whole.count(b"\n")
    (tmp_path / file).write_bytes(gzip.compress(whole + b'{"user_id": \n'))
    with pytest.raises(UserError, match=rf"{file}:{count + 1}: "):
        read(tmp_path, 0)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        read(tmp_path, 0)


@pytest.mark.slow
@settings(max_examples=100)
@given(data=st.data(), file=st.sampled_from([INTERACTIONS, BOOKS, GENRES]))
def test_garbage_gives_rows_or_one_sentence(data: st.DataObject, file: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        read_lines(raw, [interaction(1, 3, 0), interaction(2, 3, 1)])
        content = gzip.decompress((raw / file).read_bytes())
        content = data.draw(damaged(content))
        (raw / file).write_bytes(gzip.compress(content))
        try:
            tables = read(raw, 0)
        except UserError as error:
            assert file in str(error)
        else:
            assert tables.interactions["timestamp"].null_count() == 0
            assert tables.items["item_id"].n_unique() == len(tables.items)


def test_a_scene_reads_well(tmp_path: Path) -> None:
    raw_goodreads.write(tmp_path)
    text = rendered("goodreads", tmp_path, tmp_path / "work", f"{12:032x}", ms(200), ["2", "4"], 2)
    assert lines(text) == (
        "shelved 2 months ago: Hero 32, Vol. 2 (Hero, #2) by Ánn Author4, Ánn Author2 (Illustrator) | comics, "
        "graphic / "
        "fantasy, paranormal | published 1997 | House 0 | 72 pages | The story of hero 32, who wins.\n"
        "read 3 days ago: Hero 1, Vol. 1 (Hero, #1) by Ánn Author1, Ánn Author1 (Illustrator) | comics, graphic / "
        "fantasy, paranormal | House 1 | 41 pages | The story of hero 1, who wins. | rating: 1/5\n\n"
        "Hero 2, Vol. 2 (Hero, #2) by Ánn Author2, Ánn Author2 (Illustrator) | comics, graphic / fantasy, "
        "paranormal | "
        "House 2 | 42 pages | The story of hero 2, who wins. | rated 3.10/5 | on 29 shelves\n"
        "Hero 4, Vol. 1 (Hero, #1) by Ánn Author4, Ánn Author4 (Illustrator) | comics, graphic / fantasy, "
        "paranormal | "
        "published 1994 | The story of hero 4, who wins. | rated 3.27/5 | on 22 shelves"
    )
