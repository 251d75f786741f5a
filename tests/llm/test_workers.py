"""Two engines in processes of their own: the bytes of one, also if one is killed in the middle."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from built import shards, toy_scenes

from usermirrorer.data.artefacts.store import journal_rows
from usermirrorer.data.decisions.decide import decide
from usermirrorer.data.decisions.score import score
from usermirrorer.errors import UserError
from usermirrorer.llm import load_model
from usermirrorer.llm.engines.engine import close
from usermirrorer.llm.engines.pools import _pools
from usermirrorer.llm.engines.vllm import VLLMModel
from usermirrorer.steps import DecideSettings, EngineSettings


pytestmark = [pytest.mark.engine, pytest.mark.slow]

SETTINGS = DecideSettings(n=2, prompt="plain", max_tokens=24)


def kill_one_at_work(directory: Path, killed: list[int]) -> None:
    """SIGKILL the first worker as soon as the step has rows."""
    while not journal_rows(directory):
        time.sleep(0.005)
    [workers] = _pools.values()
    killed.append(workers.workers[0].process.pid)  # type: ignore[attr-defined]
    os.kill(killed[0], signal.SIGKILL)


def test_two_workers_of_which_one_is_killed_give_the_bytes_of_one(
    engine: VLLMModel, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for work in (one, two):
        toy_scenes(work, 400)
        decide("toy", work, "weak", load_model("scripted:noisy"), SETTINGS)
    decide("toy", one, "strong", engine, SETTINGS)
    score("toy", one, engine)
    pair = load_model(engine.name, engine=EngineSettings(data_parallel_size=2))
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_at_work, args=(two / "decisions/toy/strong", killed))
    killer.start()
    try:
        decide("toy", two, "strong", pair, SETTINGS)
        killer.join()
        score("toy", two, pair)
    finally:
        close()
    told = " ".join(capsys.readouterr().out.split())
    assert killed and re.search(r"died \(signal 9\): its [1-9]\d* requests are asked again", told)
    for place in ("decisions/toy/strong", "predictions/toy/strong", "predictions/toy/weak"):
        assert shards(one / place) == shards(two / place) != {}


def test_what_a_worker_refuses_ends_in_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    broken = load_model(f"vllm:{tmp_path}", engine=EngineSettings(data_parallel_size=2))
    with pytest.raises(UserError, match="model"):
        broken.session()
    close()
