"""Steam: the odd cases of the raw files one by one, malformed files, and a scene as a person reads it."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import polars as pl
import pytest
import raw_steam
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import damaged
from raw_steam import game, printed, review, write_lines
from rendered import lines, rendered

from usermirrorer.data.sources.steam import STEAM, read
from usermirrorer.errors import UserError


DAY = 86_400_000
TIME = 1_425_168_000_000 + 200 * DAY
"""The 200th day of the fixture."""


def read_lines(raw: Path, games: list[dict], reviews: list[dict]):
    write_lines(raw / "steam_games.json.gz", games)
    write_lines(raw / "steam_reviews.json.gz", reviews)
    return read(raw, 0)


def test_the_fixture(tmp_path: Path) -> None:
    raw_steam.write(tmp_path)
    tables = read(tmp_path, 0)
    assert len(tables.items) == 60 and len(tables.users) == 40
    assert len(tables.interactions) == 601  # 600 and one of a game that is not listed, which `prepare` drops
    assert dict(tables.dropped) == {
        "game_without_id": 1, "game_without_name": 1, "repeated_game": 1, "review_without_id": 1,
        "review_without_date": 1, "repeated_review": 2,
    }  # fmt: skip
    assert tables.interactions["timestamp"].is_sorted()
    assert tables.interactions["user_id"].is_in(['O\'Player "0"']).sum() == 15


@pytest.mark.parametrize(
    ("price", "shown"),
    [
        (4.99, "$4.99"), (10, "$10.00"), (9.5, "$9.50"), ("19.99", "$19.99"), (0, "Free"), (0.0, "Free"),
        ("Free to Play", "Free to Play"), ("Install Now", "Install Now"), (None, None), ("", None),
    ],
)  # fmt: skip
def test_prices(tmp_path: Path, price: object, shown: str | None) -> None:
    tables = read_lines(tmp_path, [{**game(0), "price": price}], [review(0, 0, 0)])
    assert tables.items["price"].to_list() == [shown]


@pytest.mark.parametrize(
    ("released", "ms"),
    [("1970-01-03", 2 * DAY), ("Coming Soon", None), ("2018", None), ("2018-02-30", None), ("", None), (None, None)],
)
def test_a_release_that_is_no_day_is_not_known(tmp_path: Path, released: str | None, ms: int | None) -> None:
    tables = read_lines(tmp_path, [{**game(0), "release_date": released}], [review(0, 0, 0)])
    assert tables.items["available_from"].to_list() == [ms]
    assert tables.item_labels is not None
    assert tables.item_labels.rows() == ([("0", ms, released)] if ms is not None else [])


def test_the_first_review_of_a_game_stays_whatever_the_order_of_lines(tmp_path: Path) -> None:
    later, earlier = ({**review(1, 0, day), "text": f"day {day}"} for day in (9, 2))
    tables = read_lines(tmp_path, [game(0)], [later, earlier])
    assert tables.interactions["review"].to_list() == ["day 2"]
    assert tables.dropped["repeated_review"] == 1


def test_names_fall_back_and_entities_are_resolved(tmp_path: Path) -> None:
    tables = read_lines(tmp_path, [{"id": "1", "title": "A &amp; B"}, {"id": "2", "app_name": " "}], [review(0, 0, 0)])
    assert tables.items.select("item_id", "app_name", "genres").rows() == [("1", "A & B", None)]
    assert tables.dropped["game_without_name"] == 1


def test_json_and_unpacked_copies_are_read_alike(tmp_path: Path) -> None:
    raw_steam.write(tmp_path)
    whole = read(tmp_path, 0)
    for stem in ("steam_games", "steam_reviews"):
        packed = tmp_path / f"{stem}.json.gz"
        (tmp_path / f"{stem}.jsonl").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    again = read(tmp_path, 0)
    assert again.items.equals(whole.items) and again.interactions.equals(whole.interactions)


def test_a_review_is_cut_at_its_fiftieth_word(tmp_path: Path) -> None:
    long = {**review(0, 0, 0), "text": "one\ntwo " * 40}
    assert read_lines(tmp_path, [game(0)], [long]).interactions["review"].to_list() == ["one two " * 25 + "…"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    raw_steam.write(tmp_path)
    (tmp_path / "steam_games.json.gz").unlink()
    with pytest.raises(UserError, match=r"steam_games\.json\.gz is missing"):
        read(tmp_path, 0)
    with pytest.raises(UserError, match="--raw"):
        read(None, 0)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "steam_games.json.gz", [game(0)])
    text = printed(review(1, 0, 0)) + "\n" + printed(review(2, 0, 0))[:-20] + "\n"
    (tmp_path / "steam_reviews.json.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(UserError, match=r"steam_reviews\.json\.gz:2: "):
        read(tmp_path, 0)


@pytest.mark.slow
@settings(max_examples=150)
@given(data=st.data())
def test_garbage_gives_rows_or_one_sentence(data: st.DataObject) -> None:
    files = {
        "steam_games.json": "".join(printed(game(number)) + "\n" for number in (1, 3)).encode(),
        "steam_reviews.json": "".join(printed(review(user, 1, 5)) + "\n" for user in (0, 5, 8)).encode(),
    }
    file = data.draw(st.sampled_from(sorted(files)))
    files[file] = data.draw(damaged(files[file]))
    with tempfile.TemporaryDirectory() as raw:
        for name, content in files.items():
            (Path(raw) / name).write_bytes(content)
        try:
            tables = read(Path(raw), 0)
        except UserError as error:
            assert f"{file}:" in str(error)
        else:
            assert tables.items["item_id"].n_unique() == len(tables.items)
            assert tables.interactions["timestamp"].null_count() == 0


def test_every_shown_value_is_declared() -> None:
    raw_columns = {
        "app_name",
        "genres",
        "developer",
        "publisher",
        "specs",
        "release_date",
        "tags",
        "sentiment",
        "price",
    }
    assert raw_columns | {"products", "hours", "review", "new_release"} == set(STEAM.fields)
    assert STEAM.raw_files and pl.DataFrame({"x": [1]}).select(STEAM.choice_rules["any"](0)).item() is True


def test_a_scene_reads_well(tmp_path: Path) -> None:
    raw_steam.write(tmp_path)
    text = rendered("steam", tmp_path, tmp_path / "work", "player 8", TIME, ["4", "10", "3"], 2)
    assert text["profile"] == ""
    assert text["action_list"] == [
        "[New Release] Game 4 [Design & Illustration, Casual] | by Studio 4 | published by House 4 | Single-player, "
        "Steam Cloud",
        "Game 10 [Action, Casual] | by Studio 1 | published by House 3 | Single-player, Steam Cloud | released "
        "2012-07-19",
        'Böse 3: it\'s "Game" ™ [Strategy, Casual] | by Studio 3 | published by House 3 | Single-player, Steam Cloud '
        "| released 2012-03-01",
    ]


def test_a_scene_with_end_of_crawl_values_reads_well(tmp_path: Path) -> None:
    raw_steam.write(tmp_path)
    text = rendered("steam", tmp_path, tmp_path / "work", "player 8", TIME, ["2", "10"], 1, snapshot=True)
    assert lines(text) == (
        "Games owned: 18\n\n"
        "reviewed 6 days ago: Game 1 [Indie, Casual] | published by House 1 | Single-player, Steam "
        "Cloud | tags: Puzzle, 2D | player reviews: Mostly Positive | Free to Play | played 20.7 hours | review: Runs "
        "well. The music is lovely. The last level is too hard. My friends play it too.\n\n"
        "Game 2 | by Studio 2 | published by House 2 | player reviews: Mostly Positive | released 2012-02-10\n"
        "Game 10 [Action, Casual] | by Studio 1 | published by House 3 | Single-player, Steam "
        "Cloud | tags: Puzzle, 2D | player reviews: Mostly Positive | $14.99 | released 2012-07-19"
    )


def test_a_release_date_is_shown_once_it_is_past(tmp_path: Path) -> None:
    """Game 5 is reviewed before its release on 30 September 2015."""
    raw_steam.write(tmp_path)
    release = 1_443_571_200_000
    before, after = (
        rendered("steam", tmp_path, tmp_path / "work", "player 8", time, ["5"], 10)
        for time in (release, release + DAY)
    )
    assert "released" not in before["action_list"][0] and "released" not in before["history"] + after["history"]
    assert after["action_list"][0].endswith(" | released 2015-09-30")
    assert "Game 5" in before["history"]
