"""The simulator in Python, on the real engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from usermirrorer import Simulator
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.choose import Process, choose, prompt_limit, trained_prompt
from usermirrorer.llm.engines.vllm import VLLMModel
from usermirrorer.llm.execution import BatchSession, run_all
from usermirrorer.llm.prompts import SceneText, conversation, opened
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.seeds import scene_seed
from usermirrorer.steps import Sampling


SAMPLING = Sampling(max_tokens=10)


def scene(number: int, options: int = 3) -> SceneText:
    return {
        "profile": "",
        "history": f"chose sweet cake {number}",
        "action_list": [f"tea {number + i}" for i in range(options)],
    }


class WrittenByTest:
    """The engine, except that the test writes the texts: probabilities still come from the real model."""

    def __init__(self, model: VLLMModel, texts: list[str], reason: str = "stop") -> None:
        self.name = model.name
        self.max_length = model.max_length
        self.choice_probs = model.choice_probs
        self.count_tokens = model.count_tokens
        self.embed = model.embed
        self.outputs = [Output(text, reason) for text in texts]

    def session(self) -> BatchSession:
        return BatchSession(self, 64)

    def generate(self, conversations: list[Conversation], n: int, sampling: Sampling, seeds: list[int]) -> list:
        return [self.outputs for _ in conversations]


def test_importing_the_package_loads_neither_torch_nor_vllm() -> None:
    code = "import sys, usermirrorer; print(sorted({'torch', 'vllm', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_an_answer_is_the_mean_of_its_processes(engine: VLLMModel) -> None:
    scenes = [scene(1), scene(2, 5)]
    answers = Simulator(engine, prompt="plain", samples=4, seed=3, max_tokens=10).simulate(scenes)
    for text, answer in zip(scenes, answers, strict=True):
        assert len(answer.rationales) == 4
        stacked = np.array([process.probs for process in answer.rationales])
        assert stacked.shape == (4, len(text["action_list"]))
        np.testing.assert_allclose(answer.probs, stacked.mean(axis=0))
        assert answer.probs.sum() == pytest.approx(1)
        assert answer.item == text["action_list"][answer.picked] == text["action_list"][int(answer.probs.argmax())]
        assert answer.unfinished == sum(process.behavior is None for process in answer.rationales)


def test_a_scene_has_the_same_answer_in_any_list(engine: VLLMModel) -> None:
    user = Simulator(engine, prompt="plain", samples=2, seed=1, max_tokens=10)
    many = user.simulate([scene(i) for i in range(6)])
    [one] = user.simulate([scene(4)])
    assert [process.text for process in one.rationales] == [process.text for process in many[4].rationales]
    np.testing.assert_array_equal(one.probs, many[4].probs)
    [other] = Simulator(engine, prompt="plain", samples=2, seed=2, max_tokens=10).simulate([scene(4)])
    assert [process.text for process in one.rationales] != [process.text for process in other.rationales]


def test_direct_mode_scores_without_writing(engine: VLLMModel) -> None:
    [answer] = Simulator(engine, mode="direct").simulate([scene(1)])
    [expected] = engine.choice_probs([opened(conversation(scene(1), "direct"), None)], [list("ABC")])
    np.testing.assert_array_equal(answer.probs, expected)
    assert [process.text for process in answer.rationales] == [""]
    assert answer.unfinished == 0


def probs_after(engine: VLLMModel, text: str) -> np.ndarray:
    return engine.choice_probs([opened(conversation(scene(1), "plain"), text)], [list("ABC")])[0]


def chosen(model: WrittenByTest, repeat: int = 1) -> list[Process]:
    task = choose(model, conversation(scene(1), "plain"), 3, repeat=repeat, sampling=SAMPLING, mode="decision", seed=1)
    [processes] = run_all(model.session(), [task])
    assert not isinstance(processes, StepFailed)
    return processes


def test_a_process_is_scored_after_its_own_text(engine: VLLMModel) -> None:
    """The writer's label, however it is written, is not part of what the predictor sees."""
    texts = ["I like tea.\nBehavior: [B]", "I like tea.\nBehavior: [C]", "No tea.\n**Behavior: A**"]
    model = WrittenByTest(engine, texts)
    processes = chosen(model, repeat=3)
    assert [process.behavior for process in processes] == [1, 2, 0]
    assert [process.text for process in processes] == ["I like tea.", "I like tea.", "No tea."]
    assert not any(process.unfinished for process in processes)
    np.testing.assert_array_equal(processes[0].probs, processes[1].probs)
    np.testing.assert_array_equal(processes[0].probs, probs_after(engine, "I like tea."))
    np.testing.assert_array_equal(processes[2].probs, probs_after(engine, "No tea."))


@pytest.mark.parametrize("text", ["I like tea and", "I like tea and\nBehavior: [Z]", "I like tea and\nBehavior: ["])
def test_an_unfinished_decision_is_closed_scored_and_flagged(engine: VLLMModel, text: str) -> None:
    [process] = chosen(WrittenByTest(engine, [text], "length"))
    assert process.unfinished
    assert process.behavior is None
    assert process.finish_reason == "length"
    np.testing.assert_array_equal(process.probs, probs_after(engine, "I like tea and"))


def test_a_runaway_text_is_scored_too(engine: VLLMModel) -> None:
    """Broken bytes become replacement characters, which are longer than the tokens they came from."""
    model = WrittenByTest(engine, ["\ufffd" * engine.max_length], "length")
    [process] = chosen(model)
    assert process.probs.sum() == pytest.approx(1)
    assert process.unfinished


def test_an_over_long_scene_sheds_its_oldest_history(engine: VLLMModel) -> None:
    entries = [f"chose cake {i}" for i in range(2000)]
    [answer] = Simulator(engine, prompt="plain", samples=1, max_tokens=10).simulate(
        [{**scene(1), "history": "\n".join(entries)}]
    )
    limit = prompt_limit(engine, SAMPLING, "decision")
    assert limit is not None and 0 < answer.shed < 2000
    for shed, fits in ((answer.shed, True), (answer.shed - 1, False)):
        kept = conversation({**scene(1), "history": "\n".join(entries[shed:])}, "plain")
        assert (engine.count_tokens([kept])[0] <= limit) is fits


def test_impossible_scenes_are_refused_by_number(engine: VLLMModel) -> None:
    user = Simulator(engine, prompt="plain", samples=1, max_tokens=10)
    with pytest.raises(UserError, match=r"scenes\[1\]: there are 27 options"):
        user.simulate([scene(0), scene(1, 27)])
    with pytest.raises(UserError, match=r"scenes\[1\]: there are 1 options"):
        user.simulate([scene(0), scene(1, 1)])
    with pytest.raises(UserError, match=r"scenes\[0\]: longer than"):
        user.simulate([{**scene(0), "action_list": ["tea " * 9000, "cake"]}])


def test_the_prompt_is_the_one_the_model_was_trained_with(model_dir: str, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(model_dir, trained)
    (trained / "usermirrorer.json").unlink(missing_ok=True)
    assert Simulator(str(trained)).prompt == "ekb"
    (trained / "usermirrorer.json").write_text(json.dumps({"prompt": "plain", "method": "sft"}))
    assert Simulator(str(trained)).prompt == Simulator(f"vllm:{trained}").prompt == "plain"
    assert Simulator(str(trained), prompt="ekb").prompt == "ekb"
    assert Simulator(str(trained), mode="direct").prompt == "direct"
    (trained / "usermirrorer.json").write_text(json.dumps({"prompt": "poem"}))
    with pytest.raises(UserError, match="usermirrorer.json names the prompt 'poem'"):
        trained_prompt(str(trained))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UserError, match="mode 'think': choose decision or direct"):
        Simulator("tiny-base", mode="think")
    with pytest.raises(UserError, match="samples 0: must be at least 1"):
        Simulator("tiny-base", samples=0)


def test_a_scene_seed_depends_on_both_its_parts() -> None:
    seeds = {scene_seed(seed, key) for seed in range(20) for key in ("a", "b", "1a")}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_model_trained_on_rows_made_elsewhere_asks_for_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "usermirrorer.json").write_text('{"prompt": null}')
    with pytest.raises(UserError, match="--prompt"):
        Simulator(str(tmp_path))
