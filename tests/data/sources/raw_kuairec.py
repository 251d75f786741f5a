"""A made-up log in the raw format of KuaiRec 2.0, odd cases included."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np


USERS, VIDEOS, DAYS, PLAYS = 40, 60, 210, 1200
CHINA = timezone(timedelta(hours=8))
FIRST_DAY = date(2020, 2, 1)
CATEGORIES = ("美食", "宠物", "旅行", "UNKNOWN")


def write(directory: Path) -> None:
    """Write the five files of `data/`: plays over 210 days, about half of them to the end."""
    rng = np.random.default_rng(0)
    length = rng.integers(4_000, 60_000, size=VIDEOS)
    law = 1 / np.arange(1, VIDEOS + 1)
    start = datetime(2020, 2, 1, tzinfo=CHINA)
    plays = []
    for user in range(USERS):
        for _ in range(PLAYS // USERS):
            video = int(rng.choice(VIDEOS, p=law / law.sum()))
            time = start + timedelta(milliseconds=int(rng.integers(0, DAYS * 86_400_000)))
            share = rng.uniform(1.0, 1.6) if rng.random() < 0.6 else rng.uniform(0.0, 0.9)
            plays.append(play(user, video, int(length[video] * share), int(length[video]), time))
    plays.append(plays[0])  # twice the same
    plays.append("3,5,4000,4000,,,,1.0")  # no time
    plays.append(play(4, 999, 4000, 4000, start))  # no such video
    header = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
    write_rows(directory / "big_matrix.csv", header, plays)

    header = "video_id,date,author_id,video_type,upload_dt,video_duration,play_cnt,like_cnt,comment_cnt,share_cnt,tag"
    daily = []
    for day in range(DAYS):
        today = FIRST_DAY + timedelta(days=day)
        for video in range(VIDEOS):
            uploaded = "2020-06-15" if video == 9 else "2020-01-15"  # video 9 is played before its upload
            seconds = "" if video == 8 else f"{length[video]}.0"
            counts = f"{1000 * (video + 1) + day},{day},{video},{day % 3}"
            daily.append(f'{video},{today:%Y%m%d},7,NORMAL,{uploaded},{seconds},{counts},"a, b"')
    write_rows(directory / "item_daily_features.csv", header, daily)

    captions = []
    for video in range(VIDEOS):
        levels = [CATEGORIES[video % 4], "家常", "UNKNOWN"]
        named = ",".join(f"{level},{name}" for level, name in enumerate(levels))
        text = {1: '"第一行\n第二行, ""引号"""', 2: "回车\r在中间", 3: "", 4: "UNKNOWN"}.get(
            video, f"视频 {video} #话题"
        )
        captions.append(f"{video},{'封面' if video % 3 == 0 else 'UNKNOWN'},{text},[话题],{named}")
    captions.append("broken,row")
    header = (
        "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,first_level_category_name,"
        "second_level_category_id,second_level_category_name,third_level_category_id,third_level_category_name"
    )
    write_rows(directory / "kuairec_caption_category.csv", header, captions)

    header = (
        "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
        "follow_user_num_range,fans_user_num,friend_user_num,register_days,onehot_feat0"
    )
    degrees = ("full_active", "high_active", "UNKNOWN")
    people = [f'{u},{degrees[u % 3]},0,0,{u % 2},{u},"(0,10]",{2 * u},1,{300 + u},4.0' for u in range(USERS)]
    write_rows(directory / "user_features.csv", header, people)
    friends = [f'{u},"[{(u + 1) % USERS}, {(u + 2) % USERS}]"' for u in range(0, USERS, 3)]
    write_rows(directory / "social_network.csv", "user_id,friend_list", [*friends, "1,[2]", "2,[]"])


def play(user: int, video: int, played: int, length: int, time: datetime) -> str:
    """One row of big_matrix.csv; the publisher writes the time without zeros at its end."""
    local = time.astimezone(CHINA)
    shown = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03}".rstrip("0").rstrip(".")
    seconds = (time - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1) / 1000
    return f"{user},{video},{played},{length},{shown},{local:%Y%m%d},{seconds},{played / length}"


def write_rows(path: Path, header: str, rows: list[str]) -> None:
    path.write_bytes("".join(f"{row}\n" for row in [header, *rows]).encode())
