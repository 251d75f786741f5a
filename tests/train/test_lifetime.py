"""One training at a time in a directory, and none that outlives its launcher."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from handmade_pairs import write_yaml

from usermirrorer.data.artefacts.store import locked
from usermirrorer.errors import UserError
from usermirrorer.train.launching import lifetime
from usermirrorer.train.launching.launch import launch


ROOT = Path(__file__).parents[2]


def test_an_output_dir_is_held_by_one_process(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "sft"
    lifetime.hold(out)
    lifetime.hold(out)  # the same process may train there again, such as in a notebook
    with pytest.raises(UserError, match="sft is being written by another process"), locked(lifetime.lock_of(out), out):
        pass
    lifetime.release(out)
    with locked(lifetime.lock_of(out), out):
        pass


def test_a_second_training_in_a_directory_is_refused_before_it_starts(settings, tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "sft.yaml", settings)
    out = Path(settings["output_dir"])
    with locked(lifetime.lock_of(out), out), pytest.raises(UserError, match="being written by another process"):
        launch("sft", recipe, ROOT / "accelerate_configs" / "cpu.yaml")


def test_a_process_without_a_launcher_goes_on(monkeypatch) -> None:
    for name in (lifetime.LAUNCHER, "ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert lifetime._launchers() == []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert [one.pid for one in lifetime._launchers()] == [os.getppid()]


DEEPSPEED = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="NOT TESTED: DeepSpeed needs a C++ compiler (g++)"),
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="NOT TESTED: deepspeed is not installed"),
]


@pytest.mark.launch
@pytest.mark.parametrize(("which", "processes"), [("usermirrorer", 1), pytest.param("accelerate", 2, marks=DEEPSPEED)])
def test_a_killed_launcher_leaves_no_workers(settings, tmp_path: Path, which: str, processes: int) -> None:
    recipe = write_yaml(tmp_path / "sft.yaml", settings | {"max_steps": 100_000})
    config = str(ROOT / "accelerate_configs" / ("cpu.yaml" if processes == 1 else "zero2.yaml"))
    commands = {
        "usermirrorer": ["-m", "usermirrorer", "train", "sft", "--config", str(recipe), "--accelerate", config],
        "accelerate": ["-m", "accelerate.commands.launch", "--config_file", config, "--num_processes", str(processes),
                       "--mixed_precision", "no", "--main_process_port", "0", "-m", "usermirrorer.train.sft",
                       "--config", str(recipe)],
    }  # fmt: skip
    with open(tmp_path / "log", "wb") as log:
        launcher = subprocess.Popen([sys.executable, *commands[which]], cwd=ROOT, stdout=log, stderr=log)
    try:
        workers = _training(launcher, tmp_path / "log")
        assert len(workers) >= processes
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
        _, left = psutil.wait_procs(workers, timeout=30)
        assert not left
    finally:
        for process in psutil.Process(launcher.pid).children(recursive=True) if launcher.poll() is None else []:
            process.kill()
        launcher.kill()


def _training(launcher: subprocess.Popen, log: Path) -> list[psutil.Process]:
    """The processes that a launcher has started, once they train."""
    until = time.monotonic() + 180
    while time.monotonic() < until and launcher.poll() is None:
        if b"'loss'" in log.read_bytes():
            return psutil.Process(launcher.pid).children(recursive=True)
        time.sleep(0.2)
    raise AssertionError(f"no training after three minutes: {log.read_text()[-3000:]}")
