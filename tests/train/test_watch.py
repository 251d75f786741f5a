"""What is measured while a model trains, and that it bears on nothing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from handmade_pairs import pair_rows, write_pairs, write_yaml
from test_training import interrupted, same, train, weights

from usermirrorer.errors import UserError
from usermirrorer.llm.engines.transformers import TransformersModel
from usermirrorer.llm.prompts import opened
from usermirrorer.train import config
from usermirrorer.train.input import rows
from usermirrorer.train.watching.watched_pairs import concerns, hold_out
from usermirrorer.train.weights import model


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "watched.jsonl").read_text().splitlines()]


@pytest.fixture
def scenes(tmp_path) -> Path:
    """Test scenes as published files have them: text, the choice's position, a user."""
    path = tmp_path / "test.jsonl"
    with path.open("w") as file:
        for i, pair in enumerate(pair_rows(9, seed=7)):
            user = pair["prompt"][1]["content"]
            history, exposure = user.split("\n\n# Exposure List\n")
            text = {
                "profile": "",
                "history": history.removeprefix("## History\n"),
                "action_list": [line[4:] for line in exposure.splitlines()],
            }
            scene = {"scene_id": f"test{i}", "user_id": f"u{i}", "text": text}
            file.write(json.dumps({**scene, "item_pos": "ABCDE".index(pair["behavior_chosen"])}) + "\n")
    return path


@pytest.fixture
def watching(settings, scenes) -> dict:
    return {**settings, "max_steps": 4, "watch_steps": 2, "watch_scenes": str(scenes), "watch_num": 6}


@pytest.mark.launch
def test_watching_bears_on_nothing_that_is_learnt(watching, settings, tmp_path):
    watching |= {"held_out_pairs": 2, "precompute_ref_log_probs": True, "gradient_checkpointing": True}
    out = train("dpo", tmp_path, watching)
    alone = {**watching, "watch_steps": 0, "output_dir": str(tmp_path / "alone")}
    assert same(weights(train("dpo", tmp_path, alone)), weights(out))
    found = lines(out)
    assert [line["step"] for line in found] == [0, 2, 4]
    for line in found:
        assert line["scenes"]["answered"] == 6 and 0 <= line["scenes"]["argmax_accuracy"] <= 1
        assert math.isfinite(line["scenes"]["calibrated_gain"])
        for name in ("train", "held_out"):
            assert all(value < 0 for key, value in line[name].items() if not key.endswith("margin"))
    assert found[0]["train"]["rationale_margin"] != found[-1]["train"]["rationale_margin"]
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "watched/scenes/argmax_accuracy" in entry] == [0, 2, 4]
    # TRL's own means are all there, for every step.
    assert sum("rewards/margins" in entry for entry in history) == 4


@pytest.mark.launch
def test_pairs_are_weighed_as_the_saved_model_weighs_them(watching, tmp_path):
    import torch

    out = train("dpo", tmp_path, {**watching, "watch_scenes": "", "watch_num": 3})
    run = config.parse("dpo", ["--config", str(write_yaml(tmp_path / "r.yaml", watching))])
    tokenizer = model.load_tokenizer(run)
    pairs = hold_out(run, rows.prepare(run, tokenizer)[0])[1]["train"][:3]
    trained = TransformersModel(str(out))
    expected = []
    for pair in pairs:
        prompt, answer = pair["prompt"], pair["chosen"][0]["content"]
        rationale, label = answer.rsplit("\nBehavior: [", 1)
        context = trained.tokens([opened(prompt, rationale)])[0]
        [label_token] = tokenizer(label[0], add_special_tokens=False)["input_ids"]
        logits = trained._model("causal")(torch.tensor([context])).logits[0, -1].double()
        expected.append(logits.log_softmax(0)[label_token].item())
    assert lines(out)[-1]["train"]["chosen_label"] == pytest.approx(np.mean(expected), abs=1e-4)


@pytest.mark.launch
@pytest.mark.parametrize("method", ["sft", "kto"])
def test_a_run_that_goes_on_keeps_the_lines_up_to_its_checkpoint(method, watching, tmp_path):
    whole = train(method, tmp_path, {**watching, "save_strategy": "steps", "save_steps": 2})
    stopped = interrupted(whole, 2, tmp_path / "stopped")
    (stopped / "watched.jsonl").write_text((whole / "watched.jsonl").read_text())
    again = {**watching, "save_strategy": "steps", "save_steps": 2, "output_dir": str(stopped)}
    assert lines(train(method, tmp_path, again)) == lines(whole)


def test_held_out_pairs_are_not_trained_on(watching, tmp_path):
    run = config.parse("dpo", ["--config", str(write_yaml(tmp_path / "r.yaml", {**watching, "held_out_pairs": 3}))])
    dataset = rows.prepare(run, model.load_tokenizer(run))[0]
    trained, watched = hold_out(run, dataset)
    prompts = {name: {str(row["prompt"]) for row in kept} for name, kept in [("left", trained), *watched.items()]}
    assert len(trained) == 9 and len(watched["held_out"]) == 3 and len(watched["train"]) == 6
    assert not prompts["left"] & prompts["held_out"] and prompts["train"] <= prompts["left"]
    assert hold_out(run, dataset)[1] == watched


@pytest.mark.parametrize(
    ("method", "change", "named"),
    [
        ("dpo", {"held_out_pairs": 8}, "held_out_pairs: 8 of 12 pairs would be more than half"),
        ("sft", {"held_out_pairs": 2}, "held_out_pairs: 2 is refused: only DPO watches pairs"),
        ("sft", {"watch_scenes": ""}, "there is nothing to watch"),
        ("sft", {"watch_scenes": "pairs"}, "holds no scenes"),
        ("sft", {"watch_scenes": "trained"}, "are trained on"),
    ],
)
def test_what_cannot_be_watched_is_said(method, change, named, watching, pairs, scenes, tmp_path):
    if change.get("watch_scenes") == "pairs":
        change = {"watch_scenes": str(pairs)}
    if change.get("watch_scenes") == "trained":
        trained = pair_rows(9)
        for i, row in enumerate(trained):
            row["scene_id"] = f"test{i}"
        change = {"dataset_name": str(write_pairs(tmp_path / "trained", trained))}
    with pytest.raises(UserError, match=named):
        train(method, tmp_path, {**watching, **change})


def test_what_goes_wrong_is_named():
    first = {"chosen_rationale": -40.0, "chosen_label": -1.0, "rejected_rationale": -40.0, "rejected_label": -1.5}
    first |= {"rationale_margin": 0.0, "label_margin": 0.5}
    unlearnt = {**first, "chosen_rationale": -60.0, "rationale_margin": 20.0, "label_margin": 2.0}
    [told] = concerns(first, unlearnt, "train")
    assert "lost 20.0 nats while the margin grew by 21.5" in told and "loss_type: [sigmoid, sft]" in told
    style = {**first, "rationale_margin": 3.0, "label_margin": 0.51}
    [told] = concerns(first, style, "held-out")
    assert "rationales grew by 3.0 nats and that of the labels by 0.01" in told
    assert not concerns(first, {**first, "rationale_margin": 3.0, "label_margin": 2.0}, "train")
