"""MIND: half-days, marks, histories, quotes and repeated rows, and a scene that reads well."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import raw_mind
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import damaged
from rendered import rendered, scene_rows

from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.mind import MIND
from usermirrorer.data.sources.readers import files
from usermirrorer.errors import UserError


def news(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).replace("|", "\t").encode()


NEWS = news(
    'N1|news|newsworld|"Storm" nears|An "abstract|https://x|[]|[]',
    "N2|sports|soccer|  Final  tonight ||https://x|[]|[]",
    'N3|finance|markets|Half "open quote||https://x|[]|[]',
)
FILES = {
    "train/news.tsv": NEWS,
    "train/behaviors.tsv": news(
        "1|U1|11/10/2019 8:55:22 PM|N3 N1|N1-0 N2-1",
        "2|U2|11/9/2019 12:05:00 AM||N1-1 N3-0",
        "3|U1|11/9/2019 11:59:59 PM|N3 N1|N2-0 N1-1",
    ),
    "dev/news.tsv": NEWS + news("N4|weather|local|Rain||https://x|[]|[]"),
    "dev/behaviors.tsv": news("1|U3|11/15/2019 12:30:00 PM|N2|N4-1 N1-0 N2-1"),
}


def read(raw: Path, **changed: bytes) -> RawTables:
    for name, content in {**FILES, **changed}.items():
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).write_bytes(content)
    return MIND.read(raw, 0)


def ms(*time: int) -> int:
    return int(datetime(*time, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type]


def test_half_days_and_numbers_that_start_again(tmp_path: Path) -> None:
    impressions = read(tmp_path).impressions
    assert impressions is not None
    assert impressions.rows() == [
        ("train-1", "U1", ms(2019, 11, 10, 20, 55, 22), ["N1", "N2"], ["N2"]),
        ("train-2", "U2", ms(2019, 11, 9, 0, 5, 0), ["N1", "N3"], ["N1"]),
        ("train-3", "U1", ms(2019, 11, 9, 23, 59, 59), ["N2", "N1"], ["N1"]),
        ("dev-1", "U3", ms(2019, 11, 15, 12, 30, 0), ["N4", "N1", "N2"], ["N4", "N2"]),
    ]


def test_histories_are_undated_clicks_once_a_user_and_in_order(tmp_path: Path) -> None:
    events = read(tmp_path).interactions
    undated = events.filter(events["timestamp"].is_null())
    assert undated.filter(undated["user_id"] == "U1")["item_id"].to_list() == ["N3", "N1"]
    assert sorted(undated["user_id"].to_list()) == ["U1", "U1", "U3"], "U2 has no history"
    assert events.drop_nulls("timestamp").rows() == [
        ("U1", "N2", ms(2019, 11, 10, 20, 55, 22)), ("U2", "N1", ms(2019, 11, 9, 0, 5)),
        ("U1", "N1", ms(2019, 11, 9, 23, 59, 59)), ("U3", "N4", ms(2019, 11, 15, 12, 30)),
        ("U3", "N2", ms(2019, 11, 15, 12, 30)),
    ]  # fmt: skip


def test_the_earliest_of_different_histories_counts(tmp_path: Path) -> None:
    """A later row's longer history would reveal clicks that are still to come."""
    log = news("1|U1|11/10/2019 8:00:00 PM|N3 N2|N1-1 N2-0", "2|U1|11/10/2019 8:00:00 AM|N3|N2-1 N1-0")
    events = read(tmp_path, **{"train/behaviors.tsv": log}).interactions
    undated = events.filter(events["timestamp"].is_null())
    assert undated.filter(undated["user_id"] == "U1")["item_id"].to_list() == ["N3"]


def test_an_article_exists_from_its_first_appearance_in_time_not_in_the_alphabet(tmp_path: Path) -> None:
    """As text, 11/10/2019 comes before 11/9/2019."""
    log = news("1|U9|11/10/2019 1:00:00 AM||N2-1 N4-0", "2|U9|11/9/2019 1:00:00 PM||N4-1 N3-0")
    items = read(tmp_path, **{"train/behaviors.tsv": log}).items
    available = dict(items.select("item_id", "available_from").rows())
    assert available["N4"] == available["N3"] == ms(2019, 11, 9, 13)
    assert available["N1"] == ms(2019, 11, 15, 12, 30)
    assert available["N2"] == ms(2019, 11, 9, 13), "in a history: from the start of the log"


def test_quotation_marks_are_text(tmp_path: Path) -> None:
    items = read(tmp_path).items
    assert items["item_id"].to_list() == ["N1", "N2", "N3", "N4"]
    assert items["title"].to_list() == ['"Storm" nears', "Final tonight", 'Half "open quote', "Rain"]
    assert items["abstract"].to_list()[:2] == ['An "abstract', None]


def test_repeated_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    once, dev = read(tmp_path), FILES["dev/behaviors.tsv"]
    twice = read(tmp_path, **{"dev/behaviors.tsv": dev * 2, "train/behaviors.tsv": FILES["train/behaviors.tsv"] + dev})
    assert twice.dropped["duplicate_impression"] == 2 and once.dropped["duplicate_impression"] == 0
    assert twice.impressions is not None and once.impressions is not None
    assert once.impressions["impression_id"].to_list() == ["train-1", "train-2", "train-3", "dev-1"]
    assert twice.impressions["impression_id"].to_list() == ["train-1", "train-2", "train-3", "train-1-2"]
    assert sorted(twice.interactions.rows(), key=str) == sorted(once.interactions.rows(), key=str)


@pytest.mark.parametrize("names", [("train", "dev"), ("MINDlarge_train", "MINDlarge_dev")])
def test_folders_are_found_under_the_names_of_the_archives(tmp_path: Path, names: tuple[str, str]) -> None:
    read(tmp_path)
    for old, new in zip(("train", "dev"), names, strict=True):
        (tmp_path / old).rename(tmp_path / new)
    assert MIND.read(tmp_path, 0).interactions.height == 8
    (tmp_path / "MINDlarge_test").mkdir()
    (tmp_path / "MINDlarge_test" / "news.tsv").write_bytes(news("N5|news|x|From test||https://x|[]|[]"))
    assert "N5" in MIND.read(tmp_path, 0).items["item_id"].to_list()
    for pattern in MIND.raw_files:
        assert len(list(tmp_path.glob(pattern))) == 1


def test_train_alone_will_do(tmp_path: Path) -> None:
    """The news of dev and its clicks are missed; cut times come from the one file."""
    whole = read(tmp_path)
    shutil.rmtree(tmp_path / "dev")
    tables = MIND.read(tmp_path, 0)
    assert tables.impressions is not None and whole.impressions is not None
    assert tables.impressions.equals(whole.impressions[:3])
    assert tables.items["item_id"].to_list() == ["N1", "N2", "N3"]
    content = prepare("mind", tmp_path, tmp_path / "work")
    assert content["rows"]["impressions"] == 3 and content["cuts"]["train"] <= content["cuts"]["test"]


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    read(tmp_path)
    (tmp_path / "MINDsmall_dev").mkdir()
    with pytest.raises(UserError, match="dev and MINDsmall_dev"):
        MIND.read(tmp_path, 0)


def test_chunks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(tmp_path)
    monkeypatch.setattr(files, "CHUNK_BYTES", 50)
    parts = read(tmp_path)
    assert parts.items.equals(whole.items) and parts.interactions.equals(whole.interactions)
    with pytest.raises(UserError, match=r"behaviors.tsv:3: time 'x'"):
        read(tmp_path, **{"train/behaviors.tsv": FILES["train/behaviors.tsv"].replace(b"11/9/2019 11:59:59 PM", b"x")})


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        ("train/behaviors.tsv", b"", "train/behaviors.tsv"),
        ("train/behaviors.tsv", news("1|U1|11/9/2019 1:00:00 PM||N1-1", "2|U1|N1-1"), "train/behaviors.tsv:2"),
        ("train/behaviors.tsv", news("1|U1|11/9/2019 13:00:00||N1-1"), "train/behaviors.tsv:1"),
        ("dev/behaviors.tsv", news("1|U1|13/11/2019 1:00:00 PM||N1-1"), "dev/behaviors.tsv:1"),
        ("dev/behaviors.tsv", news("1|U1|11/9/2019 1:00:00 PM||N1 N2"), "dev/behaviors.tsv:1"),
        ("dev/behaviors.tsv", news("1|U1|11/9/2019 1:00:00 PM||"), "dev/behaviors.tsv:1"),
        ("dev/behaviors.tsv", b"\xff" + FILES["dev/behaviors.tsv"], "dev/behaviors.tsv:1"),
        ("train/news.tsv", NEWS + b"N9\tnews\n", "train/news.tsv:4"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, file: str, content: bytes, place: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, **{file: content})
    assert str(tmp_path / place) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("file", list(FILES))
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    read(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        MIND.read(tmp_path, 0)
    with pytest.raises(UserError, match="--raw"):
        MIND.read(None, 0)


def test_a_scene_reads_well(tmp_path: Path) -> None:
    raw_mind.write(tmp_path)
    text = rendered("mind", tmp_path, tmp_path / "work", "U7", ms(2019, 11, 10, 12), ["N1", "N2", "N3"], 5)
    assert text["profile"] == ""
    assert text["history"].split("\n") == [
        "clicked Story 8 (category: news), earlier",
        "clicked Story 18 (category: finance), earlier",
        "clicked Story 12 (category: news), earlier",
        "clicked Café reopens (category: finance), 22 hours ago",
        "clicked Café reopens (category: finance), 10 hours ago",
    ]
    assert text["action_list"] == [
        'Mayor: "No comment (category: sports)',
        "Café reopens (category: finance)",
        'She said "yes" and "no" (category: weather)',
    ]


def test_a_changed_raw_file_is_noticed_in_folders_of_any_name(tmp_path: Path) -> None:
    raw_mind.write(tmp_path)
    prepare("mind", tmp_path, tmp_path / "work")
    with (tmp_path / "MINDsmall_dev" / "behaviors.tsv").open("ab") as log:
        log.write(news("99999|U1|11/14/2019 1:00:00 PM||N1-1 N2-0"))
    with pytest.raises(UserError):
        prepare("mind", tmp_path, tmp_path / "work")


def test_the_made_up_log_gives_scenes(tmp_path: Path) -> None:
    raw_mind.write(tmp_path)
    assert min(scene_rows("mind", tmp_path, tmp_path / "work").values()) >= 10


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
            assert tables.impressions is not None
            assert tables.impressions["impression_id"].is_unique().all()
            assert tables.items["item_id"].is_unique().all()
            assert set(tables.interactions["user_id"]) <= set(tables.users["user_id"])
