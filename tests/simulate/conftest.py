"""A model that answers at once, and a small log to ask it about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from built import Guesser
from raw_shop import write_recbole

from usermirrorer import Simulator
from usermirrorer.data.log.prepare import prepare
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.llm.scripted import load_scripted
from usermirrorer.steps import Sampling


class Fake(Guesser):
    """Writes as `scripted:reader` does; probabilities depend on the text alone. Counts what it is asked."""

    name = "openai:fake"

    def __init__(self) -> None:
        self.writer = load_scripted("reader")
        self.batches: list[int] = []

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        self.batches.append(len(conversations))
        return self.writer.generate(conversations, n, sampling, seeds)


@pytest.fixture(scope="session")
def new_fake() -> type[Fake]:
    return Fake


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The --work of a prepared shop: towns and years of users, stars of events, prices, release dates, counts."""
    work, raw = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("raw")
    write_recbole(raw)
    prepare(str(raw / "shop.yaml"), raw, work)
    return work


@pytest.fixture
def user(fake: Fake, shop: Path) -> Simulator:
    return Simulator.open(fake, shop, "shop", prompt="plain", samples=3)
