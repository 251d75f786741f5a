"""The examples run as a reader would run them, and end in what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest


ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(script: str, *arguments: str, cwd: Path) -> str:
    """What the example prints, run in a directory of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_examples_are_short_and_shown() -> None:
    assert [path.name for path in EXAMPLES] == ["own_log.py", "simulate_lists.py"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 80
        assert f"(examples/{path.name})" in readme


@pytest.mark.slow
def test_own_log(tmp_path: Path) -> None:
    printed = run("own_log.py", "here", cwd=tmp_path)
    scenes = pl.read_parquet(tmp_path / "here" / "scenes" / "library" / "test" / "*.parquet")
    assert len(scenes) == 200 and set(scenes["choice_cnt"]) == {5}
    text = scenes["text"][0]
    shown = r"Volume \d+ - (crime|poetry|travel|cooking)"
    assert re.match(rf"borrowed {shown}, [\w ]+( ago)?(: [345]/5)?$", text["history"].splitlines()[0])
    assert all(re.fullmatch(rf"{shown}(, borrowed \d+ times? so far)?", option) for option in text["action_list"])
    # a look at a scene, and the probe of both splits
    assert "# Exposure List" in printed
    assert printed.count("probe: item identity") == 2


@pytest.mark.engine
def test_simulate_lists(tmp_path: Path) -> None:
    printed = run("simulate_lists.py", cwd=tmp_path)
    taste = "(sweet|salty|sour|bitter|spicy|smoky)"
    assert len(re.findall(rf"^u\d{{4}} picks {taste}-\w+ \((popular|similar)\): ", printed, re.M)) == 12
    shares = dict(re.findall(r"^(popular|similar): (0\.\d\d) of the choices expected$", printed, re.M))
    assert sum(map(float, shares.values())) == pytest.approx(1, abs=0.011)


def test_the_real_run_asks_for_its_log_in_one_sentence(tmp_path: Path) -> None:
    for words in ([], ["--raw", str(tmp_path)]):
        command = [sys.executable, str(ROOT / "benchmarks" / "real.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert "is not there; fetch ml-100k from grouplens.org and run make real RAW=DIR" in done.stderr
