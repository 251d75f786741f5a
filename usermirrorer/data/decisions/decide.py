"""Scenes → decisions: what a strong and a weak model write before they choose, n times per scene."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.schema import DECISIONS, VARIANTS
from usermirrorer.data.artefacts.store import Progress, fingerprint, finished_content, open_step, write_bytes
from usermirrorer.data.decisions.neighbours import Leads, read_leads
from usermirrorer.errors import UserError, unknown_name
from usermirrorer.llm.choose import prompt_limit
from usermirrorer.llm.openai import ConversationsFailed
from usermirrorer.llm.paths import model_digest
from usermirrorer.llm.prompts import INSTRUCTIONS, SceneText, conversation, parse, shed_history
from usermirrorer.llm.protocol import LanguageModel, Output
from usermirrorer.llm.scripted import NEIGHBOURS
from usermirrorer.seeds import scene_seed
from usermirrorer.steps import DecideSettings


BATCH = 64
"""Scenes sent at a time: the most work that a kill or a dead server can cost."""

WRITTEN = tuple(name for name in INSTRUCTIONS if name != "direct")
"""Instructions that ask for a decision process."""

ANSWERS = ".answers.json"
"""Answers to scenes after one that failed, for the next run to use."""


def decide(
    name: str,
    work: Path,
    variant: str,
    model: LanguageModel,
    settings: DecideSettings | None = None,
    progress: Progress = lambda done, total: None,
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
    with open_step(work / "decisions" / name / variant, recipe, DECISIONS) as step:
        if step.complete:
            return step.content
        counts = {"shed_history": 0, "too_long": 0}
        answered = step.resume() // samples
        saved = _load_answers(step.directory / ANSWERS)
        limit = prompt_limit(model, settings.sampling, "decision")
        # Read only if there is something left to write.
        leads = read_leads(name, work) if model.name == NEIGHBOURS else None
        done = 0
        for batch in batches(scenes, ["scene_id", "text"], BATCH):
            fitting = []
            for scene_id, text in batch:
                room = shed_history(text, prompt, model.count_tokens, limit)
                counts["too_long"] += room is None
                counts["shed_history"] += room is not None and room[1] > 0
                if room is not None:
                    fitting.append((scene_id, room[0]))
            new = fitting[answered:]
            answered = max(0, answered - len(fitting))
            if new:
                outputs, failure = _outputs(model, leads, new, settings, saved)
                for (scene_id, text), answers in zip(new, outputs, strict=True):
                    if answers is None:
                        # Rows are written in order: the answers after this gap are saved for the next run.
                        break
                    step.append(_rows(scene_id, text, answers, variant, model.name))
                if failure is not None:
                    saved |= {i: answers for (i, _), answers in zip(new, outputs, strict=True) if answers is not None}
                    _save_answers(step.directory / ANSWERS, saved)
                    raise failure
            done += len(batch)
            progress(done, rows)
        (step.directory / ANSWERS).unlink(missing_ok=True)
        written = step.written(["behavior", "finish_reason"])
        counts["cut_off"] = int(pc.sum(pc.equal(written["finish_reason"], "length")).as_py() or 0)
        counts["no_label"] = written["behavior"].null_count
        step.finish(rows=len(written), scenes=rows, counts=counts)
        return step.content


def batches(directory: Path, columns: list[str], size: int) -> Iterator[list[tuple[Any, ...]]]:
    """Some columns of a step's output, row by row in order, `size` rows at a time."""
    for part in sorted(directory.glob("*.parquet")):
        for batch in pq.ParquetFile(part).iter_batches(size, columns=columns):
            yield list(zip(*(batch[name].to_pylist() for name in columns), strict=True))


def _outputs(
    model: LanguageModel,
    leads: Leads | None,
    scenes: list[tuple[str, SceneText]],
    settings: DecideSettings,
    saved: dict[str, list[Output]],
) -> tuple[list[list[Output] | None], ConversationsFailed | None]:
    """The outputs for each scene, None if the server failed, and that failure; saved answers are used first.

    They are written from `leads` if there are any, else by the model.
    """
    new = [(scene_id, text) for scene_id, text in scenes if scene_id not in saved]
    conversations = [conversation(text, settings.prompt) for _, text in new]
    seeds = [scene_seed(settings.seed, scene_id) for scene_id, _ in new]
    failure = None
    try:
        fresh: list[Any] = (
            leads.write([scene_id for scene_id, _ in new], conversations, settings.n, seeds)
            if leads
            else model.generate(conversations, settings.n, settings.sampling, seeds)
        )
    except ConversationsFailed as error:
        fresh, failure = error.outputs, error
    by_id = {**saved, **{scene_id: answers for (scene_id, _), answers in zip(new, fresh, strict=True)}}
    return [by_id[scene_id] for scene_id, _ in scenes], failure


def _rows(scene_id: str, text: SceneText, outputs: list[Output], variant: str, model: str) -> list[dict[str, Any]]:
    rows = []
    for sample, output in enumerate(outputs):
        decision, behavior = parse(output.text, len(text["action_list"]))
        rows.append({
            "scene_id": scene_id, "variant": variant, "model": model, "sample": sample, "text": decision,
            "behavior": behavior, "finish_reason": output.finish_reason,
        })  # fmt: skip
    return rows


def _load_answers(path: Path) -> dict[str, list[Output]]:
    """Answers that an earlier run got after one that failed."""
    if not path.is_file():
        return {}
    return {key: [Output(**output) for output in row] for key, row in json.loads(path.read_text()).items()}


def _save_answers(path: Path, saved: dict[str, list[Output]]) -> None:
    text = json.dumps({key: [asdict(output) for output in row] for key, row in saved.items()}, ensure_ascii=False)
    write_bytes(path, text.encode())
