"""`show`: rows that a person can read, with everybody's answers beside the truth."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from usermirrorer.data.audit.show import show
from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import conversation


NAME, SHARD = "ml-100k", "train-00000.parquet"


def shown(capsys: pytest.CaptureFixture[str], path: Path, **options: object) -> str:
    capsys.readouterr()
    show(path, **options)  # type: ignore[arg-type]
    return capsys.readouterr().out


def in_words(text: str) -> str:
    """Text without its line breaks, which depend on the width of the terminal."""
    return " ".join(text.split())


def rows(path: Path) -> list[dict]:
    return pl.read_parquet(path).to_dicts()


def test_a_scene_is_shown_as_a_model_sees_it(built_films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = rows(built_films / f"scenes/{NAME}/train")[7]
    text = shown(capsys, built_films / f"scenes/{NAME}/train", scene=scene["scene_id"])
    assert text.startswith(f"--- scenes/{NAME}/train: {SHARD} row 8\nscene {scene['scene_id']} of {NAME}: user ")
    assert in_words(conversation(scene["text"], "plain")[1]["content"]) in in_words(text)
    assert f"{scene['timestamp']:%Y-%m-%d %H:%M:%S} UTC" in text
    shared = f"shared by group {scene['group_id']}, items as of {scene['group_time']:%Y-%m-%d %H:%M:%S} UTC "
    assert shared in in_words(text)
    heading, _, *lines = text[text.index("  option ") :].splitlines()
    letters = heading.split()[1:]
    assert letters == [f"[{letter}]" for letter in "ABCDEF"[: scene["choice_cnt"]]]
    rows_of = {line[: heading.index("[A]") - 5].strip(): line for line in lines}
    truth = rows_of["truth"]
    assert len(truth.rstrip()) == heading.index(letters[scene["item_pos"]]) + 3 and truth.count("chosen") == 1
    assert {"exposure probe", "popularity", "strong decisions", "weak decisions", "earlier"} <= set(rows_of)
    baselines = pl.read_parquet(built_films / f"baselines/{NAME}/train" / SHARD)
    [probs] = baselines.filter(scene_id=scene["scene_id"], baseline="reference")["probs"]
    assert rows_of["reference"].split()[1:] == [f"{p:.2f}" for p in probs]


def test_a_scene_of_a_whole_work_is_shown_in_all_that_hold_it(
    built_films: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = rows(built_films / f"pairs/{NAME}")[0]
    text = shown(capsys, built_films, scene=pair["scene_id"])
    scene = pl.read_parquet(built_films / f"scenes/{NAME}/train" / SHARD).row(
        by_predicate=pl.col("scene_id") == pair["scene_id"], named=True
    )
    assert text.count(f"--- decisions/{NAME}/strong") == 4 and text.count(f"--- decisions/{NAME}/weak") == 2
    chosen = scene["text"]["action_list"][scene["item_pos"]]
    assert in_words(f"truth: [{pair['behavior_chosen']}] {chosen}") in in_words(text)
    for side in ("chosen", "rejected"):
        assert in_words(f"{side}: {pair[side][0]['content']} ") in in_words(text)
    assert f"score {pair['score']:.3f}" in text and "names [" in text and "ended by stop" in text


def test_the_draw_is_the_seeds(built_films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = built_films / f"scenes/{NAME}/train"
    first = shown(capsys, place, num=2, seed=1)
    assert first == shown(capsys, place, num=2, seed=1) != shown(capsys, place, num=2, seed=2)
    assert first.count("--- ") == 2
    assert shown(capsys, place, num=100_000).count("--- ") == len(rows(place))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (f"tables/{NAME}", ["u", "users.parquet", "interactions.parquet", "Film "]),
        (f"embeddings/{NAME}", ["Film ", "\n  0."]),
        (f"predictions/{NAME}/weak", ["openai:guesser after weak decision", "probability", "chosen"]),
        (f"baselines/{NAME}/test", ["scene", "[E]", "Film "]),
    ],
)
def test_every_artefact_can_be_shown(
    built_films: Path, capsys: pytest.CaptureFixture[str], place: str, words: list[str]
) -> None:
    text = shown(capsys, built_films / place, num=1)
    assert all(word in text for word in words), text
    assert "\x1b" not in text


def test_published_rows_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "text": {"action_list": ["tea", "pie"], "history": "chose rice", "profile": ""}, "user_id": 7,
        "item_id": "pie", "timestamp": "2015-03-01 12:00:00", "item_pos": 1, "choice_cnt": 2, "dataset": "kitchen",
    }  # fmt: skip
    (tmp_path / "eval.jsonl").write_text(json.dumps(row) + "\n")
    text = shown(capsys, tmp_path / "eval.jsonl")
    assert "user 7, 2015-03-01 12:00:00 UTC" in text and "[B] pie" in text
    assert [line.split() for line in text.rstrip().splitlines()[-3::2]] == [
        ["option", "[A]", "[B]"],
        ["truth", "chosen"],
    ]

    withheld = row | {"text": {"action_list": [], "history": "", "profile": ""}}
    (tmp_path / "eval.jsonl").write_text(json.dumps(withheld) + "\n")
    assert "(the text is withheld)" in shown(capsys, tmp_path / "eval.jsonl")


def test_what_can_not_be_shown_is_one_sentence(built_films: Path) -> None:
    for options, message in (
        ({}, "pass one of them"), ({"scene": "f" * 16}, "no row of the scene"), ({"num": 0}, "--num 0"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            show(built_films, **options)
    with pytest.raises(UserError, match="not there"):
        show(built_films / "nowhere")
