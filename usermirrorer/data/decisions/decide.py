"""Scenes → decisions: what a strong and a weak model write before they choose, n times for each scene."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.schema import DECISIONS, VARIANTS
from usermirrorer.data.artefacts.store import fingerprint, finished_content, open_step, write_bytes
from usermirrorer.errors import UserError
from usermirrorer.llm import model_digest
from usermirrorer.llm.choose import prompt_limit
from usermirrorer.llm.openai import ConversationsFailed
from usermirrorer.llm.prompts import INSTRUCTIONS, SceneText, conversation, parse, shed_history
from usermirrorer.llm.protocol import LanguageModel, Output, Sampling
from usermirrorer.seeds import scene_seed


SAMPLES = 10
"""Decision processes per scene (paper, section 3)."""

BATCH = 64
"""Scenes asked for at a time: what a kill or a dead server can cost at most."""

ANSWERS = ".answers.json"
"""Answers that came back behind one that failed; a later run uses them."""

Progress = Callable[[int, int], None]


def decide(
    name: str,
    work: Path,
    variant: str,
    model: LanguageModel,
    prompt: str = "ekb",
    samples: int = SAMPLES,
    sampling: Sampling | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Write `work/decisions/NAME/VARIANT` for the train scenes; returns the manifest's content.

    A killed run goes on where it stopped and ends in the same bytes. Over-long scenes shed their oldest history; those
    too long even without it are counted and have no rows. Raises StepFailed where a server left some scenes
    unanswered; the others are kept.
    """
    sampling = sampling or Sampling()
    if variant not in VARIANTS:
        raise UserError(f"variant {variant!r}: choose strong or weak")
    if prompt not in ("ekb", "plain"):
        raise UserError(f"prompt {prompt!r}: choose one of {', '.join(p for p in INSTRUCTIONS if p != 'direct')}")
    if samples < 1:
        raise UserError(f"n {samples}: ask for at least one decision process")
    scenes = work / "scenes" / name / "train"
    rows = finished_content(scenes, f"scenes {name} --work {work} --split train")["rows"]
    recipe = {
        "step": "decide", "domain": name, "variant": variant, "model": model.name, "prompt": prompt,
        "model_digest": model_digest(model.name),
        "samples": samples, "sampling": asdict(sampling), "seed": seed, "scenes": fingerprint(scenes),
    }  # fmt: skip
    with open_step(work / "decisions" / name / variant, recipe, DECISIONS) as step:
        if step.complete:
            return step.content
        counts = {"shed_history": 0, "too_long": 0}
        answered = step.resume() // samples
        kept = _kept_answers(step.directory / ANSWERS)
        limit = prompt_limit(model, sampling, "decision")
        done = 0
        for batch in batches(scenes):
            asked = []
            for scene_id, text in batch:
                room = (text, 0) if limit is None else shed_history(text, prompt, model.count_tokens, limit)
                counts["too_long"] += room is None
                counts["shed_history"] += room is not None and room[1] > 0
                if room is not None:
                    asked.append((scene_id, room[0]))
            new = asked[answered:]
            answered = max(0, answered - len(asked))
            if new:
                outputs, failure = _outputs(model, new, prompt, samples, sampling, seed, kept)
                for (scene_id, text), row in _until_missing(new, outputs):
                    step.append(_rows(scene_id, text, row, variant, model.name))
                if failure is not None:
                    kept |= {i: row for (i, _), row in zip(new, outputs, strict=True) if row is not None}
                    _keep_answers(step.directory / ANSWERS, kept)
                    raise failure
            done += len(batch)
            progress(done, rows)
        (step.directory / ANSWERS).unlink(missing_ok=True)
        written = step.written(["behavior", "finish_reason"])
        counts["cut_off"] = int(pc.sum(pc.equal(written["finish_reason"], "length")).as_py() or 0)
        counts["no_label"] = written["behavior"].null_count
        step.finish(rows=len(written), scenes=rows, counts=counts)
        return step.content


def batches(scenes: Path, size: int = BATCH) -> Iterator[list[tuple[str, SceneText]]]:
    """(scene_id, text) of the scenes in a directory, in order, some at a time."""
    for part in sorted(scenes.glob("part-*.parquet")):
        for batch in pq.ParquetFile(part).iter_batches(size, columns=["scene_id", "text"]):
            yield [(row["scene_id"], row["text"]) for row in batch.to_pylist()]


def _outputs(
    model: LanguageModel,
    asked: list[tuple[str, SceneText]],
    prompt: str,
    samples: int,
    sampling: Sampling,
    seed: int,
    kept: dict[str, list[Output]],
) -> tuple[list[list[Output] | None], ConversationsFailed | None]:
    """The outputs for each scene, None where the server failed, and that failure; kept answers are not asked again."""
    new = [(scene_id, text) for scene_id, text in asked if scene_id not in kept]
    conversations = [conversation(text, prompt) for _, text in new]
    failure = None
    try:
        fresh: list[Any] = model.generate(conversations, samples, sampling, [scene_seed(seed, i) for i, _ in new])
    except ConversationsFailed as error:
        fresh, failure = error.outputs, error
    by_id = {**kept, **{scene_id: row for (scene_id, _), row in zip(new, fresh, strict=True)}}
    return [by_id[scene_id] for scene_id, _ in asked], failure


def _until_missing(
    asked: list[tuple[str, SceneText]], outputs: list[list[Output] | None]
) -> Iterator[tuple[tuple[str, SceneText], list[Output]]]:
    """Scenes with their outputs, up to the first without: rows are written in order."""
    for scene, row in zip(asked, outputs, strict=True):
        if row is None:
            return
        yield scene, row


def _rows(scene_id: str, text: SceneText, outputs: list[Output], variant: str, model: str) -> list[dict[str, Any]]:
    rows = []
    for sample, output in enumerate(outputs):
        decision, behavior = parse(output.text, len(text["action_list"]))
        rows.append(
            {
                "scene_id": scene_id,
                "variant": variant,
                "model": model,
                "sample": sample,
                "text": decision,
                "behavior": behavior,
                "finish_reason": output.finish_reason,
            }  # fmt: skip
        )
    return rows


def _kept_answers(path: Path) -> dict[str, list[Output]]:
    """Answers behind the first one that failed in an earlier run."""
    if not path.is_file():
        return {}
    return {key: [Output(**output) for output in row] for key, row in json.loads(path.read_text()).items()}


def _keep_answers(path: Path, kept: dict[str, list[Output]]) -> None:
    text = json.dumps({key: [asdict(output) for output in row] for key, row in kept.items()}, ensure_ascii=False)
    write_bytes(path, text.encode())
