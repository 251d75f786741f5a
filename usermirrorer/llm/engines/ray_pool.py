"""Engines of one model on the nodes of a Ray cluster: actors that hold one each, fed from one queue.

The requests of a step travel, not its shards: this process reads, renders and writes, so that the bytes are those of
one engine, whatever node answered. An actor that is lost with its node is started anew where there is room, and what
it had not answered is asked of the others meanwhile.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from queue import Empty, Queue
from typing import Any

from usermirrorer.console import warn
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.extras import need
from usermirrorer.llm.execution import weight
from usermirrorer.llm.requests import Answer, Request, Usage
from usermirrorer.steps import EngineSettings


TOGETHER = 16
"""Requests that travel at a time."""

PATIENCE = 600.0
"""Seconds to wait for a first engine, or for one in the place of the last that was lost."""


class Engine:
    """What an actor holds: an engine, and a thread that keeps it busy with all that has been asked."""

    def __init__(self, path: str, settings: EngineSettings) -> None:
        from usermirrorer.llm.engines.vllm import VLLMModel, VLLMSession

        self.session = VLLMSession(VLLMModel(path, settings))
        self.asked: Queue[tuple[Request, asyncio.Future[Any], Any]] = Queue()
        threading.Thread(target=self._run, daemon=True).start()

    async def slots(self) -> int:
        return self.session.slots

    async def answer(self, requests: list[Request]) -> tuple[list[Any], tuple[int, ...]]:
        """The answer to each request, an exception for each that has none, and what was used for them."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in requests]
        for request, future in zip(requests, futures, strict=True):
            self.asked.put((request, future, loop))
        answers = await asyncio.gather(*futures, return_exceptions=True)
        used, self.session.usage = self.session.usage, Usage()
        return answers, astuple(used)

    def _run(self) -> None:
        session, key = self.session, 0
        waiting: dict[int, tuple[asyncio.Future[Any], Any]] = {}
        while True:
            batch: list[tuple[Request, asyncio.Future[Any], Any]] = []
            try:
                while len(batch) < TOGETHER:
                    batch.append(self.asked.get(block=not waiting and not batch))
            except Empty:
                pass
            for request, future, loop in batch:
                try:
                    [prepared] = session.prepare([request])
                except (UserError, StepFailed) as error:
                    loop.call_soon_threadsafe(future.set_exception, error)
                    continue
                waiting[key] = future, loop
                session.submit(key, prepared)
                key += 1
            for done, answer in session.collect() if waiting else []:
                future, loop = waiting.pop(done)
                told = future.set_exception if isinstance(answer, Exception) else future.set_result
                loop.call_soon_threadsafe(told, answer)


def _reach(address: str) -> None:
    """Raises OSError if nothing listens at `HOST:PORT`; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@dataclass
class _Actor:
    """An engine somewhere, and how busy it is; it has no slots until it is ready."""

    number: int
    handle: Any
    slots: int = 0
    busy: int = 0


class RayPool:
    """A session over all actors."""

    def __init__(self, path: str, settings: EngineSettings) -> None:
        need("ray", "ray", "runner: ray")
        import ray

        self.ray, self.path, self.settings = ray, path, settings
        if not ray.is_initialized():
            try:
                _reach(settings.address)
                ray.init(address=settings.address, log_to_driver=False, logging_level="error")
            except (OSError, ray.exceptions.RayError) as error:
                told = f"address {settings.address!r}: no Ray cluster is there ({error})"
                raise UserError(f"{told}; start one with `ray start --head`") from None
        self.usage = Usage()
        self.ready: dict[Any, _Actor] = {}
        """By the reference to its number of slots, the actors that are starting"""
        self.asked: dict[Any, tuple[_Actor, list[tuple[int, Request]]]] = {}
        """By the reference to their answers, requests with their keys"""
        self.waiting: list[tuple[int, Request]] = []
        """Requests that have not been sent"""
        self.actors = [self._start(number) for number in range(self._copies())]
        while not any(actor.slots for actor in self.actors):
            self._receive()
        self.slots = len(self.actors) * max(actor.slots for actor in self.actors)

    def prepare(self, requests: Sequence[Request]) -> Sequence[Request]:
        """The requests themselves: the actors tokenise them."""
        return requests

    def submit(self, key: int, prepared: Any) -> None:
        self.waiting.append((key, prepared))
        if len(self.waiting) >= TOGETHER:
            self._send()

    def collect(self) -> list[tuple[int, Answer | Exception]]:
        self._send()
        while not (answers := self._receive()):
            pass
        return answers

    def close(self) -> None:
        """Forget what is asked. The actors finish it for nobody."""
        self.waiting.clear()
        self.asked.clear()
        for actor in self.actors:
            actor.busy = 0

    def shut(self) -> None:
        """End the actors."""
        for actor in self.actors:
            self.ray.kill(actor.handle)

    def _copies(self) -> int:
        """As many engines as set, else as many as the cluster has GPUs for."""
        if self.settings.data_parallel_size > 1:
            return self.settings.data_parallel_size
        return max(1, int(self.ray.cluster_resources().get("GPU", 0)) // self.settings.tensor_parallel_size)

    def _start(self, number: int) -> _Actor:
        gpus = self.settings.tensor_parallel_size if self.ray.cluster_resources().get("GPU") else 0
        remote = self.ray.remote(num_gpus=gpus, num_cpus=1, max_concurrency=1000)(Engine)
        actor = _Actor(number, remote.remote(self.path, replace(self.settings, data_parallel_size=1, runner="local")))
        self.ready[actor.handle.slots.remote()] = actor
        return actor

    def _send(self) -> None:
        """Send what waits to the actors that have the least to do."""
        while self.waiting and (ready := [actor for actor in self.actors if actor.slots]):
            actor = min(ready, key=lambda one: one.busy)
            some, self.waiting = self.waiting[:TOGETHER], self.waiting[TOGETHER:]
            self.asked[actor.handle.answer.remote([request for _, request in some])] = actor, some
            actor.busy += sum(weight(request) for _, request in some)

    def _receive(self) -> list[tuple[int, Answer | Exception]]:
        """The answers in the next message of an actor; none if it says something else."""
        done, _ = self.ray.wait([*self.ready, *self.asked], num_returns=1, timeout=PATIENCE)
        if not done:
            told = "no engine of this model became ready" if not self.asked else "nothing was answered"
            raise StepFailed(f"{told} on the Ray cluster in {PATIENCE:.0f} s: look at `ray status`; start again")
        [reference] = done
        actor, some = (self.ready.pop(reference), []) if reference in self.ready else self.asked.pop(reference)
        actor.busy -= sum(weight(request) for _, request in some)
        try:
            result = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, UserError | StepFailed) else error) from None
        except self.ray.exceptions.RayError as error:
            self.waiting += some
            if self.actors[actor.number] is actor:
                warn(f"an engine of {self.path} was lost ({type(error).__name__}): its requests are asked again")
                self.ray.kill(actor.handle)  # it may be no more than out of reach
                self.actors[actor.number] = self._start(actor.number)
            self._send()
            return []
        if not some:
            actor.slots = result
            self._send()
            return []
        answers, used = result
        self.usage.add_all(Usage(*used))
        return [(key, answer) for (key, _), answer in zip(some, answers, strict=True)]
