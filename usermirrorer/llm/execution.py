"""The one execution layer: many tasks at a time on a session, each answered as soon as the model is ready for it.

While the model answers, a thread of its own renders and tokenises what comes next, so that the model never waits for
Python, nor for the slowest scene of a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from queue import Empty, Full, Queue
from typing import Any, Generic

from usermirrorer.errors import StepFailed
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.llm.requests import Answer, Request, Session, T, Task, Usage, Weigh, Write


TOGETHER = 32
"""Tasks that are rendered and tokenised at a time."""

_END = object()


@dataclass
class _Open(Generic[T]):
    """A task that waits for answers."""

    index: int
    task: Task[T]
    answers: list[Answer | None] = field(default_factory=list)
    missing: int = 0
    failure: StepFailed | None = None


def run(session: Session, tasks: Iterable[Task[T]]) -> Iterator[tuple[int, T | StepFailed]]:
    """The result of every task with its place among them, in the order in which they end.

    A task of which a request failed has that failure for its result, and the others go on. Tasks are taken from their
    iterable as room is made for them. Raises what a task, the iterable or the session raises.
    """
    ahead = _Ahead(session, tasks)
    owners: dict[int, tuple[_Open[T], int]] = {}
    weights: dict[int, int] = {}
    keys = iter(range(2**62))
    busy = 0

    def ask(opened: _Open[T], requests: Sequence[Request], prepared: Sequence[object]) -> None:
        nonlocal busy
        opened.answers, opened.missing = [None] * len(requests), len(requests)
        for place, (request, ready) in enumerate(zip(requests, prepared, strict=True)):
            key = next(keys)
            owners[key], weights[key] = (opened, place), weight(request)
            busy += weights[key]
            session.submit(key, ready)

    try:
        while True:
            while busy < session.slots and (found := ahead.next(wait=not owners)) is not None:
                opened, requests, prepared = found
                if requests is None:
                    yield opened.index, prepared
                else:
                    ask(opened, requests, prepared)
            if not owners:
                return
            for key, answer in session.collect():
                opened, place = owners.pop(key)
                busy -= weights.pop(key)
                opened.missing -= 1
                if isinstance(answer, StepFailed):
                    opened.failure = opened.failure or answer
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    opened.answers[place] = answer
                if opened.missing:
                    continue
                if opened.failure:
                    opened.task.close()
                    yield opened.index, opened.failure
                    continue
                answers: list[Any] = opened.answers
                try:
                    further = opened.task.send(answers)
                except StopIteration as end:
                    yield opened.index, end.value
                else:
                    ask(opened, further, session.prepare(further))
    finally:
        ahead.stop()
        session.close()


def run_all(session: Session, tasks: Sequence[Task[T]]) -> list[T]:
    """The results of some tasks, in their order. Raises the first failure once the others are in."""
    found = dict(run(session, tasks))
    results: list[T] = []
    for index in range(len(tasks)):
        result = found[index]
        if isinstance(result, StepFailed):
            raise result
        results.append(result)
    return results


def ask_all(session: Session, requests: Sequence[Request]) -> list[Any]:
    """The answers to some requests, in their order. Raises the first failure once the others are in."""
    return run_all(session, [_one(request) for request in requests])


def answer_scenes(
    model: LanguageModel, tasks: Iterator[tuple[int, Task[T]]], keep: Callable[[int, T, Usage], None]
) -> None:
    """Run a task for each of some scenes, given by their numbers, and `keep` its result as soon as it ends.

    `keep` also gets what the model has been used for so far. The model is not started if there is no task. Raises
    StepFailed, once all the others are kept, if some scenes were not answered.
    """
    first = next(tasks, None)
    if first is None:
        return
    numbers: list[int] = []

    def noted() -> Iterator[Task[T]]:
        for number, task in chain([first], tasks):
            numbers.append(number)
            yield task

    failed: list[tuple[int, StepFailed]] = []
    session = model.session()
    session.usage = Usage()
    for place, result in run(session, noted()):
        if isinstance(result, StepFailed):
            failed.append((numbers[place], result))
        else:
            keep(numbers[place], result, session.usage)
    if failed:
        number, error = min(failed, key=lambda one: one[0])
        raise StepFailed(
            f"{len(failed):,} of {len(numbers):,} scenes were not answered, the first (number {number + 1:,}) because "
            f"of this: {error}; all others are kept: start again"
        )


def weight(request: Request) -> int:
    """How many sequences a request keeps a model busy with."""
    return request.n if isinstance(request, Write) else 1


def _one(request: Request) -> Task[Any]:
    answers = yield [request]
    return answers[0]


class _Ahead:
    """Tasks whose first requests are made ready in a thread of its own, at most as many as the session has slots."""

    def __init__(self, session: Session, tasks: Iterable[Task[Any]]) -> None:
        self.ready: Queue[Any] = Queue(max(1, session.slots // TOGETHER))
        self.found: Iterator[Any] = iter(())
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._fill, args=(session, enumerate(tasks)), daemon=True)
        self.thread.start()

    def next(self, wait: bool) -> tuple[_Open[Any], Sequence[Request] | None, Any] | None:
        """A task, its requests and what `submit` needs of them; None if there is none, or none yet.

        A task that ended without a request has None for them, and its result. Raises what the thread raised.
        """
        while True:
            for found in self.found:
                return found
            try:
                batch = self.ready.get(block=wait)
            except Empty:
                return None
            if batch is _END:
                self.ready.put(_END)
                return None
            if isinstance(batch, BaseException):
                raise batch
            self.found = iter(batch)

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()

    def _fill(self, session: Session, tasks: Iterator[tuple[int, Task[Any]]]) -> None:
        try:
            while not self.stopped.is_set() and (some := list(islice(tasks, TOGETHER))):
                self._put(_begin(session, some))
            self._put(_END)
        except BaseException as error:  # raised again by `next`, in the thread that waits for it
            self._put(error)

    def _put(self, batch: Any) -> None:
        while not self.stopped.is_set():
            try:
                return self.ready.put(batch, timeout=0.1)
            except Full:
                continue


def _begin(session: Session, tasks: Sequence[tuple[int, Task[Any]]]) -> list[tuple[Any, Any, Any]]:
    """The first requests of tasks, made ready together."""
    begun: list[tuple[Any, Any, Any]] = []
    for index, task in tasks:
        try:
            begun.append((_Open(index, task), next(task), None))
        except StopIteration as end:
            begun.append((_Open(index, task), None, end.value))
    asked = [request for _, requests, _ in begun if requests is not None for request in requests]
    prepared = iter(session.prepare(asked) if asked else [])
    return [
        (opened, requests, result if requests is None else list(islice(prepared, len(requests))))
        for opened, requests, result in begun
    ]


class BatchSession:
    """A session over a model that answers in batches: what has been submitted is answered together."""

    def __init__(self, model: Any, slots: int) -> None:
        self.model, self.slots = model, slots
        self.usage = Usage()
        self.waiting: list[tuple[int, Request]] = []

    def prepare(self, requests: Sequence[Request]) -> Sequence[Request]:
        return requests

    def submit(self, key: int, prepared: Any) -> None:
        self.waiting.append((key, prepared))

    def collect(self) -> list[tuple[int, Answer | Exception]]:
        waiting, self.waiting = self.waiting, []
        self.usage.requests += len(waiting)
        weighed = [(key, request) for key, request in waiting if isinstance(request, Weigh)]
        written: dict[tuple[int, Any], list[tuple[int, Write]]] = {}
        for key, request in waiting:
            if isinstance(request, Write):
                written.setdefault((request.n, request.sampling), []).append((key, request))
        answers: list[tuple[int, Answer | Exception]] = []
        if weighed:
            found = self.model.choice_probs(
                [request.conversation for _, request in weighed], [request.labels for _, request in weighed]
            )
            answers += zip([key for key, _ in weighed], found, strict=True)
        for (n, sampling), group in written.items():
            conversations = [request.conversation for _, request in group]
            outputs = self.model.generate(conversations, n, sampling, [request.seed for _, request in group])
            answers += zip([key for key, _ in group], outputs, strict=True)
        return answers

    def close(self) -> None:
        self.waiting.clear()
