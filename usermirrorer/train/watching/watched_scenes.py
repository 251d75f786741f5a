"""How a model answers a fixed set of test scenes while it trains, in the measures of `eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from usermirrorer import measures
from usermirrorer.calibration import cross_calibrated
from usermirrorer.data.artefacts.reader import load_rows
from usermirrorer.errors import UserError
from usermirrorer.llm.choose import choose, prompt_limit
from usermirrorer.llm.execution import run_all
from usermirrorer.llm.prompts import INSTRUCTIONS, LABELS, conversation, shed_history
from usermirrorer.llm.requests import Task
from usermirrorer.seeds import scene_seed
from usermirrorer.steps import Sampling
from usermirrorer.train.config import Run
from usermirrorer.train.input.scene_rows import are_scenes
from usermirrorer.train.watching.in_training import ModelInTraining


Answer = tuple[str, list[float]]
"""A decision process, and the probability of every option."""


def load_scenes(run: Run, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `watch_num` scenes to watch, the same in every run. `data` is what `rows.prepare` says of the rows.

    Raises UserError if they are no scenes, are trained on, or if no one instruction goes for all rows.
    """
    place = run.watch.watch_scenes
    if not place:
        return []
    if data["prompt"] not in INSTRUCTIONS:
        raise UserError(f"watch_scenes: {run.pairs.dataset_name} is not under one of our instructions; leave it out")
    scenes = load_rows(place, "test", "pass a directory of test scenes")
    if not are_scenes(scenes.column_names):
        raise UserError(f"watch_scenes: {place} holds no scenes; pass a directory of test scenes")
    ids = scenes["scene_id"]
    order = sorted(range(len(scenes)), key=lambda i: scene_seed(0, ids[i]))
    chosen = [scenes[i] for i in order[: run.watch.watch_num]]
    trained = load_rows(run.pairs.dataset_name, run.pairs.dataset_split, "pass pairs or scenes")
    if "scene_id" in trained.column_names and set(trained["scene_id"]) & {scene["scene_id"] for scene in chosen}:
        raise UserError(f"watch_scenes: {place} are trained on; pass the test scenes")
    return chosen


def answer(
    model: ModelInTraining, scenes: Sequence[Mapping[str, Any]], instruction: str, longest: int
) -> list[Answer | None]:
    """One greedy decision process for each scene (none under `direct`), of at most `longest` tokens.

    None for a scene that is too long even without its history.
    """
    mode = "direct" if instruction == "direct" else "decision"
    sampling = Sampling(temperature=0.0, max_tokens=longest)
    limit = prompt_limit(model, sampling, mode)

    def answered(scene: Mapping[str, Any]) -> Task[Answer | None]:
        fitted = shed_history(scene["text"], instruction, model.count_tokens, limit)
        if fitted is None:
            return None
        messages, options = conversation(fitted[0], instruction), len(scene["text"]["action_list"])
        [process] = yield from choose(model, messages, options, repeat=1, sampling=sampling, mode=mode, seed=0)
        return process.text, process.probs.tolist()

    return run_all(model.session(), [answered(scene) for scene in scenes])


def measured(scenes: Sequence[Mapping[str, Any]], answers: Sequence[Answer | None]) -> dict[str, float]:
    """Arg-max accuracy, and the information gain in bits calibrated across halves of the users."""
    kept = [(scene, answer[1]) for scene, answer in zip(scenes, answers, strict=True) if answer is not None]
    if not kept:
        return {"answered": 0}
    probs, counts = measures.padded([row for _, row in kept])
    choice = np.array([scene["item_pos"] for scene, _ in kept])
    users = np.array([scene["user_id"] for scene, _ in kept])
    calibrated, _ = cross_calibrated(probs, choice, counts, np.ones(len(kept)), users)
    return {
        "answered": len(kept),
        "argmax_accuracy": float(measures.argmax_hit(probs, choice).mean()),
        "calibrated_gain": float(measures.information_gain(calibrated, choice, counts).mean()),
    }


def table(scenes: Sequence[Mapping[str, Any]], answers: Sequence[Answer | None]) -> list[list[Any]]:
    """Rows of scene, predicted and real label, probability of the real one, and the decision process."""
    rows = []
    for scene, given in zip(scenes, answers, strict=True):
        if given is not None:
            real, probs = scene["item_pos"], given[1]
            rows.append([scene["scene_id"], LABELS[int(np.argmax(probs))], LABELS[real], probs[real], given[0]])
    return rows


TABLE = ("scene", "predicted", "real", "p(real)", "decision process")
