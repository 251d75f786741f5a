"""What an output_dir holds decides whether a run starts, goes on, is over or is refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from handmade_pairs import write_yaml
from test_training import interrupted, same, train, weights

from usermirrorer.errors import UserError
from usermirrorer.train.records.resume import last_checkpoint


pytestmark = pytest.mark.launch


@pytest.fixture
def whole(settings, tmp_path) -> Path:
    settings |= {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    return train("sft", tmp_path, settings)


def test_a_run_with_other_settings_is_refused_and_its_files_stay(whole, settings, tmp_path):
    stopped = interrupted(whole, 2, tmp_path / "stopped")
    settings["output_dir"] = str(stopped)
    before = (stopped / "usermirrorer.json").read_bytes()
    for change, told in [
        ({"learning_rate": 1e-4}, "learning_rate: 0.001 → 0.0001"),
        ({"weight_decay": 0.1}, "weight_decay: 0.0 → 0.1"),
        ({"gradient_accumulation_steps": 2}, "rows per step: 2 → 4"),
    ]:
        with pytest.raises(UserError, match=rf"other settings \({re.escape(told)}\); .*--fresh"):
            train("sft", tmp_path, {**settings, **change})
        assert (stopped / "usermirrorer.json").read_bytes() == before
    # What does not bear on what is learnt may change, and a default may be spelt out.
    train("sft", tmp_path, {**settings, "logging_steps": 2, "save_total_limit": 1, "weight_decay": 0.0})
    assert same(weights(stopped), weights(whole))


def test_a_complete_run_says_so_and_trains_nothing(whole, settings, tmp_path, caplog):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    with pytest.raises(SystemExit) as ended, caplog.at_level("INFO", logger="usermirrorer.train"):
        train("sft", tmp_path, settings)
    assert ended.value.code == 0
    assert f"already trained: {whole}, 4 steps" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_fresh_starts_over_and_deletes_only_what_a_training_wrote(whole, settings, tmp_path):
    (whole / "notes.txt").write_text("mine")
    out = train("sft", tmp_path, {**settings, "learning_rate": 1e-4, "max_steps": 2}, "--fresh")
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-2"]
    record = json.loads((out / "usermirrorer.json").read_text())
    assert (record["recipe"]["learning_rate"], record["run"]["steps"]) == (1e-4, 2)
    assert "fresh" not in record["recipe"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.safetensors").write_text("not yours")
    with pytest.raises(UserError, match="--fresh: .*mine holds no training run"):
        train("sft", tmp_path, {**settings, "output_dir": str(mine)}, "--fresh")
    assert (mine / "model.safetensors").read_text() == "not yours"


def test_a_truncated_checkpoint_is_skipped(whole, tmp_path):
    stopped = interrupted(whole, 2, tmp_path / "stopped")
    assert last_checkpoint(stopped) == str(stopped / "checkpoint-2")
    (stopped / "checkpoint-2" / "trainer_state.json").write_text('{"global_step": 2, "log_hist')
    assert last_checkpoint(stopped) is None
    weights_cut = interrupted(whole, 2, tmp_path / "cut")
    file = weights_cut / "checkpoint-2" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert last_checkpoint(weights_cut) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on_to_the_same_weights(number, settings, tmp_path):
    settings |= {"max_steps": 60}
    whole = train("sft", tmp_path, settings)
    stopped = tmp_path / "stopped"
    recipe = write_yaml(tmp_path / "stopped.yaml", {**settings, "output_dir": str(stopped)})
    command = [sys.executable, "-m", "usermirrorer.train.sft", "--config", str(recipe)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    said = ""
    while "/60" not in said:
        said += process.stderr.read(1)
    time.sleep(0.2)
    os.kill(process.pid, number)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, said[-3000:]
    [sentence] = [line for line in said.splitlines() if "stopped by" in line]
    assert number.name in sentence and "the same command goes on from there" in sentence
    assert "Traceback" not in said
    assert last_checkpoint(stopped) and not (stopped / "model.safetensors").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "resuming from" in done.stderr
    assert same(weights(stopped), weights(whole))
