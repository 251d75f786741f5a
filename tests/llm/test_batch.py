"""The Batch API: answered late, in parts, not at all, and taken up again by a later run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_batches import BatchAPI, bad, good
from loopback_server import SOON, Server, completion, user

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm import load_model
from usermirrorer.llm.execution import run
from usermirrorer.llm.requests import Weigh, Write
from usermirrorer.llm.servers import batch as batch_module
from usermirrorer.llm.servers import batches
from usermirrorer.llm.servers.batch import BatchedModel, batched
from usermirrorer.llm.servers.openai import OpenAIModel
from usermirrorer.steps import Sampling


SAMPLING = Sampling(temperature=0.7, max_tokens=20)


@pytest.fixture
def api(server: Server) -> Iterator[BatchAPI]:
    server.route = api = BatchAPI()
    yield api


@pytest.fixture
def writer(server: Server, api: BatchAPI, tmp_path: Path) -> BatchedModel:
    model = OpenAIModel("m", base_url=server.url, patience=SOON)
    return BatchedModel(model, tmp_path / ".batches.json", poll=0.01)


def ask(writer: BatchedModel, count: int, n: int = 2) -> dict[int, Any]:
    """The answers to requests 0, 1, …, or why there is none; -1 for what ended the run."""

    def task(text: str):
        [answer] = yield [Write(user(text), n, SAMPLING, 1)]
        return [output.text for output in answer]

    found: dict[int, Any] = {}
    try:
        for place, answer in run(writer.session(), [task(str(i)) for i in range(count)]):
            found[place] = answer
    except (StepFailed, UserError) as error:
        found[-1] = error
    return found


def expected(count: int) -> dict[int, list[str]]:
    return {i: [f"{i} / 0", f"{i} / 1"] for i in range(count)}


def prompts(requests: list[dict]) -> list[str]:
    return sorted(request["body"]["messages"][0]["content"] for request in requests)


def test_requests_are_answered_by_batches(
    writer: BatchedModel, api: BatchAPI, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(writer, 40) == expected(40)
    assert len(api.requests) == 1 and len(api.requests[0]) == 40
    assert not server.seen, "nothing is asked directly"
    request = api.requests[0][0]
    assert request["method"] == "POST" and request["url"] == "/v1/chat/completions"
    assert request["body"] | {"messages": [], "seed": 0} == {
        "model": "m", "messages": [], "n": 2, "seed": 0, "temperature": 0.7, "top_p": 0.9, "max_tokens": 20
    }  # fmt: skip
    assert "batch batch_0: completed, 0 of 40 answered" in capsys.readouterr().err


def test_a_run_that_was_killed_finds_its_batch(
    writer: BatchedModel, api: BatchAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.ends = lambda number: ["in_progress"]

    def killed(seconds: float) -> None:
        if api.asked and api.asked[0] > 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batch_module.time, "sleep", killed)
        ask(writer, 10)
    api.ends = lambda number: ["in_progress", "completed"]
    assert ask(writer, 12) == expected(12)
    assert [prompts(requests) for requests in api.requests] == [sorted(map(str, range(10))), ["10", "11"]]
    # Killed before the last answers were kept: they are read once more.
    assert ask(writer, 12) == expected(12)
    assert len(api.requests) == 2


def test_of_an_expired_batch_the_answers_are_used_and_the_rest_is_asked_again(
    writer: BatchedModel, api: BatchAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    api.ends = lambda number: ["expired"] if number == 0 else ["completed"]
    api.answer = lambda request, number: good(request) if number or request["custom_id"] < "8" else None
    assert ask(writer, 20) == expected(20)
    first, second = api.requests
    assert prompts(second) == prompts([request for request in first if request["custom_id"] >= "8"])
    assert f"batch batch_0 expired; {len(second)} requests are asked again" in capsys.readouterr().err


def test_batches_that_never_answer_are_given_up(writer: BatchedModel, api: BatchAPI) -> None:
    api.ends = lambda number: ["expired"]
    api.answer = lambda request, number: good(request) if request["body"]["messages"][0]["content"] != "3" else None
    found = ask(writer, 5)
    failure = found.pop(3)
    assert len(found) == 4 and "3 batches gave no answer to a request: start again" in str(failure)
    assert len(api.requests) == 3


def test_a_batch_that_is_refused_is_one_sentence_and_the_next_run_makes_another(
    writer: BatchedModel, api: BatchAPI
) -> None:
    api.ends = lambda number: ["validating", "failed"] if number == 0 else ["completed"]
    found = ask(writer, 3)
    assert str(found[-1]) == (
        "batch batch_0 was refused (enqueued token limit reached): change what it names, then start again"
    )
    assert ask(writer, 3) == expected(3)
    assert len(api.requests) == 2


def test_of_a_cancelled_batch_the_answers_are_used_and_a_later_run_asks_the_rest(
    writer: BatchedModel, api: BatchAPI
) -> None:
    api.ends = lambda number: ["cancelled"] if number == 0 else ["completed"]
    api.answer = lambda request, number: (
        good(request) if number or request["body"]["messages"][0]["content"] < "3" else None
    )
    found = ask(writer, 5)
    assert str(found.pop(-1)) == "batch batch_0 was cancelled: start again to ask for what it left out"
    assert found == expected(3)
    assert ask(writer, 5) == expected(5)
    assert [prompts(requests) for requests in api.requests[1:]] == [["3", "4"]]


def test_a_refused_request_costs_only_itself(writer: BatchedModel, api: BatchAPI) -> None:
    api.answer = lambda request, number: (
        bad(request, 400, "too long") if request["body"]["messages"][0]["content"] == "1" else good(request)
    )
    found = ask(writer, 3)
    assert "too long" in str(found.pop(1))
    assert found == {0: ["0 / 0", "0 / 1"], 2: ["2 / 0", "2 / 1"]}
    assert len(api.requests) == 1
    api.answer = lambda request, number: good(request)
    assert ask(writer, 3) == expected(3)
    assert prompts(api.requests[1]) == ["1"]


@pytest.mark.parametrize("line", [{}, {"response": {"status_code": 500}}, {"response": {"status_code": 200}}])
def test_an_unusable_result_is_asked_again(writer: BatchedModel, api: BatchAPI, line: dict) -> None:
    api.answer = lambda request, number: good(request) if number else {"custom_id": request["custom_id"], **line}
    assert ask(writer, 2) == expected(2)


def test_fewer_answers_than_asked_for_fail(writer: BatchedModel, api: BatchAPI) -> None:
    def one_each(request: dict, number: int) -> dict:
        return good(request) | {"response": {"status_code": 200, "body": completion(request["body"], ["only"])}}

    api.answer = one_each
    assert "gave 1 of 2 answers to a request: leave out batch" in str(ask(writer, 1)[0])


def test_a_batch_that_the_server_forgot_is_made_again(writer: BatchedModel, api: BatchAPI, tmp_path: Path) -> None:
    assert ask(writer, 2) == expected(2)
    api.forgotten.add(0)
    assert ask(writer, 2) == expected(2)
    assert len(api.requests) == 2
    [listed] = json.loads((tmp_path / ".batches.json").read_text())
    assert listed["id"] == "batch_1"


def test_many_requests_make_several_batches(
    writer: BatchedModel, api: BatchAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (batch_module, batches):
        monkeypatch.setattr(module, "MOST_REQUESTS", 8)
    assert ask(writer, 30) == expected(30)
    assert all(len(requests) <= 8 for requests in api.requests)
    monkeypatch.setattr(batches, "MOST_BYTES", 300)
    assert [len(part) for part in batches.parts([("a", b"x" * 200)] * 3)] == [1, 1, 1]


def test_equal_requests_are_one(writer: BatchedModel, api: BatchAPI) -> None:
    assert writer.generate([user("x"), user("x")], 1, SAMPLING, [5, 5])[1][0].text == "x / 0"
    assert len(api.requests[0]) == 1


@pytest.mark.parametrize("content", ["{", "[1]", '[{"id": 1}]', "null", "7"])
def test_a_damaged_list_of_batches_is_named(writer: BatchedModel, tmp_path: Path, content: str) -> None:
    (tmp_path / ".batches.json").write_text(content)
    assert "is damaged: delete it" in str(ask(writer, 1)[-1])


def test_batches_of_another_server_are_not_looked_for_here(writer: BatchedModel, tmp_path: Path) -> None:
    kept = [{"id": "batch_0", "host": "elsewhere:1", "requests": ["x"]}]
    (tmp_path / ".batches.json").write_text(json.dumps(kept))
    assert "lists batches at elsewhere:1" in str(ask(writer, 1)[-1])


def test_batches_are_for_writers_behind_one_server(writer: BatchedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batches give no probabilities"):
        writer.session().prepare([Weigh(user("x"), ["A", "B"])])
    for model in (load_model("scripted:reader"), load_model("openai:m", base_url="http://a/v1,http://b/v1")):
        with pytest.raises(UserError, match="batches are for openai:MODEL at one base URL"):
            batched(model, tmp_path / "x")
