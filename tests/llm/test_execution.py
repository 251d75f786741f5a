"""Tasks on a session: every result once, failures alone, the model kept busy, nothing left behind."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.execution import TOGETHER, BatchSession, ask_all, run, run_all
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.llm.requests import Request, Task, Weigh, Write
from usermirrorer.steps import Sampling


SAMPLING = Sampling(max_tokens=4)


def said(text: str) -> Conversation:
    return [{"role": "user", "content": text}]


class Echo:
    """A session that answers what it was asked in an order of its own, some of it with a failure."""

    def __init__(self, slots: int, seed: int = 0, failing: str = "\0") -> None:
        self.slots, self.random, self.failing = slots, random.Random(seed), failing
        self.asked: dict[int, Request] = {}
        self.most = self.most_ahead = self.prepared = self.submitted = 0

    def prepare(self, requests: Sequence[Request]) -> Sequence[Request]:
        self.prepared += len(requests)
        return requests

    def submit(self, key: int, prepared: object) -> None:
        assert isinstance(prepared, Write | Weigh) and key not in self.asked
        self.asked[key] = prepared
        self.submitted += 1
        self.most = max(self.most, sum(r.n if isinstance(r, Write) else 1 for r in self.asked.values()))
        self.most_ahead = max(self.most_ahead, self.prepared - self.submitted)

    def collect(self) -> list[tuple[int, object]]:
        keys = self.random.sample(sorted(self.asked), self.random.randint(1, len(self.asked)))
        return [(key, self._answer(self.asked.pop(key))) for key in keys]

    def _answer(self, request: Request) -> object:
        text = request.conversation[-1]["content"]
        if self.failing in text:
            return StepFailed(f"no answer to {text}")
        if isinstance(request, Weigh):
            return np.full(len(request.labels), 1 / len(request.labels))
        return [Output(f"{text}-{sample}", "stop") for sample in range(request.n)]

    def close(self) -> None:
        self.asked.clear()


def two_steps(name: str, n: int) -> Task[str]:
    """Write n texts, weigh each; none at all for n = 0."""
    if not n:
        return name
    [outputs] = yield [Write(said(name), n, SAMPLING, 0)]
    assert [output.text for output in outputs] == [f"{name}-{sample}" for sample in range(n)]
    rows = yield [Weigh(said(output.text), "AB") for output in outputs]
    assert len(rows) == n
    return f"{name}:{n}"


@settings(max_examples=50)
@given(
    sizes=st.lists(st.integers(0, 5), max_size=120),
    slots=st.integers(1, 80),
    seed=st.integers(0, 99),
    failing=st.sets(st.integers(0, 119)),
)
def test_every_task_ends_once_and_only_failed_requests_fail_it(
    sizes: list[int], slots: int, seed: int, failing: set[int]
) -> None:
    session = Echo(slots, seed, failing="!")
    names = [f"{place}{'!' * (place in failing)}" for place in range(len(sizes))]
    found = list(run(session, (two_steps(name, n) for name, n in zip(names, sizes, strict=True))))
    assert sorted(place for place, _ in found) == list(range(len(sizes)))
    for place, result in found:
        if place in failing and sizes[place]:
            assert isinstance(result, StepFailed)
        else:
            assert result == (f"{names[place]}:{sizes[place]}" if sizes[place] else names[place])
    assert not session.asked
    # A task is begun while a slot is free; its second step may then be more than one request.
    assert session.most < slots + 5 * max(1, slots)
    assert session.most_ahead <= 3 * (TOGETHER + slots)


def test_slots_are_kept_filled_while_there_is_work() -> None:
    """No barrier: as soon as an answer is there, the next task is asked."""
    session = Echo(slots=16)
    seen: list[int] = []
    collect = session.collect

    def watched() -> list[tuple[int, object]]:
        seen.append(len(session.asked))
        time.sleep(0.005)  # time for the thread that renders
        return collect()

    session.collect = watched  # type: ignore[method-assign]
    tasks = (one(str(number)) for number in range(600))
    assert sum(1 for _ in run(session, tasks)) == 600
    assert np.mean([count == 16 for count in seen[1:-4]]) > 0.9


def one(text: str) -> Task[str]:
    [outputs] = yield [Write(said(text), 1, SAMPLING, 0)]
    return outputs[0].text


def test_what_a_task_or_the_iterable_raises_comes_out_and_no_thread_stays() -> None:
    def broken() -> Iterator[Task[str]]:
        yield one("a")
        raise UserError("the file ends")

    def bad(text: str) -> Task[str]:
        yield [Write(said(text), 1, SAMPLING, 0)]
        raise ValueError(text)

    before = threading.active_count()
    with pytest.raises(UserError, match="the file ends"):
        list(run(Echo(4), broken()))
    session = Echo(4)
    with pytest.raises(ValueError, match="b"):
        list(run(session, [bad("b"), *(one(str(number)) for number in range(1000))]))
    assert not session.asked
    results = run(session, (one(str(number)) for number in range(100_000)))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_model_that_answers_in_batches_gives_each_answer_to_its_request() -> None:
    class Batches:
        def generate(
            self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
        ) -> list[list[Output]]:
            return [
                [Output(f"{c[-1]['content']}/{n}/{seed}", "stop")] * n
                for c, seed in zip(conversations, seeds, strict=True)
            ]

        def choice_probs(
            self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]
        ) -> list[np.ndarray]:
            return [np.full(len(row), 1 / len(row)) for row in labels]

    requests = [
        Write(said(str(k)), 1 + k % 2, SAMPLING, k) if k % 3 else Weigh(said(str(k)), "ABCDE"[: 2 + k % 4])
        for k in range(40)
    ]
    session = BatchSession(Batches(), 7)
    for request, answer in zip(requests, ask_all(session, requests), strict=True):
        if isinstance(request, Weigh):
            assert len(answer) == len(request.labels)
        else:
            assert [output.text for output in answer] == [f"{request.seed}/{request.n}/{request.seed}"] * request.n
    with pytest.raises(StepFailed, match="no answer to 3"):
        ask_all(Echo(5, failing="3"), [Write(said(str(k)), 1, SAMPLING, k) for k in range(5)])
    assert run_all(session, []) == []
