"""What a model says of fixed pairs while DPO trains it: rationale and label apart, chosen and rejected apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from usermirrorer.errors import UserError
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.prompts import LABELS, opened, parse
from usermirrorer.seeds import scene_seed
from usermirrorer.train.config import Run
from usermirrorer.train.watching.in_training import ModelInTraining


if TYPE_CHECKING:
    from datasets import Dataset

SIDES = ("chosen", "rejected")
PARTS = ("rationale", "label")

FALLEN_NATS = 10.0
"""A chosen answer that loses more than this while the margin grows is being unlearnt."""

STILL_NATS = 0.05
GROWN_NATS = 1.0

Pairs = Mapping[str, Sequence[Mapping[str, Any]]]


def hold_out(run: Run, rows: Dataset) -> tuple[Dataset, Pairs]:
    """The pairs to train on, and those to watch: `train` are among them, `held_out` are not.

    Which they are depends on their prompts and the seed. Raises UserError if too few would be left.
    """
    watch = run.watch
    if not watch.watch_steps and not watch.held_out_pairs:
        return rows, {}
    if len(rows) < 2 * watch.held_out_pairs:
        raise UserError(
            f"held_out_pairs: {watch.held_out_pairs} of {len(rows):,} pairs would be more than half; hold out fewer"
        )
    prompts = rows["prompt"]
    order = sorted(range(len(rows)), key=lambda i: scene_seed(run.training.seed, str(prompts[i])))
    held_out, trained = order[: watch.held_out_pairs], order[watch.held_out_pairs :]
    watched = {
        "train": [rows[i] for i in trained[: watch.watch_num]],
        "held_out": [rows[i] for i in held_out[: watch.watch_num]],
    }
    return rows.select(sorted(trained)), {name: pairs for name, pairs in watched.items() if pairs}


def log_probabilities(model: ModelInTraining, pairs: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Sums of log-probabilities in nats, `(pairs, sides, parts)`: chosen and rejected, rationale and label."""
    labels = label_tokens(model.encode, LABELS, model.name)
    return np.array([[_of_answer(model, pair["prompt"], pair[side], labels) for side in SIDES] for pair in pairs])


def summary(values: np.ndarray) -> dict[str, float]:
    """Means over pairs: `chosen_rationale` … `rejected_label`, and the margins of each part."""
    means = values.mean(axis=0)
    found = {f"{side}_{part}": float(means[i, j]) for i, side in enumerate(SIDES) for j, part in enumerate(PARTS)}
    return {**found, **{f"{part}_margin": float(means[0, j] - means[1, j]) for j, part in enumerate(PARTS)}}


def concerns(first: Mapping[str, float], now: Mapping[str, float], which: str) -> list[str]:
    """What is going wrong in a run that began with `first` and is at `now`; `which` names the pairs."""
    changes = {name: now[name] - first[name] for name in now}
    chosen = changes["chosen_rationale"] + changes["chosen_label"]
    margin = changes["rationale_margin"] + changes["label_margin"]
    found = []
    if chosen < -FALLEN_NATS and margin > 0:
        found.append(
            f"{which} pairs: the chosen answers lost {-chosen:.1f} nats while the margin grew by {margin:.1f}: they "
            "are being unlearnt with the rejected ones; add an SFT term (loss_type: [sigmoid, sft], loss_weights: "
            "[1.0, 0.2]), raise beta or lower learning_rate"
        )
    if changes["rationale_margin"] > GROWN_NATS and abs(changes["label_margin"]) < STILL_NATS:
        found.append(
            f"{which} pairs: the margin of the rationales grew by {changes['rationale_margin']:.1f} nats and that of "
            f"the labels by {changes['label_margin']:.2f}: it learns how to write and not what to choose; train more "
            "SFT steps first, or pair answers whose rationales are alike"
        )
    return found


def _of_answer(model: ModelInTraining, prompt: Any, answer: Any, labels: Sequence[int]) -> tuple[float, float]:
    """Log-probabilities of an answer's rationale, up to the bracket, and of its label."""
    import torch

    rationale, label = parse(answer[-1]["content"], len(LABELS))
    [question, context] = model.tokens([list(prompt), opened(list(prompt), rationale)])
    tokens = torch.tensor([[*context, labels[label or 0]]], device=model.model.device)
    answered = tokens.shape[1] - len(question)
    logits = model.model(input_ids=tokens, logits_to_keep=answered + 1, use_cache=False).logits[0, :-1].float()
    found = logits.log_softmax(-1).gather(1, tokens[0, -answered:, None])[:, 0].double()
    return float(found[:-1].sum()), float(found[-1])
