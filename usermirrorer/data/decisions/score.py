"""Decisions → predictions: the probability that one predictor gives every option after each decision process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from usermirrorer.data.artefacts.journal import Note, Row
from usermirrorer.data.artefacts.schema import PREDICTIONS, VARIANTS
from usermirrorer.data.artefacts.store import Progress, Step, fingerprint, finished_content, open_step, unseen
from usermirrorer.data.decisions.rows import read_rows
from usermirrorer.errors import UserError
from usermirrorer.llm.choose import prompt_limit
from usermirrorer.llm.execution import answer_scenes
from usermirrorer.llm.identity import made_with
from usermirrorer.llm.paths import model_digest
from usermirrorer.llm.prompts import LABELS, SceneText, conversation, fits, opened, shed_history
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.llm.requests import Task, Usage, Weigh
from usermirrorer.steps import Sampling


Decision = tuple[int, str]
"""Its sample number and its text."""

Rows = tuple[list[Row], Note]


@dataclass(frozen=True)
class _Predictor:
    """The model that scores, and what it is shown."""

    model: LanguageModel
    prompt: str
    limit: int | None


def score(name: str, work: Path, predictor: LanguageModel, progress: Progress = unseen) -> dict[str, dict[str, Any]]:
    """Write `work/predictions/NAME/{strong,weak}` under one predictor; the manifests' contents by variant.

    The predictor gives the probability of every label after `decision\\nBehavior: [` (paper, section 4). A scene too
    long for it sheds its oldest history, the same for all decisions and both variants; the manifest lists how many
    entries (`shed`), since what is scored must be what is trained. Scenes and decisions that still do not fit are
    counted and have no rows. All decisions of a scene are scored together, so that its prompt is read once. Raises
    UserError if `decide` has not finished for both variants, StepFailed if a server left some scenes unanswered.
    """
    folder, command = work / "decisions" / name, f"decide {name} --work {work} --variant"
    decided = {variant: finished_content(folder / variant, f"{command} {variant}") for variant in VARIANTS}
    longest = max(content["recipe"]["sampling"]["max_tokens"] for content in decided.values())
    finished_content(work / "scenes" / name / "train", f"scenes {name} --work {work} --split train")
    prompts = {variant: content["recipe"]["prompt"] for variant, content in decided.items()}
    if len(set(prompts.values())) > 1:
        told = ", ".join(f"{variant} {prompt}" for variant, prompt in prompts.items())
        raise UserError(f"{folder}: decisions were written under different instructions ({told}); write one again")
    limit = prompt_limit(predictor, Sampling(max_tokens=longest), "decision")
    reader = _Predictor(predictor, prompts[VARIANTS[0]], limit)
    with ExitStack() as opened_steps:
        steps = {}
        for variant, content in decided.items():
            recipe = {
                "step": "score", "domain": name, "variant": variant, "predictor": predictor.name,
                "predictor_digest": model_digest(predictor.name), "decisions": fingerprint(folder / variant),
                "prompt": content["recipe"]["prompt"], "longest_decision": longest,
            }  # fmt: skip
            output, source = work / "predictions" / name / variant, partial(made_with, predictor, reader.prompt)
            step = opened_steps.enter_context(open_step(output, recipe, PREDICTIONS, source))
            if not step.complete:
                step.resume()
            steps[variant] = step
        missing = {variant: step for variant, step in steps.items() if not step.complete}
        total = sum(decided[variant]["scenes"] for variant in missing)
        tasks = _tasks(work / "scenes" / name / "train", folder, missing, reader)

        def keep(number: int, result: Mapping[str, Rows], usage: Usage) -> None:
            for variant, (rows, note) in result.items():
                missing[variant].put(number, rows, note)
            done = sum(step.journal.units for step in missing.values())
            progress(done, total, usage.prompt_tokens, usage.completion_tokens)

        answer_scenes(predictor, tasks, keep)
        for step in missing.values():
            _finish(step)
        return {variant: step.content for variant, step in steps.items()}


def _finish(step: Step) -> None:
    notes = [step.journal.notes[unit] for unit in sorted(step.journal.notes)]
    shed = {note["scene_id"]: note["shed"] for note in notes if "shed" in note}
    too_long = sum(note.get("too_long", 0) for note in notes)
    step.finish(
        rows=step.written(["sample"]).num_rows, counts={"too_long": too_long, "shed_history": len(shed)}, shed=shed
    )


def _tasks(
    scenes: Path, decisions: Path, steps: Mapping[str, Step], reader: _Predictor
) -> Iterator[tuple[int, Task[dict[str, Rows]]]]:
    """A task for every scene of which a variant is missing."""
    if not steps:
        return
    written = {variant: _by_scene(decisions / variant) for variant in steps}
    waiting = {variant: next(groups, None) for variant, groups in written.items()}
    for number, (scene_id, text) in enumerate(read_rows(scenes, ["scene_id", "text"])):
        found: dict[str, list[Decision]] = {}
        for variant, step in steps.items():
            group = waiting[variant]
            is_here = group is not None and group[0] == scene_id
            if number not in step:
                found[variant] = group[1] if is_here and group is not None else []
            if is_here:
                waiting[variant] = next(written[variant], None)
        if found:
            yield number, _score(scene_id, text, found, reader)
    for variant, group in waiting.items():
        if group is not None:
            raise UserError(
                f"{decisions / variant} has decisions of {group[0]}, which is not the next of the scenes in {scenes}; "
                "delete it and run decide again"
            )


def _by_scene(directory: Path) -> Iterator[tuple[str, list[Decision]]]:
    """The decisions of each scene that has some, in order."""
    scene: str | None = None
    group: list[Decision] = []
    for scene_id, sample, text in read_rows(directory, ["scene_id", "sample", "text"]):
        if scene_id != scene:
            if scene is not None:
                yield scene, group
            scene, group = scene_id, []
        group.append((sample, text))
    if scene is not None:
        yield scene, group


def _score(
    scene_id: str, text: SceneText, decisions: Mapping[str, Sequence[Decision]], reader: _Predictor
) -> Task[dict[str, Rows]]:
    """The predictions of a scene's decisions, by variant."""
    room = shed_history(text, reader.prompt, reader.model.count_tokens, reader.limit)
    if room is None:
        return {variant: ([], {"too_long": len(group)}) for variant, group in decisions.items()}
    text, shed = room
    messages, labels = conversation(text, reader.prompt), LABELS[: len(text["action_list"])]
    contexts = {
        (variant, sample): opened(messages, decision)
        for variant, group in decisions.items()
        for sample, decision in group
    }
    room_for_label = None if reader.model.max_length is None else reader.model.max_length - 1
    asked = {
        key: context for key, context in contexts.items() if fits(context, reader.model.count_tokens, room_for_label)
    }
    answers = (yield [Weigh(context, labels) for context in asked.values()]) if asked else []
    probs = dict(zip(asked, answers, strict=True))
    result: dict[str, Rows] = {}
    for variant, group in decisions.items():
        rows = [
            {
                "scene_id": scene_id, "variant": variant, "sample": sample, "predictor": reader.model.name,
                "probs": probs[variant, sample].tolist(),  # type: ignore[union-attr]
            }
            for sample, _ in group
            if (variant, sample) in probs
        ]  # fmt: skip
        note: Note = {"scene_id": scene_id, "shed": shed} if shed else {}
        if too_long := len(group) - len(rows):
            note["too_long"] = too_long
        result[variant] = rows, note
    return result
