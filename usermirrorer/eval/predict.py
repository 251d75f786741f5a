"""A model answers scenes: decision processes, each with the probability of every option."""

from __future__ import annotations

import polars as pl

from usermirrorer.data.artefacts.journal import Journal
from usermirrorer.data.artefacts.store import Progress, unseen
from usermirrorer.llm.choose import choose, prompt_limit
from usermirrorer.llm.execution import answer_scenes
from usermirrorer.llm.prompts import SceneText, conversation, shed_history
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.llm.requests import Task, Usage
from usermirrorer.seeds import scene_seed
from usermirrorer.steps import Sampling


PREDICTED: dict[str, pl.DataType | type[pl.DataType]] = {
    "scene_id": pl.String,
    "context": pl.String,
    "sample": pl.Int64,
    "text": pl.String,
    "behavior": pl.Int64,
    "finish_reason": pl.String,
    "unfinished": pl.Boolean,
    "shed": pl.Int64,
    "probs": pl.List(pl.Float64),
}


def predict(
    model: LanguageModel,
    scenes: pl.DataFrame,
    prompt: str,
    mode: str,
    repeat: int,
    context: str,
    sampling: Sampling,
    seed: int,
    journal: Journal,
    progress: Progress = unseen,
) -> pl.DataFrame:
    """Rows of PREDICTED, one per scene and sample.

    `scenes` are already in `context`. A scene too long for the model sheds its oldest history (`shed` entries); one
    that is too long even without history has no row (`evaluate` counts it as `too_long`). `journal` keeps every answer
    from the moment it is there, and has those of an interrupted run. The samples of a scene depend only on (seed,
    scene_id). Raises StepFailed, once the others are kept, if some scenes were not answered.
    """
    limit = prompt_limit(model, sampling, mode)

    def answered(scene_id: str, text: SceneText) -> Task[list[dict[str, object]]]:
        fitted = shed_history(text, prompt, model.count_tokens, limit)
        if fitted is None:
            return []
        shown, shed = fitted
        processes = yield from choose(
            model, conversation(shown, prompt), len(shown["action_list"]),
            repeat=repeat, sampling=sampling, mode=mode, seed=scene_seed(seed, scene_id),
        )  # fmt: skip
        row = {"scene_id": scene_id, "context": context, "shed": shed}
        return [
            row | {"sample": sample, **vars(process), "probs": process.probs.tolist()}
            for sample, process in enumerate(processes)
        ]

    def keep(number: int, rows: list[dict[str, object]], usage: Usage) -> None:
        journal.put(number, rows)
        progress(journal.units, len(scenes), usage.prompt_tokens, usage.completion_tokens)

    asked = enumerate(scenes.select("scene_id", "text").iter_rows())
    answer_scenes(model, ((number, answered(*scene)) for number, scene in asked if number not in journal), keep)
    return pl.DataFrame(journal.rows, schema=PREDICTED)
