"""How requests are shared among servers, how often they are tried, and what is said when nothing helps."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest
from loopback_server import SHORT, SOON, Reply, Server, completion, user

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.execution import run
from usermirrorer.llm.requests import Write
from usermirrorer.llm.servers import balance
from usermirrorer.llm.servers.openai import OpenAIModel
from usermirrorer.llm.servers.refusals import RequestFailed, ServerLost, clean, retry_after
from usermirrorer.llm.servers.server import Patience
from usermirrorer.steps import Sampling


SAMPLING = Sampling(max_tokens=20)


def ask(model: OpenAIModel, count: int) -> dict[int, Any]:
    """The answers to requests 0, 1, …, or why there is none; without those that were lost with the server."""

    def task(text: str):
        [answer] = yield [Write(user(text), 1, SAMPLING, 1)]
        return answer[0].text

    found: dict[int, Any] = {}
    try:
        for place, answer in run(model.session(), [task(str(i)) for i in range(count)]):
            found[place] = answer
    except (StepFailed, UserError) as error:
        found[-1] = error
    return found


def only(bad: str, reply: Any) -> Callable[[dict, int], Any]:
    """Answers every prompt but `bad`."""
    return lambda body, tries: reply if body["messages"][0]["content"] == bad else completion(body)


def test_a_reply_without_an_end_is_given_up(server: Server, model: OpenAIModel, monkeypatch) -> None:
    monkeypatch.setattr("usermirrorer.llm.servers.server.LARGEST", 1000)
    server.chat = only("1", Reply(200, b" " * 2000))
    assert "sent more than 1,000 bytes" in str(ask(model, 2)[1])


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_refusals_that_pass_are_retried(server: Server, model: OpenAIModel, status: int) -> None:
    server.chat = lambda body, tries: Reply(status) if tries < 4 else completion(body)
    assert ask(model, 1) == {0: "0 / 0"}
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    ("reply", "sentence", "tries"),
    [
        (Reply(500, {"error": {"message": "broken"}}), r"failed \(500: broken\)", SOON.attempts),
        (Reply(200, b'{"choices": [{"index"'), "gave an unusable reply", SOON.attempts),
        (Reply(reset=True), "broke off", SOON.attempts),
        (Reply(400, {"error": "too long"}), r"refuses a request \(400: too long\)", 1),
        (Reply(501, b""), r"refuses a request \(501\)", 1),
        (completion({}, [None]), "the content is missing, not text", SOON.attempts),
        (completion({}, [7]), "the content is 7, not text", SOON.attempts),  # type: ignore[list-item]
        (Reply(200, b"[" * 100_000), "gave an unusable reply", SOON.attempts),
    ],
)
def test_a_request_that_fails_costs_only_itself(
    server: Server, model: OpenAIModel, reply: Any, sentence: str, tries: int
) -> None:
    server.chat = only("5", reply)
    found = ask(model, 12)
    failure = found.pop(5)
    assert found == {i: f"{i} / 0" for i in range(12) if i != 5}
    assert isinstance(failure, RequestFailed) and re.search(sentence, str(failure))
    assert server.prompts.count("5") == tries


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        (Reply(401), UserError, r"refuses the key \(401\): set OPENAI_API_KEY"),
        (Reply(402, {"error": {"message": "no money"}}), StepFailed, r"wants payment \(402: no money\)"),
        (Reply(429, {"error": {"code": "insufficient_quota", "message": "broke"}}), StepFailed, "wants payment"),
        (Reply(404, {"error": {"message": "which model?"}}), UserError, r"has no 'm' \(404\)"),
        (Reply(429, {}, {"retry-after": "3600"}), StepFailed, "asks for 3,600 s: start again after that"),
        (Reply(429), StepFailed, r"refuses requests \(429.*\), as before for"),
        (Reply(503, {}, {"retry-after": "0"}), StepFailed, r"refuses requests \(503.*\), as before for"),
    ],
)
def test_what_no_request_escapes_ends_all_at_once(
    server: Server, reply: Reply, kind: type[Exception], sentence: str
) -> None:
    """What was answered before is kept, and the servers are not asked for the rest."""
    server.chat = lambda body, tries: completion(body) if int(body["messages"][0]["content"]) < 5 else reply
    found = ask(OpenAIModel("m", base_url=server.url, concurrency=5, patience=replace(SOON, total=1)), 200)
    error = found.pop(-1)
    assert found == {i: f"{i} / 0" for i in range(5)}
    assert isinstance(error, kind) and re.search(sentence, str(error)) and str(error).isprintable()
    assert len(set(server.prompts)) < 20


def test_a_silent_server_ends_all_at_once(server: Server) -> None:
    server.chat = lambda body, tries: Reply(hang=True)
    found = ask(OpenAIModel("m", base_url=server.url, concurrency=5, patience=SHORT), 200)
    assert list(found) == [-1]
    assert re.search("gave no answer in 1 s, as before for [1-9] s: check the server", str(found[-1]))
    assert len(set(server.prompts)) <= 5


def test_a_server_that_is_gone_ends_all_at_once(server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    found = ask(OpenAIModel("m", base_url=url, patience=SOON), 100)
    assert list(found) == [-1] and isinstance(found[-1], ServerLost)
    assert re.search("can't be reached .*: check the server and start again", str(found[-1]))


def test_a_lost_server_is_tried_again_later(
    server: Server, model: OpenAIModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usermirrorer.llm.servers.balance.STOPPED_SECONDS", 0.05)
    server.chat = lambda body, tries: Reply(401)
    assert isinstance(ask(model, 3)[-1], UserError)
    server.chat = lambda body, tries: completion(body)
    time.sleep(0.06)
    assert ask(model, 1) == {0: "0 / 0"}


def test_many_failures_in_a_row_end_all(server: Server) -> None:
    server.chat = lambda body, tries: Reply(500)
    patience = replace(SOON, hopeless=4, attempts=2)
    found = ask(OpenAIModel("m", base_url=server.url, concurrency=2, patience=patience), 200)
    assert str(found[-1]).startswith("4 requests in a row got no answer, the last: ")
    assert len(server.seen) < 30


def test_at_most_the_allowed_number_of_requests_is_in_flight(server: Server) -> None:
    def once_all_are_here(body: dict, tries: int) -> Any:
        deadline = time.monotonic() + 10
        while server.most_in_flight < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        return completion(body)

    server.chat = once_all_are_here
    found = ask(OpenAIModel("m", base_url=server.url, concurrency=4, patience=SOON), 12)
    assert len(found) == 12
    assert server.most_in_flight == 4
    assert server.connections <= 5, "connections are kept"


def test_overload_halves_the_requests_at_a_time_and_answers_raise_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic() + 1
    monkeypatch.setattr(balance, "time", SimpleNamespace(monotonic=lambda: now))
    one = balance.Server("http://h/v1", 16, 16)
    sent = now - 0.1
    one.troubled(sent, None, 0.5)
    one.troubled(sent, None, 0.5)  # was under way at the time of the first
    assert (one.room, one.troubles) == (8, 1)
    assert one.ready_at == now + 0.5
    one.troubled(now, 7.0, 0.5)
    assert (one.room, one.troubles) == (4, 2)
    assert one.ready_at == now + 7
    now += 8
    one.in_flight = 1
    assert not one.has_room, "one alone, until it is answered"
    one.answered()
    assert one.has_room
    for _ in range(4):
        one.answered()
    assert 5 <= one.room < 6
    for _ in range(1000):
        one.answered()
    assert one.room == 16


def test_a_server_that_takes_few_at_a_time_answers_all(server: Server) -> None:
    refused = 0

    def crowded(body: dict, tries: int) -> Any:
        nonlocal refused
        if server.in_flight > 2:
            refused += 1
            return Reply(429, {}, {"retry-after-ms": "2"})
        time.sleep(0.02)
        return completion(body)

    server.chat = crowded
    found = ask(OpenAIModel("m", base_url=server.url, concurrency=16, patience=SOON), 40)
    assert found == {i: f"{i} / 0" for i in range(40)}
    assert refused < 80, "without adapting, each is refused over and over"


def test_several_servers_share_the_work(server: Server, more_servers: Callable[[], Server]) -> None:
    servers = [server, more_servers(), more_servers()]
    for one in servers:
        one.chat = lambda body, tries: time.sleep(0.01) or completion(body)
    urls = f"{servers[0].url},{servers[1].url}/", servers[2].url
    found = ask(OpenAIModel("m", base_url=urls, concurrency=2, patience=SOON), 36)
    assert found == {i: f"{i} / 0" for i in range(36)}
    assert all(len(one.seen) > 3 for one in servers)
    assert all(one.most_in_flight == 2 for one in servers)


def test_others_take_over_from_a_server_that_goes(server: Server, more_servers: Callable[[], Server]) -> None:
    other = more_servers()

    def until_the_tenth(body: dict, tries: int) -> Any:
        if len(server.seen) > 10:
            server.socket.close()
            return Reply(reset=True)
        return completion(body)

    server.chat = until_the_tenth
    patience = replace(SOON, answer=5)
    found = ask(OpenAIModel("m", base_url=[server.url, other.url], concurrency=2, patience=patience), 40)
    assert found == {i: f"{i} / 0" for i in range(40)}


def test_a_server_that_asks_for_a_long_pause_is_left_alone(server: Server, more_servers: Callable[[], Server]) -> None:
    other = more_servers()
    server.chat = lambda body, tries: Reply(429, {}, {"retry-after": "3600"})
    found = ask(OpenAIModel("m", base_url=[server.url, other.url], concurrency=2, patience=SOON), 40)
    assert found == {i: f"{i} / 0" for i in range(40)}
    assert len(server.seen) <= 2


def test_a_server_that_comes_back_is_used_again(server: Server, more_servers: Callable[[], Server]) -> None:
    other = more_servers()
    other.chat = lambda body, tries: time.sleep(0.01) or completion(body)
    server.chat = lambda body, tries: Reply(503) if len(server.seen) < 5 else completion(body)
    found = ask(OpenAIModel("m", base_url=[server.url, other.url], concurrency=2, patience=SOON), 50)
    assert len(found) == 50 and len(server.seen) > 10


def test_retry_after_is_obeyed(server: Server, model: OpenAIModel) -> None:
    server.chat = lambda body, tries: Reply(429, {}, {"retry-after": "0.4"}) if tries == 1 else completion(body)
    before = time.monotonic()
    assert ask(model, 1) == {0: "0 / 0"}
    assert time.monotonic() - before >= 0.4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": formatdate(time.time() - 100, usegmt=True)}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_as_servers_write_it(headers: dict, seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_as_a_date() -> None:
    found = retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert found is not None and 57 < found <= 60


def test_a_silent_server_is_told_of(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.chat = lambda body, tries: Reply(hang=True)
    patience = Patience(answer=2.5, total=0, notice=0.5)
    ask(OpenAIModel("m", base_url=server.url, concurrency=3, patience=patience), 5)
    told = capsys.readouterr().err.splitlines()
    assert 1 <= len(told) <= 3, "after 0.5, 1 and 2 s"
    for line in told:
        assert re.fullmatch(
            r"No answer from 127\.0\.0\.1:\d+ for \d s; 3 requests in flight, each for at most 2 s", line
        )


def test_a_server_that_answers_is_not_told_of(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.chat = lambda body, tries: time.sleep(0.03) or completion(body)
    ask(OpenAIModel("m", base_url=server.url, concurrency=1, patience=SOON), 10)
    assert not capsys.readouterr().err


def test_the_client_is_one_for_all_models(server: Server) -> None:
    for name in ("m", "m", "m"):
        ask(OpenAIModel(name, base_url=server.url, concurrency=1, patience=SOON), 2)
    assert server.connections == 1


def test_what_nobody_waits_for_any_more_is_dropped(server: Server, model: OpenAIModel) -> None:
    server.chat = only("1", Reply(hang=True))
    session = model.session()
    for key, prepared in enumerate(session.prepare([Write(user(str(i)), 1, SAMPLING, 1) for i in range(2)])):
        session.submit(key, prepared)
    assert [key for key, _ in session.collect()] == [0]
    session.close()
    assert session.collect() == []
    assert ask(model, 1) == {0: "0 / 0"}


def test_clean_keeps_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890\n")
    assert clean("bad\x07 sk-1234567890\n at http://u:p%40ss@h/v1") == "bad *** at http://u:***@h/v1"
    assert len(clean("x" * 1000)) == 200
