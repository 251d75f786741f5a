"""Scenes → decisions: what a strong and a weak model write before they choose, n times per scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import pyarrow.compute as pc

from usermirrorer.data.artefacts.journal import Note, Row
from usermirrorer.data.artefacts.schema import DECISIONS, VARIANTS
from usermirrorer.data.artefacts.store import Progress, fingerprint, finished_content, open_step, unseen
from usermirrorer.data.decisions.neighbours import Leads, read_leads
from usermirrorer.data.decisions.rows import read_rows
from usermirrorer.errors import UserError, unknown_name
from usermirrorer.llm.choose import prompt_limit
from usermirrorer.llm.execution import answer_scenes
from usermirrorer.llm.identity import made_with
from usermirrorer.llm.paths import model_digest
from usermirrorer.llm.prompts import INSTRUCTIONS, SceneText, conversation, parse, shed_history
from usermirrorer.llm.protocol import LanguageModel, Output
from usermirrorer.llm.requests import Task, Usage, Write
from usermirrorer.llm.scripted import NEIGHBOURS
from usermirrorer.seeds import scene_seed
from usermirrorer.steps import DecideSettings


WRITTEN = tuple(name for name in INSTRUCTIONS if name != "direct")
"""Instructions that ask for a decision process."""

Rows = tuple[list[Row], Note]
"""What a scene gives: its rows, and what is to be counted of it."""


def decide(
    name: str,
    work: Path,
    variant: str,
    model: LanguageModel,
    settings: DecideSettings | None = None,
    progress: Progress = unseen,
) -> dict[str, Any]:
    """Write `work/decisions/NAME/VARIANT` for the train scenes; returns the manifest's content.

    A killed run resumes where it stopped and ends with the same bytes. Over-long scenes shed their oldest history;
    those too long even without it are counted and have no rows. Raises UserError for wrong arguments, StepFailed if a
    server left some scenes unanswered; the other answers are kept.
    """
    settings = settings or DecideSettings()
    prompt, samples = settings.prompt, settings.n
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    if prompt not in WRITTEN:
        raise unknown_name("prompt", prompt, WRITTEN)
    if samples < 1:
        raise UserError(f"n {samples}: must be at least 1")
    settings.check()
    scenes = work / "scenes" / name / "train"
    rows = finished_content(scenes, f"scenes {name} --work {work} --split train")["rows"]
    recipe = {
        "step": "decide", "domain": name, "variant": variant, "model": model.name, "prompt": prompt,
        "model_digest": model_digest(model.name), "samples": samples, "sampling": asdict(settings.sampling),
        "seed": settings.seed, "scenes": fingerprint(scenes),
    }  # fmt: skip
    source = partial(made_with, model, prompt)
    with open_step(work / "decisions" / name / variant, recipe, DECISIONS, source) as step:
        if step.complete:
            return step.content
        step.resume()
        limit = prompt_limit(model, settings.sampling, "decision")

        def tasks() -> Iterator[tuple[int, Task[Rows]]]:
            # Read only if there is something left to write.
            leads = None
            for number, (scene_id, text) in enumerate(read_rows(scenes, ["scene_id", "text"])):
                if number not in step:
                    if model.name == NEIGHBOURS and leads is None:
                        leads = read_leads(name, work)
                    yield number, _write(scene_id, text, variant, model, settings, limit, leads)

        def keep(number: int, result: Rows, usage: Usage) -> None:
            step.put(number, *result)
            progress(step.journal.units, rows, usage.prompt_tokens, usage.completion_tokens)

        answer_scenes(model, tasks(), keep)
        notes = step.journal.notes.values()
        counts = {kind: sum(kind in note for note in notes) for kind in ("shed_history", "too_long")}
        written = step.written(["behavior", "finish_reason"])
        counts["cut_off"] = int(pc.sum(pc.equal(written["finish_reason"], "length")).as_py() or 0)
        counts["no_label"] = written["behavior"].null_count
        step.finish(rows=len(written), scenes=rows, counts=counts)
        return step.content


def _write(
    scene_id: str,
    text: SceneText,
    variant: str,
    model: LanguageModel,
    settings: DecideSettings,
    limit: int | None,
    leads: Leads | None,
) -> Task[Rows]:
    """The decision processes of a scene: from `leads` if there are any, else by the model."""
    room = shed_history(text, settings.prompt, model.count_tokens, limit)
    if room is None:
        return [], {"too_long": True}
    text, shed = room
    messages, seed = conversation(text, settings.prompt), scene_seed(settings.seed, scene_id)
    if leads:
        [outputs] = leads.write([scene_id], [messages], settings.n, [seed])
    else:
        [answer] = yield [Write(messages, settings.n, settings.sampling, seed)]
        outputs = cast(list[Output], answer)
    rows = []
    for sample, output in enumerate(outputs):
        decision, behavior = parse(output.text, len(text["action_list"]))
        rows.append({
            "scene_id": scene_id, "variant": variant, "model": model.name, "sample": sample, "text": decision,
            "behavior": behavior, "finish_reason": output.finish_reason,
        })  # fmt: skip
    return rows, {"shed_history": True} if shed else {}
