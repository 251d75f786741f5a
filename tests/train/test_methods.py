"""KTO and GRPO: the rows that they read, what is rewarded, and that a step of each moves the model."""

import json
from pathlib import Path

import numpy as np
import pytest
from handmade_pairs import pair_rows, write_yaml
from test_training import same, train, weights

from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import answered
from usermirrorer.train import config
from usermirrorer.train.input import rows
from usermirrorer.train.weights import model
from usermirrorer.train.weights.rewards import choice_reward, format_reward


def prepared(method: str, settings: dict, path: Path):
    run = config.parse(method, ["--config", str(write_yaml(path / "r.yaml", settings))])
    return rows.prepare(run, model.load_tokenizer(run))[0]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_kto_reads_each_answer_of_a_pair_once_and_not_beside_its_scene(settings, tmp_path):
    dataset = prepared("kto", settings, tmp_path)
    assert dataset.column_names == ["prompt", "completion", "label"]
    wanted = {(row[side][0]["content"], side == "chosen") for row in pair_rows(12) for side in ("chosen", "rejected")}
    assert {(row["completion"][0]["content"], row["label"]) for row in dataset} == wanted and len(dataset) == 24
    prompts = dataset["prompt"]
    assert sum(a == b for a, b in zip(prompts, prompts[1:], strict=False)) < 6


def test_kto_in_batches_of_one_is_refused(settings, tmp_path):
    with pytest.raises(UserError, match="per_device_train_batch_size: KTO compares answers within a batch"):
        prepared("kto", {**settings, "per_device_train_batch_size": 1}, tmp_path)


def test_grpo_reads_prompts_and_choices(settings, tmp_path):
    settings.pop("max_length")
    dataset = prepared("grpo", {**settings, "num_generations": 2}, tmp_path)
    assert dataset.column_names == ["prompt", "choice"]
    assert dataset["choice"] == ["ABCDE".index(row["behavior_chosen"]) for row in pair_rows(12)]


def test_the_choice_is_rewarded_whatever_its_form():
    answers = [said(answered("I like tea.", 1)), said("Behavior: [B]"), said("I take B."), said(answered("So.", 0))]
    assert choice_reward(answers, choice=[1, 1, 1, 1]) == [1.0, 1.0, 0.0, 0.0]


def test_the_form_is_a_decision_process_and_one_last_line():
    good = answered("I like tea.", 1)
    for text, expected in [
        (good, 1.0),
        (good + "\n", 1.0),
        ("Behavior: [B]", 0.0),
        ("I like tea.", 0.0),
        (good + " because it is warm", 0.0),
        ("Behavior: [A]\n" + good, 0.0),
        ("", 0.0),
    ]:
        assert format_reward([said(text)]) == [expected], text


@pytest.mark.launch
@pytest.mark.parametrize("method", ["kto", "grpo"])
def test_a_step_of_each_method_moves_the_model(method, settings, tiny, tmp_path):
    settings |= {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    if method == "grpo":
        settings.pop("max_length")
        # Random answers are never right, and equal rewards teach nothing: the length of an answer stands in.
        settings |= {"num_generations": 2, "max_completion_length": 8, "reward_weights": [1.0, 1.0], "beta": 0.1}
    out = train(method, tmp_path, settings)
    logged = json.loads((out / "trainer_state.json").read_text())["log_history"]
    record = json.loads((out / "usermirrorer.json").read_text())
    assert record["method"] == method and record["run"]["steps"] == 2
    if method == "kto":
        assert not same(weights(out), weights(tiny))
        assert all(np.isfinite(entry["kl"]) for entry in logged[:2])
    else:
        assert {"rewards/choice_reward/mean", "rewards/format_reward/mean"} <= logged[0].keys()
