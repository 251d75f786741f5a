"""Requests to servers as a stream: asked one by one, answered in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.requests import Answer, Request, Usage, Write
from usermirrorer.llm.servers.background import Ask, start
from usermirrorer.llm.servers.refusals import ServerLost


class ServerSession:
    """A `Session` in which `ready` gives what asks a request, and `most` requests at a time keep the servers busy."""

    def __init__(self, ready: Callable[[Request], Ask[Answer]], most: int, usage: Usage) -> None:
        self._ready = ready
        self._most = most
        self.slots = most
        self.usage = usage
        self._waiting: dict[int, Future[Answer]] = {}
        self._done: SimpleQueue[tuple[int, Future[Answer]]] = SimpleQueue()
        self._lost: StepFailed | UserError | None = None

    def prepare(self, requests: Sequence[Request]) -> list[Ask[Answer]]:
        """See `Session`; the first call asks the servers what they can do."""
        # Slots count answers, of which a server gives several to one request.
        answers = max((request.n for request in requests if isinstance(request, Write)), default=1)
        self.slots = max(self.slots, self._most * answers)
        return [self._ready(request) for request in requests]

    def submit(self, key: int, prepared: Any) -> None:
        """See `Session`."""
        done = self._done
        self._waiting[key] = future = start(prepared())
        future.add_done_callback(lambda future: done.put((key, future)))

    def collect(self) -> list[tuple[int, Answer | Exception]]:
        """See `Session`. What was under way when a server was lost may still be answered, so that is raised last."""
        while self._waiting:
            answers: list[tuple[int, Answer | Exception]] = []
            for key, future in self._ended():
                del self._waiting[key]
                error = future.exception()
                if isinstance(error, UserError | ServerLost):
                    self._lost = error
                elif error is None or isinstance(error, StepFailed):
                    answers.append((key, error or future.result()))
                else:
                    raise error
            if answers:
                return answers
        if self._lost is not None:
            raise self._lost
        return []

    def close(self) -> None:
        """See `Session`: connections on which a request waits are dropped, and vLLM ends its work on it."""
        for future in self._waiting.values():
            future.cancel()
        self._waiting, self._done = {}, SimpleQueue()

    def _ended(self) -> list[tuple[int, Future[Answer]]]:
        ended = [self._done.get()]
        with suppress(Empty):
            while True:
                ended.append(self._done.get_nowait())
        return ended
