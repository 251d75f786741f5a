"""Engines on a Ray cluster of two nodes, of which one is killed in the middle: the bytes of one engine."""

from __future__ import annotations

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
from usermirrorer.llm.engines.ray_pool import RayPool
from usermirrorer.llm.engines.vllm import VLLMModel
from usermirrorer.steps import DecideSettings, EngineSettings


ray = pytest.importorskip("ray", reason="NOT TESTED: ray is not installed")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SETTINGS = DecideSettings(n=2, prompt="plain", max_tokens=24)


@pytest.fixture
def cluster():
    """A head without room for an engine, and two nodes with room for one each."""
    started = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [started.add_node(num_cpus=1) for _ in range(2)]
    yield started, nodes
    close()
    ray.shutdown()
    started.shutdown()


def test_two_nodes_of_which_one_is_killed_give_the_bytes_of_one_engine(
    engine: VLLMModel, tmp_path: Path, cluster, capsys: pytest.CaptureFixture
) -> None:
    started, nodes = cluster
    one, two = tmp_path / "one", tmp_path / "two"
    for work in (one, two):
        toy_scenes(work, 400)
        decide("toy", work, "weak", load_model("scripted:noisy"), SETTINGS)
    decide("toy", one, "strong", engine, SETTINGS)
    score("toy", one, engine)
    both = load_model(engine.name, engine=EngineSettings(runner="ray", address=started.address, data_parallel_size=2))
    pool = both.session()
    assert isinstance(pool, RayPool)
    while not all(actor.slots for actor in pool.actors):  # so that either node has work when one is killed
        pool._receive()
    lost: list[object] = []

    def kill_one_at_work() -> None:
        directory = two / "decisions/toy/strong"
        while not journal_rows(directory):
            time.sleep(0.005)
        started.remove_node(nodes[0], allow_graceful=False)
        lost.append(nodes[0])

    killer = threading.Thread(target=kill_one_at_work)
    killer.start()
    decide("toy", two, "strong", both, SETTINGS)
    killer.join()
    score("toy", two, both)
    assert lost
    assert "was lost" in " ".join(capsys.readouterr().out.split())
    for place in ("decisions/toy/strong", "predictions/toy/strong", "predictions/toy/weak"):
        assert shards(one / place) == shards(two / place) != {}


def test_a_cluster_that_is_not_there_is_one_sentence() -> None:
    model = load_model("vllm:tiny-base", engine=EngineSettings(runner="ray", address="127.0.0.1:1"))
    with pytest.raises(UserError, match="127.0.0.1:1.*no Ray cluster is there"):
        model.session()
