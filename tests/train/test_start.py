"""How a launched training ends: with its own exit status, one sentence, and in good order after a signal."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from handmade_pairs import write_yaml
from test_training import same, weights

from usermirrorer.train.records.resume import last_checkpoint


ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.launch


def launched(method: str, recipe: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "usermirrorer", "train", method, "--config", str(recipe), "--accelerate", *flags]


@pytest.mark.parametrize("processes", [1, 2])
def test_what_fails_inside_is_one_sentence_and_its_status(processes, settings, pairs, tmp_path):
    """No page of accelerate's or torchrun's own, and no sentence for each process."""
    recipe = write_yaml(tmp_path / "r.yaml", {**settings, "max_length": 16})
    flags = ["cpu"] if processes == 1 else ["ddp", "--num_processes", "2", "--mixed_precision", "no"]
    done = subprocess.run(launched("sft", recipe, *flags), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stderr.count("error: ") == 1 and "are over max_length 16" in done.stderr
    assert "Traceback" not in done.stderr and "ChildFailedError" not in done.stderr


def test_what_is_shown_can_be_left_out_or_read_by_programs(settings, tmp_path):
    recipe = write_yaml(tmp_path / "r.yaml", settings)
    command = launched("sft", recipe, "cpu")
    shown = [
        subprocess.run([*command, flag], cwd=ROOT, capture_output=True, text=True, timeout=120)
        for flag in ("--json", "--quiet")
    ]
    assert all(done.returncode == 0 for done in shown), [done.stderr[-3000:] for done in shown]
    facts = json.loads(shown[0].stdout)
    assert facts["directory"] == settings["output_dir"] and facts["method"] == "sft"
    assert facts["run"]["steps"] == settings["max_steps"] and facts["run"]["last_loss"] > 0
    assert " ".join(shown[1].stdout.split()) == f"saved: {settings['output_dir']}"  # it is complete already
    assert shown[0].stderr == shown[1].stderr == ""
    refused = subprocess.run(
        [*command, "--json", "--max_length", "16"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert refused.returncode == 2 and refused.stdout == "" and "are over max_length 16" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_saves_once_in_all_processes(number, settings, tmp_path):
    settings |= {"max_steps": 40, "per_device_train_batch_size": 1}
    recipe = write_yaml(tmp_path / "r.yaml", settings)
    command = launched("sft", recipe, "ddp", "--num_processes", "2", "--mixed_precision", "no")
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    said = ""
    while " 2/40" not in said:
        letter = process.stderr.read(1)
        assert letter, said[-3000:]
        said += letter
    os.kill(process.pid, number)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, said[-3000:]
    assert said.count(f"stopped by {number.name} after step") == 1 and "Traceback" not in said
    out = Path(settings["output_dir"])
    stopped = json.loads((Path(last_checkpoint(out)) / "trainer_state.json").read_text())["global_step"]
    assert 0 < stopped < 40
    if number == signal.SIGTERM:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and "resuming from" in done.stderr, done.stderr[-3000:]
        again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert again.returncode == 0 and f"already trained: {out}, 40 steps" in again.stderr
        whole = write_yaml(tmp_path / "w.yaml", {**settings, "output_dir": str(tmp_path / "whole")})
        command[command.index(str(recipe))] = str(whole)
        assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120).returncode == 0
        assert same(weights(out), weights(tmp_path / "whole"))
