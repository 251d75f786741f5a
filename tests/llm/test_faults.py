"""`decide` and `score` with a server that fails: finished work stays, one sentence, and the same bytes afterwards."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback_batches import BatchAPI
from loopback_batches import good as good_result
from loopback_server import SOON, Reply, Server, completion, masked

from usermirrorer.cli import main
from usermirrorer.data.artefacts.store import finished_content, rows_written
from usermirrorer.data.build import build, load
from usermirrorer.data.decisions.decide import decide
from usermirrorer.data.decisions.score import score
from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.recipe import read_data_recipe
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.prompts import answered
from usermirrorer.llm.servers.openai import OpenAIModel
from usermirrorer.llm.servers.server import Patience
from usermirrorer.steps import DecideSettings, SceneSettings


SCENES = 12
SETTINGS = DecideSettings(n=2, prompt="plain")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --work with a few scenes of toy."""
    work = tmp_path_factory.mktemp("faults")
    prepare("toy", None, work)
    embed_items("toy", work)
    make_scenes("toy", work, SceneSettings("train", SCENES, "logged", min_exposure=3, max_exposure=3))
    return work


@pytest.fixture
def work(scenes: Path, tmp_path: Path) -> Path:
    """A --work of one's own with the same scenes."""
    (tmp_path / "scenes").symlink_to(scenes / "scenes")
    return tmp_path


def good(body: dict, tries: int = 1) -> Any:
    """Decisions that differ by scene and sample; probabilities that differ by label."""
    if "allowed_token_ids" in body:
        return masked(body)
    seed = body["seed"]
    return completion(body, [answered(f"I, {seed}, take {i}.", (seed + i) % 3) for i in range(body["n"])])


def truncated(body: dict) -> bytes:
    return b'{"id": "1", "choices": [{"index": 0, "mess'


def slow(body: dict) -> Any:
    time.sleep(0.2)
    return good(body)


def null(body: dict) -> Any:
    return completion(body, [None] * body["n"])


# What happens to the fifth scene, and what is then said of it; nothing if it passes.
PASSING: dict[str, Callable[[dict], Any]] = {
    "429": lambda body: Reply(429, {}, {"retry-after": "0.05"}),
    "500": lambda body: Reply(500),
    "reset": lambda body: Reply(reset=True),
    "truncated": truncated,
    "slow": slow,
}
ONE: dict[str, tuple[Callable[[dict], Any], str]] = {
    "500": (lambda body: Reply(500, {"error": {"message": "boom"}}), r"failed \(500: boom\)"),
    "truncated": (truncated, "gave an unusable reply"),
    "reset": (lambda body: Reply(reset=True), "broke off"),
}
ALL: dict[str, tuple[Callable[[dict], Any], str]] = {
    "402": (lambda body: Reply(402, {"error": {"message": "no credit"}}), r"wants payment \(402: no credit\)"),
    "429": (lambda body: Reply(429, {}, {"retry-after": "900"}), "asks for .* s: start again after that"),
    "wrong model": (lambda body: Reply(404, {"error": {"message": "no such model"}}), r"has no 'm' \(404\)"),
    "silent": (lambda body: Reply(hang=True), "gave no answer in 4 s"),
}
PROBABILITIES: dict[str, tuple[Callable[[dict], Any], str]] = {
    "missing": (lambda body: masked(body, B=None), "the log-probability of token 66 is missing"),
    "string": (lambda body: masked(body, B="-0.5"), "of token 66 is '-0.5', not a number"),
    "nan": (lambda body: masked(body, B=math.nan), "of token 66 is nan, not a number"),
    "sum": (lambda body: masked(body, B=-9.0), r"the probabilities of 3 labels sum to 0\.6"),
}


def model(server: Server, patience: Patience = SOON) -> OpenAIModel:
    return OpenAIModel("m", base_url=server.url, concurrency=3, patience=patience)


def fails_at(fault: Callable[[dict], Any], place: int, tries: int = 1000) -> Callable[[dict, int], Any]:
    """Every request of the scene that comes at `place` meets the fault, `tries` times."""
    prompts: list[str] = []

    def chat(body: dict, tried: int) -> Any:
        prompt = body["messages"][1]["content"] if len(body["messages"]) > 1 else ""
        if prompt not in prompts:
            prompts.append(prompt)
        return fault(body) if prompts.index(prompt) == place and tried <= tries else good(body)

    return chat


def files(directory: Path) -> Any:
    return finished_content(directory, "decide")["files"]


@pytest.fixture(scope="module")
def undisturbed(scenes: Path) -> Any:
    """The files of both steps, without faults."""
    running = Server().start()
    running.serves_vllm = True
    running.chat = good
    for variant in ("strong", "weak"):
        decide("toy", scenes, variant, model(running), SETTINGS)
    score("toy", scenes, model(running))
    running.stop()
    return {step: files(scenes / step / "toy" / "strong") for step in ("decisions", "predictions")}


@pytest.mark.parametrize("name", PASSING)
def test_decide_goes_on_after_a_fault_that_passes(server: Server, work: Path, undisturbed: Any, name: str) -> None:
    server.serves_vllm = True
    server.chat = fails_at(PASSING[name], 4, tries=2)
    decide("toy", work, "strong", model(server), SETTINGS)
    assert files(work / "decisions/toy/strong") == undisturbed["decisions"]


@pytest.mark.parametrize("name", [*ONE, "null"])
def test_decide_keeps_all_but_the_scene_that_failed(server: Server, work: Path, undisturbed: Any, name: str) -> None:
    fault, sentence = (ONE | {"null": (null, "the content is missing, not text")})[name]
    server.serves_vllm = True
    server.chat = fails_at(fault, 4)
    with pytest.raises(StepFailed, match=sentence) as error:
        decide("toy", work, "strong", model(server), SETTINGS)
    assert str(error.value).isprintable() and "1 of 12 scenes" in str(error.value)
    assert len(server.seen) == SCENES - 1 + SOON.attempts
    healed(server, work, undisturbed, lambda: decide("toy", work, "strong", model(server), SETTINGS), 1)


@pytest.mark.parametrize("name", ALL)
def test_decide_keeps_what_was_answered_before_the_server_was_lost(
    server: Server, work: Path, undisturbed: Any, name: str
) -> None:
    fault, sentence = ALL[name]
    server.serves_vllm = True
    server.chat = lambda body, tries: good(body) if len(server.seen) <= 5 else fault(body)
    with pytest.raises((StepFailed, UserError), match=sentence) as error:
        decide("toy", work, "strong", model(server, replace(SOON, answer=4, total=1)), SETTINGS)
    assert str(error.value).isprintable()
    assert rows_written(work / "decisions/toy/strong") == 5 * 2
    assert len(server.seen) <= 5 + 2 * 3, "at most those in flight, and one after a pause"
    healed(server, work, undisturbed, lambda: decide("toy", work, "strong", model(server), SETTINGS), SCENES - 5)


@pytest.mark.parametrize("name", [*ONE, *PROBABILITIES])
def test_score_keeps_all_but_the_scene_that_failed(
    server: Server, scenes: Path, work: Path, undisturbed: Any, name: str
) -> None:
    fault, sentence = (ONE | PROBABILITIES)[name]
    (work / "decisions").symlink_to(scenes / "decisions")
    server.serves_vllm = True
    server.chat = fails_at(fault, 5)  # the first is the test of the server
    with pytest.raises(StepFailed, match=sentence) as error:
        score("toy", work, model(server))
    assert str(error.value).isprintable() and "1 of 12 scenes" in str(error.value)
    assert len(server.seen) == 1 + 4 * (SCENES - 1) + 4 * SOON.attempts
    healed(server, work, undisturbed, lambda: score("toy", work, model(server)), 1 + 4)


@pytest.mark.parametrize("name", ALL)
def test_score_keeps_what_was_answered_before_the_server_was_lost(
    server: Server, scenes: Path, work: Path, undisturbed: Any, name: str
) -> None:
    fault, sentence = ALL[name]
    (work / "decisions").symlink_to(scenes / "decisions")
    server.serves_vllm = True
    server.chat = lambda body, tries: good(body) if len(server.seen) <= 21 else fault(body)
    with pytest.raises((StepFailed, UserError), match=sentence):
        score("toy", work, model(server, replace(SOON, answer=4, total=1)))
    # Of the 20 answers, those of scenes that were answered whole: three scenes are open at a time.
    rows = rows_written(work / "predictions/toy/strong")
    assert rows >= 2 * 2
    healed(server, work, undisturbed, lambda: score("toy", work, model(server)), 1 + 4 * (SCENES - rows // 2))


def healed(server: Server, work: Path, undisturbed: Any, again: Callable[[], Any], requests: int) -> None:
    """Run again: only what is missing is asked, and the bytes are those of a run without faults."""
    step = "predictions" if (work / "predictions").exists() else "decisions"
    server.chat = good
    server.seen.clear()
    again()
    assert files(work / step / "toy" / "strong") == undisturbed[step]
    assert len(server.seen) == requests


def test_decide_through_the_command_line(
    server: Server, work: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches, which end up in the same bytes; the list of batches goes with the journal."""
    server.route = api = BatchAPI()
    api.answer = lambda request, number: good_result(request, good(request["body"]))
    server.serves_vllm = True
    monkeypatch.setattr("usermirrorer.llm.servers.batch.time.sleep", lambda seconds: None)
    options = ["--variant", "strong", "--llm", "openai:m", "--prompt", "plain", "--n", "2", "--batch"]
    arguments = ["decide", "toy", "--work", str(work), *options, "--base-url", server.url, "--concurrency", "2"]
    monkeypatch.setattr("sys.argv", ["usermirrorer", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert files(work / "decisions/toy/strong") == undisturbed["decisions"]
    assert sum(map(len, api.requests)) == SCENES and not server.seen
    assert not list((work / "decisions/toy/strong").glob(".batches*"))


def test_a_recipe_writes_in_batches(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.route = api = BatchAPI()
    api.answer = lambda request, number: good_result(request, good(request["body"]))
    server.serves_vllm = True
    monkeypatch.setattr("usermirrorer.llm.servers.batch.time.sleep", lambda seconds: None)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: x\nprompt: plain\ndomains: [{name: toy, exposure: logged, scenes: {train: 30, test: 10}}]\n"
        f'strong: {{llm: "openai:m", base_url: "{server.url}", batch: true, n: 2}}\n'
        "weak: {llm: scripted:noisy, n: 2}\npredictor: {llm: scripted:reader}\n"
        "distill: {num: 5, min_accepted: 1}\n"
    )
    decided = next(one for one in build(read_data_recipe(recipe), tmp_path, {}) if "strong" in one.name)
    assert decided.rows == 60 and sum(map(len, api.requests)) == 30 and not server.seen
    recipe.write_text(recipe.read_text().replace("scripted:noisy", "scripted:noisy, batch: true"))
    with pytest.raises(UserError, match="batches are for openai:MODEL at one base URL, not for 'scripted:noisy'"):
        build(read_data_recipe(recipe), tmp_path / "new", {})
    assert not (tmp_path / "new").exists()


def test_a_recipe_names_its_servers(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: x\ndomains: [{name: toy, scenes: {train: 10, test: 10}}]\n"
        'strong: {llm: "openai:large", base_url: ["http://a/v1", "http://b/v1"], concurrency: 7}\n'
        'weak: {llm: "openai:small", base_url: "http://c/v1"}\npredictor: {llm: "openai:small"}\n'
    )
    read = read_data_recipe(recipe)
    loaded = [load(asked) for asked in (read.strong, read.weak)]
    assert [model.servers.hosts for model in loaded] == ["a and 1 other", "c"]
    assert loaded[0].servers.slots == 2 * 2 * 7
    recipe.write_text(recipe.read_text().replace('"http://c/v1"', "{a: b}"))
    with pytest.raises(UserError, match="recipe.yaml:4: base_url: .*must be text"):
        read_data_recipe(recipe)
