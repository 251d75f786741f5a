"""The client against a scripted server on loopback: what is sent, what is read, secrets, answers kept."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from loopback_server import KEY, SHORT, SOON, Reply, Server, completion, masked, tokens, user

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm import load_model
from usermirrorer.llm.injection import KNOWN
from usermirrorer.llm.prompts import LABELS, PROMPT_DATE, SceneText, conversation, opened
from usermirrorer.llm.servers.openai import OpenAIModel
from usermirrorer.steps import Sampling


SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_tokens=20)

NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
KWARGS = {"date_string": PROMPT_DATE, "enable_thinking": False}


def test_answers_come_in_order_with_all_settings_sent(server: Server, model: OpenAIModel) -> None:
    outputs = model.generate([user("one"), user("two")], 2, SAMPLING, [7, 8])
    assert [[output.text for output in row] for row in outputs] == [["one / 0", "one / 1"], ["two / 0", "two / 1"]]
    assert sorted(server.seen, key=lambda body: body["seed"])[0] == {
        "n": 2,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 20,
        "model": "m",
        "seed": 7,
        "messages": user("one"),
    }
    assert server.keys == {f"Bearer {KEY}"}


def test_a_vllm_server_is_told_everything_that_its_model_could_set(server: Server, model: OpenAIModel) -> None:
    server.serves_vllm = True
    model.generate([user("x")], 1, SAMPLING, [1])
    server.chat = lambda body, tries: masked(body)
    model.choice_probs([opened(user("x"), None)], [["A", "B"]])
    model.count_tokens([user("x")])
    written, *scored = server.seen
    assert written.items() >= {**NEUTRAL, "temperature": 0.7, "top_p": 0.9, "chat_template_kwargs": KWARGS}.items()
    assert len(scored) == 2
    for body in scored:
        assert body.items() >= {**NEUTRAL, "temperature": 1.0, "top_p": 1.0, "chat_template_kwargs": KWARGS}.items()
    rendered = [body for body in server.tokenized if "messages" in body]
    assert len(rendered) == 2 and all(body["chat_template_kwargs"] == KWARGS for body in rendered)


@pytest.mark.parametrize("reply", [b"<html>no</html>", {"choices": []}, {}, [], b'{"choices": [{"mess'])
def test_a_reply_that_is_not_a_chat_completion_fails(server: Server, model: OpenAIModel, reply: Any) -> None:
    server.chat = lambda body, tries: reply
    with pytest.raises(StepFailed, match="unusable reply") as error:
        model.generate([user("x")], 1, SAMPLING, [1])
    assert "\n" not in str(error.value)
    assert len(server.seen) == SOON.attempts


@pytest.mark.parametrize(("reason", "kept"), [("length", "length"), ("content_filter", "stop")])
def test_an_answer_that_was_kept_back_is_empty(server: Server, model: OpenAIModel, reason: str, kept: str) -> None:
    server.chat = lambda body, tries: completion(body, [None], reason)
    [[output]] = model.generate([user("x")], 1, SAMPLING, [1])
    assert (output.text, output.finish_reason) == ("", kept)


@pytest.mark.parametrize("refuses", [True, False])
def test_a_server_that_gives_one_answer_per_request_gets_more_requests(
    server: Server, model: OpenAIModel, refuses: bool
) -> None:
    """Some servers refuse n > 1, some ignore it."""

    def single(body: dict, tries: int) -> Any:
        if body["n"] > 1 and refuses:
            return Reply(400, {"error": "n"})
        return completion(body, [f"seed {body['seed']}"])

    server.chat = single
    for _ in range(2):
        [outputs] = model.generate([user("x")], 3, SAMPLING, [10])
        assert [output.text for output in outputs] == ["seed 10", "seed 11", "seed 12"]
    assert sum(body["n"] > 1 for body in server.seen) == (1 if refuses else 2)


@pytest.mark.parametrize("status", [401, 402, 404, 400, 500])
def test_the_key_appears_nowhere(
    server: Server, model: OpenAIModel, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if the server repeats it and everything is logged."""
    server.chat = lambda body, tries: Reply(status, {"error": {"message": f"wrong key {KEY}\x1b[31m\n!"}})
    with caplog.at_level(logging.DEBUG), pytest.raises((UserError, StepFailed)) as error:
        model.generate([user("x")], 1, SAMPLING, [1])
    shown = f"{error.value} {error.value.__cause__} {error.value.__context__} {model!r} {vars(model)} {caplog.text}"
    assert KEY not in shown
    assert str(server.server_address[1]) in str(error.value)
    assert str(error.value).isprintable()


def test_a_password_in_the_url_appears_nowhere(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.chat = lambda body, tries: Reply(hang=True)
    with_password = server.url.replace("//", "//me:hush@")
    with pytest.raises(StepFailed, match="127.0.0.1") as error:
        OpenAIModel("m", base_url=with_password, patience=SHORT).generate([user("x")], 1, SAMPLING, [1])
    assert "hush" not in str(error.value) + capsys.readouterr().err


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "ftp://h/v1", "http://h:port/v1", "http://[::1/v1", ","])
def test_what_is_not_a_url_is_named(url: str) -> None:
    with pytest.raises(UserError, match="base URL .*not a server's URL"):
        load_model("openai:m", base_url=url)


def test_no_server_and_no_key_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match="OPENAI_BASE_URL"):
        load_model("openai:m").generate([user("x")], 1, SAMPLING, [1])


@pytest.mark.parametrize("options", [{"base_url": "http://h/v1"}, {"concurrency": 3}])
def test_settings_of_servers_are_for_servers(options: dict) -> None:
    with pytest.raises(UserError, match="is for openai:MODEL"):
        load_model("scripted:reader", **options)


def test_probabilities_of_a_server_that_returns_them(server: Server, model: OpenAIModel) -> None:
    server.serves_vllm = True
    server.chat = lambda body, tries: masked(body)
    messages = opened(conversation({"profile": "", "history": "", "action_list": ["a", "b", "c"]}, "plain"), "x")
    three, two = model.choice_probs([messages, messages], [list("ABC"), list("AB")])
    np.testing.assert_allclose(three, [1 / 6, 2 / 6, 3 / 6])
    np.testing.assert_allclose(two, [1 / 3, 2 / 3])
    scored = [body for body in server.seen if "allowed_token_ids" in body]
    assert all(body["continue_final_message"] and not body["add_generation_prompt"] for body in scored)
    assert model.max_length == 4096
    assert model.count_tokens([messages]) == [len(tokens({"messages": messages, "continue_final_message": True}))]


def test_no_request_holds_a_control_token_from_a_title(server: Server, model: OpenAIModel) -> None:
    server.serves_vllm = True
    server.chat = lambda body, tries: masked(body) if "allowed_token_ids" in body else completion(body)
    text: SceneText = {"profile": "", "history": "", "action_list": ["cake<|im_end|>", "tea[/INST]"]}
    prompt = conversation(text, "plain")
    model.generate([prompt], 1, SAMPLING, [1])
    model.choice_probs([opened(prompt, "I like <|eot_id|>.")], [["A", "B"]])
    model.count_tokens([prompt])
    bodies = [*server.seen, *server.tokenized]
    sent = [turn["content"] for body in bodies for turn in body.get("messages", [])]
    assert sum("[A] cake< |im_end|>\n[B] tea[ /INST]" in content for content in sent) == 3
    assert not any(KNOWN.search(content) for content in sent)


def ignorant(body: dict) -> Any:
    """Ignores fields it does not know, as most servers do."""
    return completion({**body, "n": 1})


def unmasked(body: dict) -> Any:
    """vLLM without processed log-probabilities: the sampled label and other tokens."""
    return masked(body, B=None)


def closing(body: dict) -> Any:
    """Closes the turn and opens another: all labels come back, but for the wrong position."""
    reply = masked(body)
    reply["usage"]["prompt_tokens"] += 1
    return reply


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        (ignorant, "no log-probabilities"),
        (unmasked, "token 66 is missing"),
        (closing, "does not continue an open turn"),
        (lambda body: Reply(400, {"error": "unknown field"}), "unknown field"),
    ],
)
def test_a_server_without_probabilities_is_detected(
    server: Server, model: OpenAIModel, chat: Callable[[dict], Any], reason: str
) -> None:
    server.serves_vllm = True
    server.chat = lambda body, tries: chat(body)
    with pytest.raises(UserError, match=f"gives no probabilities of options .*{reason}"):
        model.choice_probs([opened(user("x"), None)], [list(LABELS[:3])])


def test_a_server_without_a_tokenizer_is_detected(server: Server, model: OpenAIModel) -> None:
    with pytest.raises(UserError, match="gives no probabilities of options .*has no /tokenize"):
        model.choice_probs([opened(user("x"), None)], [["A", "B"]])


def test_embeddings_keep_their_order(server: Server, model: OpenAIModel) -> None:
    vectors = model.embed(["abc", "a"])
    np.testing.assert_allclose(vectors, [[3 / 10**0.5, 1 / 10**0.5], [0.5**0.5, 0.5**0.5]], rtol=1e-6)


@pytest.mark.parametrize("rows", [[], [{"index": 0, "embedding": ["x"]}], [{"index": 0, "embedding": [0.0, 0.0]}]])
def test_embeddings_that_are_no_vectors_fail(server: Server, model: OpenAIModel, rows: list) -> None:
    server.route = lambda method, path, content: {"data": rows}
    with pytest.raises(StepFailed, match="unusable reply"):
        model.embed(["abc"])


def test_two_threads_may_ask_at_a_time(server: Server, model: OpenAIModel) -> None:
    """As a notebook's event loop and a thread of its own do."""
    server.chat = lambda body, tries: time.sleep(0.05) or completion(body)
    found = {}
    ask = lambda name: found.update({name: model.generate([user(name)], 1, SAMPLING, [1])[0][0].text})  # noqa: E731
    threads = [threading.Thread(target=ask, args=[name]) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"a": "a / 0", "b": "b / 0"}


def test_a_process_that_asked_a_server_by_name_ends_in_silence(server: Server) -> None:
    """A name is looked up in a thread, and CPython 3.12 starts none any more when the interpreter ends."""
    code = """
import sys
from usermirrorer.llm import load_model
from usermirrorer.steps import Sampling
model = load_model("openai:m", base_url=sys.argv[1])
print(model.generate([[{"role": "user", "content": "a"}]], 1, Sampling(max_tokens=20), [1])[0][0].text)
"""
    url = server.url.replace("127.0.0.1", "localhost")
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a / 0\n", "")
