"""Requests that arrive one by one, answered in batches: what the model does at once costs little more than one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar


WINDOW_SECONDS = 0.01
"""How long the first request waits for others."""

LARGEST = 256
"""Most requests of one batch. Others that arrive while a batch is answered are the next one."""

In = TypeVar("In")
Out = TypeVar("Out")


class Batcher(Generic[In, Out]):
    """Collects the requests of one event loop, and has `answer` answer them batch by batch in a thread.

    `answer` returns a result or an exception for every request.
    """

    def __init__(self, answer: Callable[[Sequence[In]], Sequence[Out | Exception]]) -> None:
        self.answer = answer
        self.waiting: list[tuple[In, asyncio.Future[Out]]] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.running: asyncio.Task[None] | None = None

    async def ask(self, request: In) -> Out:
        """The answer to one request. Raises what `answer` raised or returned for it."""
        loop = asyncio.get_running_loop()
        if self.loop is not loop:  # the loop before has ended, and with it whatever was waiting there
            self.loop, self.waiting, self.running = loop, [], None
        future: asyncio.Future[Out] = loop.create_future()
        self.waiting.append((request, future))
        if self.running is None or self.running.done():
            self.running = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        await asyncio.sleep(WINDOW_SECONDS)
        while self.waiting:
            batch, self.waiting = self.waiting[:LARGEST], self.waiting[LARGEST:]
            batch = [(request, future) for request, future in batch if not future.done()]  # others were cancelled
            try:
                answers = await asyncio.to_thread(self.answer, [request for request, _ in batch])
            except Exception as error:
                answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
