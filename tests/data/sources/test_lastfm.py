"""Last.fm: tags joined by artist, days without a zone, impossible times, and a scene that reads well."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import raw_lastfm
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import damaged
from rendered import rendered, scene_rows

from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.lastfm import LASTFM, TAGS_SHOWN
from usermirrorer.errors import UserError


FILES = {
    "artists.dat": "id\tname\turl\tpictureURL\n7\tÅrhus\thttp://x\t\n9\t Two  Words \thttp://y\tz\n".encode(),
    "tags.dat": "tagID\ttagValue\n1\tmetal\n2\tespaña\n3\trock, hard\n".encode("latin-1"),
    "user_friends.dat": b"userID\tfriendID\n2\t5\n5\t2\n",
    "user_taggedartists.dat": (
        b"userID\tartistID\ttagID\tday\tmonth\tyear\n2\t9\t2\t1\t4\t2009\n2\t9\t1\t1\t4\t2009\n2\t7\t3\t1\t4\t2009\n"
        b"5\t9\t1\t5\t11\t2010\n"
    ),
}


def read(raw: Path, **changed: bytes) -> RawTables:
    for name, content in {**FILES, **changed}.items():
        (raw / name).write_bytes(content)
    return LASTFM.read(raw, 0)


def day(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type]


def tagging(*rows: str) -> bytes:
    header = FILES["user_taggedartists.dat"].partition(b"\n")[0] + b"\n"
    return header + "".join(row.replace(" ", "\t") + "\n" for row in rows).encode()


def test_files_become_tables(tmp_path: Path) -> None:
    tables = read(tmp_path)
    assert tables.users["user_id"].to_list() == ["2", "5"]
    assert tables.items.rows() == [("7", "Århus"), ("9", "Two Words")]
    assert tables.interactions.rows() == [
        ("2", "7", day(2009, 4, 1), "rock, hard"),
        ("2", "9", day(2009, 4, 1), "españa, metal"),
        ("5", "9", day(2010, 11, 5), "metal"),
    ]
    assert tables.friends is not None and tables.friends.rows() == [("2", "5"), ("5", "2")]
    assert not any(tables.dropped.values())


def test_tags_belong_to_the_artist_with_the_id_not_with_the_row(tmp_path: Path) -> None:
    """Artist 9 is in row 1; every label of 9 must be its own."""
    labels = read(tmp_path).item_labels
    assert labels is not None
    found = {artist: sorted(rows["label"]) for (artist,), rows in labels.group_by("item_id")}
    assert found == {"7": ["rock, hard"], "9": ["españa", "metal", "metal"]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2 9 1 1 9 1956", "impossible_time"), ("2 9 1 31 12 2001", "impossible_time"),
        ("2 9 1 31 2 2009", "impossible_time"), ("2 9 1 1 6 2011", "impossible_time"),
        ("2 9 4 1 4 2009", "unknown_tag"), ("5 9 1 5 11 2010", "duplicate_assignment"),
    ],
)  # fmt: skip
def test_odd_assignments_are_dropped_and_counted(tmp_path: Path, row: str, reason: str) -> None:
    tables = read(tmp_path, **{"user_taggedartists.dat": tagging("5 9 1 5 11 2010", row)})
    assert tables.interactions.rows() == [("5", "9", day(2010, 11, 5), "metal")]
    assert tables.item_labels is not None and len(tables.item_labels) == 1
    assert {name: count for name, count in tables.dropped.items() if count} == {reason: 1}


@pytest.mark.parametrize("row", ["2 9 1 1 1 2002", "2 9 1 31 5 2011"])
def test_the_first_and_the_last_possible_day_stay(tmp_path: Path, row: str) -> None:
    assert len(read(tmp_path, **{"user_taggedartists.dat": tagging(row)}).interactions) == 1


def test_an_artist_without_a_name_is_dropped_and_counted(tmp_path: Path) -> None:
    tables = read(tmp_path, **{"artists.dat": FILES["artists.dat"] + b"10\t \thttp://z\t\n"})
    assert tables.items["item_id"].to_list() == ["7", "9"] and tables.dropped["unnamed_artist"] == 1


def test_a_long_list_of_tags_is_cut_visibly(tmp_path: Path) -> None:
    tags = "tagID\ttagValue\n" + "".join(f"{tag}\tt{tag}\n" for tag in range(TAGS_SHOWN + 1))
    rows = [f"2 9 {tag} 1 4 2009" for tag in range(TAGS_SHOWN + 1)]
    files = {"tags.dat": tags.encode(), "user_taggedartists.dat": tagging(*rows)}
    (shown,) = read(tmp_path, **files).interactions["tags"]
    assert shown == ", ".join(f"t{tag}" for tag in range(TAGS_SHOWN)) + " …"


def test_the_zone_of_the_machine_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    assert read(tmp_path).interactions["timestamp"].to_list()[0] == day(2009, 4, 1)


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        ("artists.dat", b"", "artists.dat:1"),
        ("artists.dat", b"7\tA\thttp://x\t\n", "artists.dat:1"),
        ("artists.dat", FILES["artists.dat"] + b"10\tA\ttab\thttp://x\t\n", "artists.dat:4"),
        ("artists.dat", FILES["artists.dat"] + b"9\tAgain\thttp://x\t\n", "artists.dat:4"),
        ("artists.dat", FILES["artists.dat"] + b"10\t\xe5rhus\thttp://x\t\n", "artists.dat:4"),
        ("tags.dat", FILES["tags.dat"] + b"2\tagain\n", "tags.dat:5"),
        ("tags.dat", FILES["tags.dat"] + b"4\ttwo\ttabs\n", "tags.dat:5"),
        ("user_friends.dat", b"userID friendID\n2\t5\n", "user_friends.dat:1"),
        ("user_taggedartists.dat", tagging("2 9 1 1 4"), "user_taggedartists.dat:2"),
        ("user_taggedartists.dat", tagging("2 9 1 1 13 2009"), "user_taggedartists.dat:2"),
        ("user_taggedartists.dat", tagging("2 9 1 1 4 2009", "2 9 1 x 4 2009"), "user_taggedartists.dat:3"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, file: str, content: bytes, place: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, **{file: content})
    assert str(tmp_path / place) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("file", list(FILES))
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    read(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        LASTFM.read(tmp_path, 0)


def test_a_scene_reads_well(tmp_path: Path) -> None:
    raw_lastfm.write(tmp_path)
    text = rendered("lastfm", tmp_path, tmp_path / "work", "5", day(2010, 10, 1), ["7", "1", "40"], 5)
    assert text["profile"] == ""
    assert text["history"].split("\n") == [
        "tagged Band 13, 5 months ago: chillout, rock & roll",
        'tagged Band 6, 4 months ago: so "lovely"',
        "tagged Band 1, 3 months ago: 80's, rock & roll, españa",
        "tagged Band 2, 3 months ago: rock & roll",
        "tagged Band 25, 2 months ago: trip-hop",
    ]
    assert text["action_list"] == [
        "Århus & the Öresund - metal, 80's, españa, rock & roll, düster (tagged by 2 of the user's friends)",
        "Band 1 - españa, chillout, düster, 80's, rock & roll (tagged by 2 of the user's friends)",
        'Band 40 - so "lovely", chillout, düster, españa, metal',
    ]


def test_the_made_up_log_gives_scenes(tmp_path: Path) -> None:
    raw_lastfm.write(tmp_path)
    assert min(scene_rows("lastfm", tmp_path, tmp_path / "work").values()) >= 10


@pytest.mark.slow
@settings(max_examples=150)
@given(data=st.data(), file=st.sampled_from(list(FILES)))
def test_garbage_gives_rows_or_one_sentence(data: st.DataObject, file: str) -> None:
    content = data.draw(damaged(FILES[file]))
    with tempfile.TemporaryDirectory() as raw:
        try:
            tables = read(Path(raw), **{file: content})
        except UserError as error:
            assert file in str(error)
        else:
            assert tables.interactions["timestamp"].is_between(day(2002, 1, 1), day(2011, 5, 31)).all()
            assert tables.interactions["tags"].str.len_chars().min() or tables.interactions.is_empty()
            assert tables.items["item_id"].n_unique() == len(tables.items)


def test_the_real_files_hold_what_their_publisher_says(test_data: Path) -> None:
    """Counts of readme.txt: 1,892 users, 17,632 artists, 12,717 pairs of friends, 186,479 tag assignments."""
    tables = LASTFM.read(test_data / "lastfm-hetrec2011", 0)
    assert len(tables.users) == 1892 and len(tables.items) == 17632
    assert tables.friends is not None and tables.item_labels is not None
    pairs = tables.friends.select(low=pl.min_horizontal(pl.all()), high=pl.max_horizontal(pl.all()))
    assert len(tables.friends) == 25434 and pairs.n_unique() == 12717
    assert dict(tables.dropped) == {
        "duplicate_assignment": 0, "impossible_time": 5, "unknown_tag": 0, "unnamed_artist": 0,
    }  # fmt: skip
    assert len(tables.item_labels) == 186479 - 5
    assert len(tables.interactions) == 85011
    times = tables.interactions["timestamp"]
    assert (times.min(), times.max()) == (day(2005, 8, 1), day(2011, 5, 9))
    assert tables.item_labels["label"].str.contains("[à-ü]").any(), "tags.dat is Latin-1"
