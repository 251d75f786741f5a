"""KuaiRec: plays to the millisecond, days that end in China, what a choice is, texts with line breaks, lists."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import raw_kuairec
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import damaged
from rendered import rendered, scene_rows

from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.log.tables import load_tables
from usermirrorer.data.scenes.render import option_texts, render
from usermirrorer.data.sources.domain import RawTables, choice_rule
from usermirrorer.data.sources.kuairec import CAPTIONS, KUAIREC
from usermirrorer.data.sources.readers import files
from usermirrorer.errors import UserError


FILES = {
    "big_matrix.csv": (
        b"user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
        b"0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.2733965215790926\n"
        b"0,21,851,7908,2020-07-05 00:16:06.5,20200705,1593879366.5,0.1076125442589782\n"
        b"7,3649,10867,10867,2020-07-06 00:00:00,20200706,1593964800.0,1.0\n"
    ),
    "item_daily_features.csv": (
        "video_id,date,author_id,upload_dt,video_duration,play_cnt,like_cnt,comment_cnt,share_cnt,video_tag_name\n"
        '3649,20200706,5,2020-07-01,10867.0,200,20,2,1,"a, b"\n'
        "3649,20200705,5,2020-07-01,10867.0,100,10,1,0,标签\n"
        "21,20200705,6,2020-07-05,,7,,0,0,\n"
    ).encode(),
    "kuairec_caption_category.csv": (
        ",".join(CAPTIONS) + "\n"
        '3649,UNKNOWN,"小猫\n第二行, ""真""",[猫],1,宠物,2,UNKNOWN,-124,UNKNOWN\n'
        "21,封面 文字,UNKNOWN,[],3,美食,4,家常菜,5,汤\n"
    ).encode(),
    "user_features.csv": (
        b"user_id,user_active_degree,is_live_streamer,is_video_author,follow_user_num,fans_user_num,friend_user_num,"
        b"register_days,onehot_feat0\n"
        b"0,high_active,1,1,5,1200,0,107,\n7,UNKNOWN,0,0,386,4,2,327,4.0\n"
    ),
    "social_network.csv": b'user_id,friend_list\n0,[7]\n7,"[0, 12]"\n9,[]\n',
}


def read(raw: Path, **changed: bytes) -> RawTables:
    for name, content in {**FILES, **changed}.items():
        (raw / name).write_bytes(content)
    return KUAIREC.read(raw, 0)


def ms(*time: int) -> int:
    return int(datetime(*time, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type]


def test_plays_keep_their_milliseconds(tmp_path: Path) -> None:
    plays = read(tmp_path).interactions
    assert plays.select("user_id", "item_id", "timestamp", "play_ms", "video_ms", "outcome").rows() == [
        ("0", "3649", 1593878903438, 13838, 10867, "played to the end,"),
        ("0", "21", 1593879366500, 851, 7908, "left after"),
        ("7", "3649", 1593964800000, 10867, 10867, "played to the end,"),
    ]
    assert plays["seconds"].to_list() == pytest.approx([13.838, 0.851, 10.867])


def test_a_day_ends_at_midnight_in_china(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    tables = read(tmp_path)
    statistics = tables.item_statistics
    assert statistics is not None
    assert statistics.filter(pl.col("item_id") == "3649").rows() == [
        ("3649", ms(2020, 7, 5, 16), 100.0, 10.0, 1.0, 0.0), ("3649", ms(2020, 7, 6, 16), 200.0, 20.0, 2.0, 1.0)
    ]  # fmt: skip
    assert statistics.filter(pl.col("item_id") == "21")["likes"].to_list() == [None]
    available = dict(tables.items.select("item_id", "available_from").rows())
    assert available == {"3649": ms(2020, 6, 30, 16), "21": ms(2020, 7, 4, 16)}


@pytest.mark.parametrize(
    ("play", "video", "rules"),
    [
        (6_999, 7_000, ""), (7_000, 7_000, "complete valid_play long_play"), (7_000, 7_001, ""),
        (7_001, 20_000, "valid_play"), (17_999, 20_000, "valid_play"), (18_000, 20_000, "valid_play long_play"),
        (17_999, 18_000, "valid_play"), (18_000, 18_000, "complete valid_play long_play"),
        (0, 2_000, ""), (2_000, 2_000, "complete valid_play long_play"),
    ],
)  # fmt: skip
def test_what_a_choice_is(play: int, video: int, rules: str) -> None:
    frame = pl.DataFrame({"play_ms": [play], "video_ms": [video]})
    held = [name for name in KUAIREC.choice_rules if frame.select(choice_rule(KUAIREC, name)).item()]
    assert held == [*rules.split(), "any"]
    assert next(iter(KUAIREC.choice_rules)) == "complete"


def test_texts_with_line_breaks_quotes_and_nothing(tmp_path: Path) -> None:
    items = {row["item_id"]: row for row in read(tmp_path).items.to_dicts()}
    assert items["3649"]["title"] == '小猫 第二行, "真"' and items["3649"]["cover_text"] is None
    assert items["3649"]["category"] == "宠物" and items["21"]["category"] == "美食 / 家常菜 / 汤"
    assert items["21"]["title"] == "封面 文字" and items["21"]["cover_text"] is None, "once, not twice"
    assert items["3649"]["duration"] == 10.867 and items["21"]["duration"] is None


def test_captions_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    content = FILES["kuairec_caption_category.csv"].replace("封面 文字".encode(), "回车\r在中间".encode())
    content += b"rest of a row\n21,again,c,[],1,a,2,b,3,c\n"
    tables = read(tmp_path, **{"kuairec_caption_category.csv": content})
    assert tables.dropped["broken_caption"] == 2
    assert dict(tables.items.select("item_id", "title").rows())["21"] == "回车 在中间"
    alone = read(tmp_path, **{"kuairec_caption_category.csv": (",".join(CAPTIONS) + "\n").encode()})
    assert alone.items["title"].to_list() == ["untitled video"] * 2


def test_plays_without_a_time_are_dropped_and_counted(tmp_path: Path) -> None:
    tables = read(tmp_path, **{"big_matrix.csv": FILES["big_matrix.csv"] + b"\n7,21,1,7908,,,,0.0001\n"})
    assert tables.dropped["missing_time"] == 1 and len(tables.interactions) == 3


def test_users_and_their_friends(tmp_path: Path) -> None:
    tables = read(tmp_path)
    assert tables.users.rows() == [
        ("0", "high", "video author and live streamer", 5, 1200, 0, 107), ("7", None, None, 386, 4, 2, 327)
    ]  # fmt: skip
    assert tables.friends is not None
    assert tables.friends.rows() == [("0", "7"), ("7", "0"), ("7", "12")]
    assert all(KUAIREC.fields[name] == "snapshot" for name in tables.users.columns[1:])


def test_chunks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(tmp_path)
    monkeypatch.setattr(files, "CHUNK_BYTES", 90)
    parts = read(tmp_path)
    assert parts.interactions.equals(whole.interactions) and parts.users.equals(whole.users)
    with pytest.raises(UserError, match="big_matrix.csv:4: '7,x"):
        read(tmp_path, **{"big_matrix.csv": FILES["big_matrix.csv"].replace(b"\n7,", b"\n7,x")})


PLAYS, DAYS = FILES["big_matrix.csv"], FILES["item_daily_features.csv"]


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        ("big_matrix.csv", b"", "big_matrix.csv:1"),
        ("big_matrix.csv", PLAYS.partition(b"\n")[0], "big_matrix.csv:1"),
        ("big_matrix.csv", PLAYS.replace(b"timestamp", b"when"), "big_matrix.csv:1"),
        ("big_matrix.csv", PLAYS + b"1,2,3,4,x,5,1593964800.0\n", "big_matrix.csv:5"),
        ("big_matrix.csv", PLAYS + b"1,2,3,4,x,5,1593964800.0,1.0,more\n", "big_matrix.csv:5"),
        ("big_matrix.csv", PLAYS + b"\n1,2,3.5,4,x,5,1593964800.0,1.0\n", "big_matrix.csv:6"),
        ("big_matrix.csv", PLAYS + b"1,2,-3,4,x,5,1593964800.0,1.0\n", "big_matrix.csv:5"),
        ("big_matrix.csv", PLAYS + b"1,2,3,4,x,5,nan,1.0\n", "big_matrix.csv:5"),
        ("big_matrix.csv", PLAYS + b"1,2,3,4,\xff,5,1593964800.0,1.0\n", "big_matrix.csv:5"),
        ("item_daily_features.csv", DAYS.replace(b"20200706", b"20201306"), "item_daily_features.csv:2"),
        ("item_daily_features.csv", DAYS.replace(b"2020-07-05", b"5 July"), "item_daily_features.csv:4"),
        ("kuairec_caption_category.csv", b"1,2\n", "kuairec_caption_category.csv:1"),
        ("kuairec_caption_category.csv", FILES["kuairec_caption_category.csv"] + b'5,"open\n' + b"6,x\n" * 60,
         "kuairec_caption_category.csv:5"),
        ("kuairec_caption_category.csv", FILES["kuairec_caption_category.csv"] + b"\xff", "category.csv:5"),
        ("user_features.csv", FILES["user_features.csv"] + b"7,UNKNOWN,0,0,1,1,1,1,\n", "user_features.csv:4"),
        ("social_network.csv", FILES["social_network.csv"] + b'1,"__import__(1)"\n', "social_network.csv:5"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, file: str, content: bytes, place: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, **{file: content})
    assert place in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("file", list(FILES))
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    read(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        KUAIREC.read(tmp_path, 0)


def test_a_scene_reads_well(tmp_path: Path) -> None:
    raw_kuairec.write(tmp_path)
    text = rendered("kuairec", tmp_path, tmp_path / "work", "9", ms(2020, 7, 24, 3), ["0", "1", "8"], 5, snapshot=True)
    assert text["profile"] == (
        "Country: China\nActivity: full\nRole: video author\nDays since registration: 309\n"
        "Follows: 9; fans: 18; friends: 1"
    )
    assert text["history"].split("\n") == [
        'saw 第一行 第二行, "引号" | 宠物 / 家常 | 40 s, 1 month ago: left after 2 s',
        "saw 视频 27 #话题 | 封面 | 家常 | 6 s, 1 month ago: left after 4 s",
        "saw 回车 在中间 | 旅行 / 家常 | 33 s, 29 days ago: left after 21 s",
        "saw 回车 在中间 | 旅行 / 家常 | 33 s, 15 days ago: left after 20 s",
        "saw untitled video | 美食 / 家常 | 21 s, 8 days ago: left after 17 s",
    ]
    assert text["action_list"] == [
        "视频 0 #话题 | 封面 | 美食 / 家常 | 52 s | last counted day: 1,173 plays, 173 likes, 0 comments, 2 shares",
        '第一行 第二行, "引号" | 宠物 / 家常 | 40 s | last counted day: 2,173 plays, 173 likes, 1 comment, 2 shares',
        "视频 8 #话题 | 美食 / 家常 | last counted day: 9,173 plays, 173 likes, 8 comments, 2 shares",
    ]


def test_end_of_crawl_values_are_hidden_unless_requested(tmp_path: Path) -> None:
    raw_kuairec.write(tmp_path)
    prepare("kuairec", tmp_path, tmp_path / "work")
    tables = load_tables(tmp_path / "work", "kuairec")
    one = np.array([1])
    now = np.array([ms(2020, 7, 24)])
    (text,) = render(tables, one, now, one, option_texts(tables, one, one, now, one)).to_pylist()
    assert text["profile"] == "Country: China"


def test_the_made_up_log_gives_scenes(tmp_path: Path) -> None:
    raw_kuairec.write(tmp_path)
    assert min(scene_rows("kuairec", tmp_path, tmp_path / "work").values()) >= 10


@pytest.mark.slow
@settings(max_examples=250)
@given(data=st.data(), file=st.sampled_from(list(FILES)))
def test_garbage_gives_rows_or_one_sentence(data: st.DataObject, file: str) -> None:
    content = data.draw(damaged(FILES[file]))
    with tempfile.TemporaryDirectory() as raw:
        try:
            tables = read(Path(raw), **{file: content})
        except UserError as error:
            assert file in str(error)
        else:
            assert tables.interactions["timestamp"].is_between(0, 2**43).all()
            assert tables.items["item_id"].is_unique().all() and tables.items["title"].null_count() == 0
            assert tables.users["user_id"].is_unique().all()
