"""A server on loopback for every test that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from loopback_server import KEY, SOON, Server

from usermirrorer.llm.servers.openai import OpenAIModel


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    running = Server().start()
    yield running
    running.stop()


@pytest.fixture
def model(server: Server) -> OpenAIModel:
    return OpenAIModel("m", base_url=server.url, patience=SOON)


@pytest.fixture
def more_servers(server: Server) -> Iterator[Callable[[], Server]]:
    """Starts further servers."""
    running: list[Server] = []

    def start() -> Server:
        running.append(Server().start())
        return running[-1]

    yield start
    for one in running:
        one.stop()
