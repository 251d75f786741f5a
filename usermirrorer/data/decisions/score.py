"""Decisions → predictions: the probability that one predictor gives every option after each decision process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from usermirrorer.data.artefacts.schema import PREDICTIONS, VARIANTS
from usermirrorer.data.artefacts.store import Progress, Step, fingerprint, finished_content, open_step
from usermirrorer.data.decisions.decide import batches
from usermirrorer.llm.choose import prompt_limit
from usermirrorer.llm.paths import model_digest
from usermirrorer.llm.prompts import LABELS, SceneText, conversation, opened, shed_history
from usermirrorer.llm.protocol import Conversation, LanguageModel
from usermirrorer.steps import Sampling


BATCH = 2000
"""Decision processes scored at a time."""

ROOM_FOR_TEMPLATE = 512
"""A generous bound on the tokens that a chat template adds."""


def score(
    name: str, work: Path, predictor: LanguageModel, progress: Progress = lambda done, total: None
) -> dict[str, dict[str, Any]]:
    """Write `work/predictions/NAME/{strong,weak}` under one predictor; the manifests' contents by variant.

    The predictor gives the probability of every label after `decision\\nBehavior: [` (paper, section 4). A scene too
    long for it sheds its oldest history, the same for all decisions and both variants; the manifest lists how many
    entries (`shed`), since what is scored must be what is trained. Scenes and decisions that still do not fit are
    counted and have no rows. Raises UserError if `decide` has not finished for both variants.
    """
    folder, command = work / "decisions" / name, f"decide {name} --work {work} --variant"
    decided = {variant: finished_content(folder / variant, f"{command} {variant}") for variant in VARIANTS}
    longest = max(content["recipe"]["sampling"]["max_tokens"] for content in decided.values())
    finished_content(work / "scenes" / name / "train", f"scenes {name} --work {work} --split train")
    contents, texts = {}, None
    done, total = 0, sum(content["rows"] for content in decided.values())
    for variant, content in decided.items():
        recipe = {
            "step": "score", "domain": name, "variant": variant, "predictor": predictor.name,
            "predictor_digest": model_digest(predictor.name), "decisions": fingerprint(folder / variant),
            "prompt": content["recipe"]["prompt"], "longest_decision": longest,
        }  # fmt: skip
        with open_step(work / "predictions" / name / variant, recipe, PREDICTIONS) as step:
            if not step.complete:
                if texts is None:
                    texts = _fitted(work / "scenes" / name / "train", predictor, recipe)
                _score(step, folder / variant, predictor, content, texts, partial(_part_done, progress, done, total))
            contents[variant] = step.content
            done += content["rows"]
    return contents


def _fitted(scenes: Path, predictor: LanguageModel, recipe: dict[str, Any]) -> dict[str, tuple[SceneText, int] | None]:
    """Each scene's text with room for the longest decision, and how many entries it shed; None if it can't fit."""
    limit = prompt_limit(predictor, Sampling(max_tokens=recipe["longest_decision"]), "decision")
    return {
        scene_id: shed_history(text, recipe["prompt"], predictor.count_tokens, limit)
        for batch in batches(scenes, ["scene_id", "text"], BATCH)
        for scene_id, text in batch
    }


def _score(
    step: Step,
    decisions: Path,
    predictor: LanguageModel,
    content: dict[str, Any],
    texts: dict[str, tuple[SceneText, int] | None],
    progress: Progress,
) -> None:
    """Score the decisions of one variant in order, after those already on disk."""
    prompt, scored, done, too_long = content["recipe"]["prompt"], step.resume(), 0, 0
    for batch in batches(decisions, ["scene_id", "variant", "sample", "text"], BATCH):
        fitting = []
        for scene_id, variant, sample, decision in batch:
            room = texts[scene_id]
            context = None if room is None else opened(conversation(room[0], prompt), decision)
            if room is None or context is None or not _fits(context, predictor):
                too_long += 1
            else:
                row = {"scene_id": scene_id, "variant": variant, "sample": sample, "predictor": predictor.name}
                fitting.append((row, context, list(LABELS[: len(room[0]["action_list"])])))
        new = fitting[scored:]
        scored = max(0, scored - len(fitting))
        if new:
            rows, contexts, labels = zip(*new, strict=True)
            probs = predictor.choice_probs(list(contexts), list(labels))
            step.append([row | {"probs": values.tolist()} for row, values in zip(rows, probs, strict=True)])
        done += len(batch)
        progress(done, content["rows"])
    shed = {scene_id: room[1] for scene_id, room in texts.items() if room is not None and room[1]}
    step.finish(rows=done - too_long, counts={"too_long": too_long, "shed_history": len(shed)}, shed=shed)


def _part_done(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """Progress of one variant as that of both."""
    progress(before + done, total)


def _fits(context: Conversation, predictor: LanguageModel) -> bool:
    """Whether a label can follow. A token has at least one byte, so only longer texts need counting."""
    room = predictor.max_length
    if room is None or sum(len(message["content"].encode()) for message in context) + ROOM_FOR_TEMPLATE < room:
        return True
    return predictor.count_tokens([context])[0] < room
