"""Every step, killed by SIGKILL at moments of all kinds and started again, ends in the same bytes.

A few kills here; `make kills` has fifty.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from usermirrorer.data.artefacts.store import MANIFEST


pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("USERMIRRORER_KILLS", "6"))
TOGETHER = 6
"""Kills of one run from raw files to answers."""

RECIPE = {
    "name": "kills", "seed": 0, "prompt": "plain", "embedder": "tfidf",
    "domains": [{"name": "toy", "exposure": "logged", "scenes": {"train": 1500, "test": 300}}],
    "strong": {"llm": "scripted:reader", "n": 4}, "weak": {"llm": "scripted:noisy", "n": 2},
    "predictor": {"llm": "scripted:reader"}, "distill": {"num": 300, "min_accepted": 1},
}  # fmt: skip

COMMANDS = (
    "build --config {}/recipe.yaml --work {}/work",
    "eval --model scripted:reader --prompt plain --repeat 3 --scenes {}/work/scenes/toy/test --out {}/eval",
    "simulate --model scripted:reader --requests {}/requests.jsonl --domain toy --work {}/work --out {}/o.jsonl",
)

MOMENTS = (
    (
        *("work/tables/toy/*", "work/embeddings/toy/*", "work/scenes/toy/train/*", "work/scenes/toy/test/*"),
        *("work/features/toy/**/*", "work/decisions/toy/strong/.journal*", "work/decisions/toy/strong/*.parquet"),
        *("work/decisions/toy/weak/.journal*", "work/decisions/toy/.weak.manifest*", "work/pairs/kills/*"),
        *("work/predictions/toy/strong/.journal*", "work/predictions/toy/weak/.journal*"),
        *("work/predictions/toy/*/*.parquet", "work/predictions/toy/.weak.manifest*"),
    ),
    ("eval/.parts/*", "eval/.parts/*/.journal*", "eval/.parts/*.parquet", "eval/*.json"),
    (".o.jsonl.state*", ".o.jsonl.answers/.journal*", "o.jsonl"),
)
"""Files that appear or change while each command runs."""


def test_a_killed_run_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    for command in COMMANDS:
        run(command, whole)
        prepare_requests(whole)
    expected = contents(whole)
    assert len(expected) > 30
    rng, killed, missed = np.random.default_rng(0), 0, 0
    while killed < KILLS:
        directory = start(tmp_path / f"run-{killed}-{missed}")
        moments = [(number, place) for number, places in enumerate(MOMENTS) for place in places]
        chosen = sorted(rng.choice(len(moments), min(TOGETHER, KILLS - killed), replace=False).tolist())
        for number, command in enumerate(COMMANDS):
            for place in [place for index in chosen for at, place in [moments[index]] if at == number]:
                hit = kill(command, directory, place, float(rng.exponential(0.1)))
                print(f"{'killed' if hit else 'missed'}: {command.split()[0]} at {place}")
                killed, missed = killed + hit, missed + (not hit)
            run(command, directory)
            prepare_requests(directory)
        found = contents(directory)
        assert found.keys() == expected.keys()
        assert [name for name in found if found[name] != expected[name]] == []
        assert missed < 2 * KILLS + 10, "the moments are not met: the steps have become too quick, or write elsewhere"
    print(f"{killed} kills, {missed} moments missed, {len(expected)} files equal each time")


def start(directory: Path) -> Path:
    directory.mkdir()
    (directory / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return directory


def prepare_requests(directory: Path) -> None:
    """The lists of the train scenes as requests, once they are there."""
    rows = pl.read_parquet(directory / "work/scenes/toy/train/*.parquet").sort("scene_id")
    lines = [
        json.dumps({"user_id": user, "items": items, "timestamp": time.isoformat()})
        for user, items, time in rows.select("user_id", "impression_list", "timestamp").iter_rows()
    ]
    (directory / "requests.jsonl").write_text("\n".join(lines) + "\n")


def words(command: str, directory: Path) -> list[str]:
    return [sys.executable, "-m", "usermirrorer", *command.replace("{}", str(directory)).split()]


def run(command: str, directory: Path) -> None:
    done = subprocess.run(words(command, directory), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def kill(command: str, directory: Path, place: str, delay: float) -> bool:
    """Kill a command so many seconds after a file at `place` has appeared or changed; whether it came to that."""
    before = stamps(directory, place)
    process = subprocess.Popen(
        words(command, directory), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and stamps(directory, place) == before:
        time.sleep(0.002)
    time.sleep(delay)
    hit = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL) if hit else None
    process.wait()
    return hit


def stamps(directory: Path, place: str) -> dict[str, tuple[int, int]]:
    return dict(_stamps(directory, place))


def _stamps(directory: Path, place: str) -> Iterator[tuple[str, tuple[int, int]]]:
    for path in directory.glob(place):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        yield str(path), (status.st_size, status.st_mtime_ns)


def contents(directory: Path) -> dict[str, bytes]:
    """What each file that stays holds; of manifests that of which the bytes depend."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_dir() or path.name.endswith((".lock", ".state")) or path.name in (".lock", "run.json"):
            continue
        content = path.read_bytes()
        if path.name.endswith(MANIFEST):
            content = json.dumps(json.loads(content)["content"], sort_keys=True).encode()
        found[name] = content.replace(str(directory).encode(), b"")
    return found
