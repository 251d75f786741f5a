"""Files in the published schemas, under their published names: straight into `eval`, straight into `train`.

The rows are made up. Their texts look like the published ones: entries over several lines, empty profiles, rows of
restricted sources without their text.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from usermirrorer.cli import app
from usermirrorer.errors import UserError
from usermirrorer.eval.scenes import load_scenes
from usermirrorer.llm.engines.vllm import VLLMModel


ROOT = Path(__file__).parent.parent
STRINGS = pa.list_(pa.string())
MESSAGES = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
EVALUATION = pa.schema(
    [
        ("text", pa.struct([("action_list", STRINGS), ("history", pa.string()), ("profile", pa.string())])),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.timestamp("ns")),
        ("item_pos", pa.int64()),
        ("choice_cnt", pa.int64()),
        ("dataset", pa.string()),
        ("impression_list", STRINGS),
    ]
)
TRAINING = pa.schema(
    [
        ("dataset", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.timestamp("ns")),
        ("messages_chosen", MESSAGES),
        ("messages_rejected", MESSAGES),
        ("impression_list", STRINGS),
        ("item_pos", pa.int64()),
    ]
)
BLANKS = (
    None,
    {"action_list": None, "history": None, "profile": None},
    {"action_list": [], "history": "", "profile": ""},
    {"action_list": ["", "", "", "", ""], "history": "", "profile": "Gender: female"},
)
"""Ways in which a row can lack its text."""

ROWS, BLANKED = 24, 8


def option(number: int) -> str:
    return f"Game {number} [Puzzle/Indie]\nDeveloped by: Studio {number % 5} | Price: $Free to Play\n"


def evaluation_rows() -> list[dict]:
    """24 scenes of six people with text, and eight without."""
    rows = []
    for number in range(ROWS + BLANKED):
        blank = number >= ROWS
        shown = [str(100 * number + place) for place in range(5)]
        history = f"A game purchased 3 days ago\n{option(number)}My Behavior: Played 2.5 hours | Review: fine\n"
        text = {"action_list": [option(int(one)) for one in shown], "history": history, "profile": ""}
        rows.append(
            {
                "text": BLANKS[number % 4] if blank else text,
                "user_id": f"00{number % 6}",
                "item_id": shown[number % 3],
                "timestamp": datetime(2015, 3, 1, 12) + timedelta(hours=number),
                "item_pos": number % 3,
                "choice_cnt": 5,
                "dataset": ("MIND" if number % 2 else "ml-1m") if blank else "steam",
                "impression_list": shown,
            }
        )
    return rows


def training_rows() -> list[dict]:
    """12 rows with text, and two of restricted sources: one has an empty prompt, one nothing."""
    system = "You read a user's profile and history and say which option the user takes."
    rows = []
    for number, row in enumerate(evaluation_rows()[:14]):
        options = "\n".join(f"[{'ABCDE'[place]}] {text}" for place, text in enumerate(row["text"]["action_list"]))
        user = f"# User Profile\n\n\n## History\n{row['text']['history']}\n\n# Exposure List\n{options}\n"
        prompt = [{"role": "system", "content": system}, {"role": "user", "content": "" if number >= 12 else user}]
        answers = [
            [*prompt, {"role": "assistant", "content": f"Stimulus: it is free.\nBehavior: [{'ABCDE'[place]}]"}]
            for place in (row["item_pos"], row["item_pos"] + 1)
        ]
        extra = {"dataset": "MIND" if number >= 12 else "steam"}
        kept = {name: row[name] for name in ("user_id", "item_id", "timestamp", "impression_list", "item_pos")}
        chosen, rejected = answers if number < 13 else (None, None)
        rows.append({**kept, **extra, "messages_chosen": chosen, "messages_rejected": rejected})
    return rows


def parquet(path: Path, rows: list[dict], schema: pa.Schema) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def json_lines(path: Path, rows: list[dict], without: tuple[str, ...] = ()) -> Path:
    """As pandas writes them: times in milliseconds."""
    lines = []
    for row in rows:
        time = int((row["timestamp"] - datetime(1970, 1, 1)).total_seconds() * 1000)
        lines.append(json.dumps({k: v for k, v in (row | {"timestamp": time}).items() if k not in without}) + "\n")
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.writelines(lines)
    return path


def as_downloaded(place: Path) -> Path:
    return parquet(place / "UserMirrorer-eval" / "data" / "test-00000-of-00001.parquet", evaluation_rows(), EVALUATION)


def full_evaluation(place: Path) -> Path:
    """What the notebook that fills in the blanks writes."""
    return json_lines(place / "UserMirrorer-eval-Full.jsonl.gz", evaluation_rows(), ("impression_list",))


EVALUATION_FILES: dict[str, Callable[[Path], Path]] = {
    "file of the download": as_downloaded,
    "directory of the download": lambda place: as_downloaded(place).parent,
    "jsonl": lambda place: json_lines(place / "UserMirrorer-eval.jsonl", evaluation_rows()),
    "full": full_evaluation,
}


@pytest.mark.parametrize("kind", EVALUATION_FILES)
def test_every_form_of_the_evaluation_file_holds_the_same_scenes(tmp_path: Path, kind: str) -> None:
    scenes, counts = load_scenes(EVALUATION_FILES[kind](tmp_path))
    assert counts == {"read": ROWS + BLANKED, "kept": ROWS, "blanked": BLANKED, "duplicate": 0}
    first, _ = load_scenes(as_downloaded(tmp_path / "first"))
    columns = [name for name in scenes.columns if name != "impression_list"]
    assert scenes.select(columns).equals(first.select(columns))
    assert set(scenes["user_id"]) == {f"00{user}" for user in range(6)}


def test_for_the_directory_above_the_message_names_that_of_the_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pass .*UserMirrorer-eval/data"):
        load_scenes(as_downloaded(tmp_path).parent.parent)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cut.jsonl.gz", "gzip is damaged .*; download it again"),
        ("none.jsonl.gz", "gzip is damaged .*; download it again"),
        ("latin.jsonl", "not UTF-8 text: write the file as UTF-8"),
    ],
)
def test_a_broken_download_is_one_sentence(tmp_path: Path, name: str, problem: str) -> None:
    whole = json_lines(tmp_path / "whole.jsonl.gz", evaluation_rows()).read_bytes()
    content = {"cut": whole[: len(whole) // 2], "none": b"<html>", "latin": b'{"dataset": "caf\xe9"}\n'}
    (tmp_path / name).write_bytes(content[name.split(".")[0]])
    with pytest.raises(UserError, match=rf"{name}:\d+.* {problem}"):
        load_scenes(tmp_path / name)


@pytest.mark.parametrize(("kind", "mode"), [("directory of the download", "decision"), ("full", "direct")])
def test_the_evaluation_file_goes_straight_into_eval(
    engine: VLLMModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, mode: str
) -> None:
    scenes, out = EVALUATION_FILES[kind](tmp_path), tmp_path / "out"
    command = ["eval", "--model", "tiny-base", "--scenes", scenes, "--out", out, "--mode", mode]
    command += ["--repeat", 1, "--max-tokens", 16]
    app([str(part) for part in command], standalone_mode=False)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["read"] == {"read": ROWS + BLANKED, "kept": ROWS, "blanked": BLANKED, "duplicate": 0}
    assert metrics["scenes"]["by_dataset"] == {"steam": ROWS}
    assert metrics["models"]["tiny-base"]["counts"]["full"]["answered"] == ROWS
    # without a log there are only the baselines that need none, and a note says so
    assert set(metrics["baselines"]) == {"uniform", "best position of this file"}
    assert metrics["baselines"]["uniform"]["macro"]["accuracy"]["value"] == pytest.approx(0.2)
    # the choice is at the first three of five positions, equally often
    position = metrics["baselines"]["best position of this file"]["macro"]["accuracy"]["value"]
    assert position == pytest.approx(9 / 29)
    [note] = metrics["notes"]
    assert "baselines that need one" in note
    assert "no probe" in metrics["probe"]
    predictions = pl.read_parquet(out / "predictions.parquet")
    assert len(predictions) == ROWS and predictions["probs"].list.sum().is_close(1.0, abs_tol=1e-6).all()
    assert note.split(":")[0] in " ".join(capsys.readouterr().out.split())

    app(["report", str(out)], standalone_mode=False)
    [page] = out.glob("*.html")
    assert "tiny-base" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("method", ["sft", "dpo"])
@pytest.mark.launch
def test_the_training_rows_go_straight_into_training(model_dir: str, tmp_path: Path, method: str) -> None:
    """Two steps on the CPU, started as a person starts them."""
    directory, file = tmp_path / "UserMirrorer" / "data", tmp_path / "UserMirrorer-Full.jsonl.gz"
    parquet(directory / "train-00000-of-00001.parquet", training_rows(), TRAINING)
    json_lines(file, training_rows(), ("user_id", "item_id", "timestamp", "impression_list", "item_pos"))
    pairs = {"sft": directory, "dpo": file}[method]
    recipe = {
        "model_name_or_path": model_dir, "dataset_name": str(pairs), "output_dir": str(tmp_path / "out"),
        "max_length": 1024, "max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-3,
        "logging_steps": 1, "save_strategy": "no", "use_cpu": True, "bf16": False, "report_to": "none",
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = ["train", method, "--config", tmp_path / "recipe.yaml"]
    command += ["--accelerate", ROOT / "accelerate_configs" / "cpu.yaml"]
    assert not app([str(part) for part in command], standalone_mode=False)  # its exit status, if it has one
    record = json.loads((tmp_path / "out" / "usermirrorer.json").read_text())
    assert record["run"]["steps"] == 2
    assert (record["data"]["rows"], record["data"]["kept"]) == (14, 12)
    assert record["data"]["dropped"] == {"blanked for licence": 2}
    # the rows have their own instruction, so `eval` needs --prompt
    assert record["prompt"] is None
