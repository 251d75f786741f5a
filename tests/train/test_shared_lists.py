"""People who were shown one list: their batches, the answers of mates, and the contrast between them."""

import json
import random
from pathlib import Path

import pytest
from handmade_pairs import THINGS, write_pairs, write_yaml
from hypothesis import given
from hypothesis import strategies as st
from test_training import interrupted, same, train, weights

from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import LABELS, answered, conversation
from usermirrorer.train import config
from usermirrorer.train.input import rows
from usermirrorer.train.input.groups import GroupSampler, groups_of, members_of, rejected_from_group
from usermirrorer.train.weights import model


def grouped_rows(groups: int, size: int = 3, evidence: bool = False) -> list[dict]:
    """Groups of `size` people with one list each, in which everybody takes another item."""
    draw = random.Random(0)
    found = []
    for group in range(groups):
        items = [f"{draw.choice(THINGS)} {group}-{i}" for i in range(size)]
        for member in range(size):
            words = [
                " (chosen often after these)" if i == member else " (chosen rarely after these)" for i in range(size)
            ]
            shown = [item + word * evidence for item, word in zip(items, words, strict=True)]
            text = {"profile": "", "history": f"chose {items[member]}", "action_list": shown}
            other = (member + 2) % size
            found.append(
                {
                    "scene_id": f"{group:08x}{member:08x}",
                    "dataset": "toy",
                    "user_id": f"u{member}",
                    "item_id": items[member],
                    "prompt": conversation(text, "plain"),
                    "chosen": [{"role": "assistant", "content": answered(f"I am {group}-{member}.", member)}],
                    "rejected": [{"role": "assistant", "content": answered("I am another.", other)}],
                    "behavior_chosen": LABELS[member],
                    "behavior_rejected": LABELS[other],
                    "choice_cnt": size,
                }
            )
    draw.shuffle(found)
    return found


@pytest.fixture
def grouped(tmp_path) -> Path:
    return write_pairs(tmp_path / "grouped", grouped_rows(6))


@pytest.mark.parametrize("evidence", [False, True])
def test_prompts_with_one_list_are_one_group_whatever_they_say_of_the_person(evidence):
    pairs = grouped_rows(4, evidence=evidence)
    numbers = groups_of([row["prompt"] for row in pairs])
    found = {(number, row["scene_id"][:8]) for number, row in zip(numbers, pairs, strict=True)}
    assert len(found) == 4 and sorted(len(rows) for rows in members_of(numbers)) == [3, 3, 3, 3]


def test_in_a_group_every_answer_is_rejected_once_and_never_by_its_writer(grouped, settings, tmp_path):
    settings |= {"dataset_name": str(grouped), "rejected_from": "group"}
    run = config.parse("dpo", ["--config", str(write_yaml(tmp_path / "r.yaml", settings))])
    dataset = rows.prepare(run, model.load_tokenizer(run))[0]
    chosen, rejected = ([row[0]["content"] for row in dataset[side]] for side in ("chosen", "rejected"))
    assert sorted(chosen) == sorted(rejected)
    for mine, mates in zip(chosen, rejected, strict=True):
        assert mine != mates and mine.split("-")[0] == mates.split("-")[0]


def test_pairs_without_mates_are_said_to_have_none(settings):
    with pytest.raises(UserError, match="no two pairs have the same options"):
        rejected_from_group(rows.read(settings["dataset_name"], "train", "dpo"))


@given(st.lists(st.integers(1, 7), min_size=1, max_size=30), st.integers(1, 8), st.integers(0, 3), st.integers(0, 3))
def test_a_sampler_gives_every_row_once_and_keeps_groups_whole_where_it_can(sizes, size, seed, epoch):
    groups = [group for group, count in enumerate(sizes) for _ in range(count)]
    random.Random(1).shuffle(groups)
    sampler = GroupSampler(groups, size, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(groups))) and list(sampler) == order
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if len(set(sizes)) == 1 and size % sizes[0] == 0:
        for batch in batches:
            assert all([groups[row] for row in batch].count(group) == sizes[0] for group in {groups[r] for r in batch})


def test_the_contrast_is_the_softmax_over_people():
    import math

    import torch

    from usermirrorer.train.weights.group_contrast import contrast_of

    logs = torch.tensor([[0.0, 1.0, 9.0], [2.0, 1.0, 9.0], [9.0, 9.0, 0.0]])
    groups = torch.tensor([0, 0, 1])
    shares = [math.exp(0) / (math.exp(0) + math.exp(2)), 0.5]
    assert contrast_of(logs, groups).item() == pytest.approx(-sum(map(math.log, shares)) / 2)
    assert contrast_of(logs, torch.tensor([0, 1, 2])).item() == 0
    # Whoever does not look at the person gives all of a group alike: log n.
    assert contrast_of(torch.ones(4, 4), torch.zeros(4)).item() == pytest.approx(math.log(4))


@pytest.mark.launch
def test_group_contrast_trains_resumes_and_adds_only_the_contrast(grouped, settings, tmp_path):
    settings |= {"dataset_name": str(grouped), "per_device_train_batch_size": 3, "group_contrast": 0.5, "max_steps": 4}
    out = train("sft", tmp_path, {**settings, "save_strategy": "steps", "save_steps": 2})
    logged = json.loads((out / "trainer_state.json").read_text())["log_history"][:4]
    assert all(entry["contrast"] > 0 for entry in logged)
    # Before anything is learnt, nobody is told from anybody: log 3.
    assert logged[0]["contrast"] == pytest.approx(1.0986, abs=0.2)
    batched = {**settings, "group_contrast": 0.0, "group_batches": True, "output_dir": str(tmp_path / "batched")}
    first = json.loads((train("sft", tmp_path, batched) / "trainer_state.json").read_text())["log_history"][0]
    assert logged[0]["loss"] == pytest.approx(first["loss"] + 0.5 * logged[0]["contrast"], abs=2e-4)
    assert not same(weights(out), weights(tmp_path / "batched"))
    stopped = interrupted(out, 2, tmp_path / "stopped")
    again = {**settings, "save_strategy": "steps", "save_steps": 2, "output_dir": str(stopped)}
    assert same(weights(train("sft", tmp_path, again)), weights(out))


@pytest.mark.parametrize(
    ("method", "change", "named"),
    [
        ("dpo", {"group_contrast": 0.5}, "it is an objective of sft"),
        ("sft", {"rejected_from": "group"}, "sft reads no rejected answers"),
        ("dpo", {"rejected_from": "groups"}, "did you mean group"),
        ("kto", {"group_batches": True}, "group_batches is refused"),
        ("sft", {"group_batches": True, "packing": True}, "group_batches is refused"),
        ("sft", {"group_batches": True}, "no two rows have the same options"),
    ],
)
def test_a_setting_without_a_meaning_is_refused(method, change, named, settings, tmp_path):
    with pytest.raises(UserError, match=named):
        train(method, tmp_path, {**settings, **change})
