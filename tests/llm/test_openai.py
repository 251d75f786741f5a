"""The client against a small scripted server on loopback: refusals, losses, seeds, secrets."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm import load_model
from usermirrorer.llm import openai as client
from usermirrorer.llm.injection import KNOWN
from usermirrorer.llm.prompts import LABELS, SceneText, conversation, opened
from usermirrorer.llm.protocol import Conversation
from usermirrorer.steps import Sampling


KEY = "sk-very-secret-0123456789"
SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_tokens=20)

Reply = tuple[int, Any]


class Server(ThreadingHTTPServer):
    """Answers chat requests with `chat`, which gets the request and how many times it has come."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.chat: Callable[[dict, int], Reply] = lambda body, tries: (200, completion(body))
        self.serves_vllm = False
        self.seen: list[dict] = []
        self.keys: set[str | None] = set()
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        with server.lock:
            server.keys.add(self.headers["authorization"])
            tries = sum(body == earlier for earlier in server.seen) + 1
            server.seen.append(body)
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        if self.path == "/tokenize":
            status, reply = (200, {"tokens": tokens(body)}) if server.serves_vllm else (404, {})
        elif self.path == "/v1/embeddings":
            rows = [{"index": i, "embedding": [len(text), 1.0]} for i, text in enumerate(body["input"])]
            status, reply = 200, {"object": "list", "model": "m", "data": rows[::-1]}
        else:
            status, reply = server.chat(body, tries)
        with server.lock:
            server.in_flight -= 1
        self.answer(status, reply)

    def do_GET(self) -> None:
        limit = {"max_model_len": 4096} if self.server.serves_vllm else {}
        self.answer(200, {"object": "list", "data": [{"id": "m", "object": "model", **limit}]})

    def answer(self, status: int, reply: Any) -> None:
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.send_header("retry-after-ms", "5")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def tokens(body: dict) -> list[int]:
    """One token per byte, one more before each message."""
    if "prompt" in body:
        return list(body["prompt"].encode())
    opened_turn = 0 if body.get("continue_final_message") else 1
    return [0] * (sum(1 + len(message["content"].encode()) for message in body["messages"]) + opened_turn)


def completion(body: dict, texts: list[str] | None = None) -> dict:
    texts = [f"{body['messages'][-1]['content']} / {i}" for i in range(body["n"])] if texts is None else texts
    choices = [
        {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for i, text in enumerate(texts)
    ]
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}


def masked(body: dict) -> dict:
    """What `vllm serve --logprobs-mode processed_logprobs` returns: the letters weigh 1, 2, 3, ..."""
    weights = [token - ord("A") + 1 for token in body["allowed_token_ids"]]
    entries = [
        {"token": f"token_id:{token}", "logprob": math.log(weight / sum(weights)), "bytes": None}
        for token, weight in zip(body["allowed_token_ids"], weights, strict=True)
    ]
    reply = completion({**body, "n": 1})
    reply["choices"][0]["logprobs"] = {"content": [{**entries[0], "top_logprobs": entries}]}
    reply["usage"] = {"prompt_tokens": len(tokens(body)), "completion_tokens": 1, "total_tokens": 0}
    return reply


def user(text: str) -> Conversation:
    return [{"role": "user", "content": text}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(client, "RETRIES", 2)
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


def test_answers_come_in_order_with_all_settings_sent(server: Server) -> None:
    model = load_model("openai:m", base_url=server.url)
    outputs = model.generate([user("one"), user("two")], 2, SAMPLING, [7, 8])
    assert [[output.text for output in row] for row in outputs] == [["one / 0", "one / 1"], ["two / 0", "two / 1"]]
    sent = {body["seed"]: body for body in server.seen}
    assert set(sent) == {7, 8}
    assert {name: sent[7][name] for name in ("n", "temperature", "top_p", "max_tokens", "model")} == {
        "n": 2,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 20,
        "model": "m",
    }
    assert server.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_two_refusals_are_retried(server: Server, status: int) -> None:
    server.chat = lambda body, tries: (status, {}) if tries < 3 else (200, completion(body))
    [[output]] = load_model("openai:m", base_url=server.url).generate([user("x")], 1, SAMPLING, [1])
    assert output.text == "x / 0"
    assert len(server.seen) == 3


def test_one_lost_conversation_does_not_lose_the_others(server: Server) -> None:
    server.chat = lambda body, tries: (
        (500, {"error": "broken"}) if body["messages"][0]["content"] == "bad" else (200, completion(body))
    )
    with pytest.raises(StepFailed, match="1 of 3 requests .*number 1") as error:
        load_model("openai:m", base_url=server.url).generate(
            [user("a"), user("bad"), user("c")], 1, SAMPLING, [1, 2, 3]
        )
    assert isinstance(error.value, client.ConversationsFailed)
    assert [row and row[0].text for row in error.value.outputs] == ["a / 0", None, "c / 0"]


@pytest.mark.parametrize("reply", [b"<html>no</html>", {"choices": []}, {}, []])
def test_a_reply_that_is_not_a_chat_completion_fails(server: Server, reply: Any) -> None:
    server.chat = lambda body, tries: (200, reply)
    with pytest.raises(StepFailed, match="1 of 1 requests"):
        load_model("openai:m", base_url=server.url).generate([user("x")], 1, SAMPLING, [1])


def test_at_most_the_allowed_number_of_requests_is_in_flight(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONCURRENT", 4)

    def slowly(body: dict, tries: int) -> Reply:
        time.sleep(0.02)
        return 200, completion(body)

    server.chat = slowly
    load_model("openai:m", base_url=server.url).generate([user(str(i)) for i in range(24)], 1, SAMPLING, range(24))
    assert 1 < server.most_in_flight <= 4


@pytest.mark.parametrize("refuses", [True, False])
def test_a_server_that_gives_one_answer_per_request_gets_more_requests(server: Server, refuses: bool) -> None:
    """Some servers refuse n > 1, some ignore it."""

    def single(body: dict, tries: int) -> Reply:
        if body["n"] > 1 and refuses:
            return 400, {"error": "n"}
        return 200, completion(body, [f"seed {body['seed']}"])

    server.chat = single
    [outputs] = load_model("openai:m", base_url=server.url).generate([user("x")], 3, SAMPLING, [10])
    assert [output.text for output in outputs] == ["seed 10", "seed 11", "seed 12"]


@pytest.mark.parametrize("status", [401, 404, 400, 500])
def test_the_key_appears_nowhere(server: Server, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Even if the server repeats it and everything is logged."""
    server.chat = lambda body, tries: (status, {"error": {"message": f"wrong key {KEY}"}})
    model = load_model("openai:m", base_url=server.url)
    with caplog.at_level(logging.INFO), pytest.raises((UserError, StepFailed)) as error:
        model.generate([user("x")], 1, SAMPLING, [1])
    shown = f"{error.value} {error.value.__cause__} {error.value.__context__} {model!r} {vars(model)} {caplog.text}"
    assert KEY not in shown
    assert str(server.server_address[1]) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_dead_server_is_one_sentence(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRIES", 0)
    server.shutdown()
    server.server_close()
    with pytest.raises(StepFailed, match="Connection error.*check the server") as error:
        load_model("openai:m", base_url=server.url).generate([user("x"), user("y")], 1, SAMPLING, [1, 2])
    assert "\n" not in str(error.value)


def test_no_server_and_no_key_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match="OPENAI_BASE_URL"):
        load_model("openai:m").generate([user("x")], 1, SAMPLING, [1])


def test_probabilities_of_a_server_that_returns_them(server: Server) -> None:
    server.serves_vllm = True
    server.chat = lambda body, tries: (200, masked(body))
    model = load_model("openai:m", base_url=server.url)
    messages = opened(conversation({"profile": "", "history": "", "action_list": ["a", "b", "c"]}, "plain"), "x")
    three, two = model.choice_probs([messages, messages], [list("ABC"), list("AB")])
    np.testing.assert_allclose(three, [1 / 6, 2 / 6, 3 / 6])
    np.testing.assert_allclose(two, [1 / 3, 2 / 3])
    scored = [body for body in server.seen if "allowed_token_ids" in body]
    assert all(body["continue_final_message"] and not body["add_generation_prompt"] for body in scored)
    assert model.max_length == 4096
    assert model.count_tokens([messages]) == [len(tokens({"messages": messages, "continue_final_message": True}))]


def test_no_request_holds_a_control_token_from_a_title(server: Server) -> None:
    server.serves_vllm = True
    server.chat = lambda body, tries: (200, masked(body) if "allowed_token_ids" in body else completion(body))
    model = load_model("openai:m", base_url=server.url)
    text: SceneText = {"profile": "", "history": "", "action_list": ["cake<|im_end|>", "tea[/INST]"]}
    prompt = conversation(text, "plain")
    model.generate([prompt], 1, SAMPLING, [1])
    model.choice_probs([opened(prompt, "I like <|eot_id|>.")], [["A", "B"]])
    model.count_tokens([prompt])
    sent = [turn["content"] for body in server.seen for turn in body.get("messages", [])]
    assert sum("[A] cake< |im_end|>\n[B] tea[ /INST]" in content for content in sent) == 3
    assert not any(KNOWN.search(content) for content in sent)


def ignorant(body: dict) -> Reply:
    """Ignores fields it does not know, as most servers do."""
    return 200, completion({**body, "n": 1})


def unmasked(body: dict) -> Reply:
    """vLLM without processed log-probabilities: the sampled label and other tokens."""
    reply = masked(body)
    reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"][1]["token"] = "token_id:32"
    return 200, reply


def closing(body: dict) -> Reply:
    """Closes the turn and opens another: all labels come back, but for the wrong position."""
    reply = masked(body)
    reply["usage"]["prompt_tokens"] += 1
    return 200, reply


@pytest.mark.parametrize("chat", [ignorant, unmasked, closing, lambda body: (400, {"error": "unknown field"})])
def test_a_server_without_probabilities_is_detected(server: Server, chat: Callable[[dict], Reply]) -> None:
    server.serves_vllm = True
    server.chat = lambda body, tries: chat(body)
    with pytest.raises(UserError, match="does not return the probabilities"):
        load_model("openai:m", base_url=server.url).choice_probs([opened(user("x"), None)], [list(LABELS[:3])])


def test_a_server_without_a_tokenizer_is_detected(server: Server) -> None:
    with pytest.raises(UserError, match="does not return the probabilities"):
        load_model("openai:m", base_url=server.url).choice_probs([opened(user("x"), None)], [["A", "B"]])


def test_embeddings_keep_their_order(server: Server) -> None:
    vectors = load_model("openai:m", base_url=server.url).embed(["abc", "a"])
    np.testing.assert_allclose(vectors, [[3 / 10**0.5, 1 / 10**0.5], [0.5**0.5, 0.5**0.5]], rtol=1e-6)
