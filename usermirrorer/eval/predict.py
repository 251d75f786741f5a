"""A model answers scenes: decision processes, each with the probability of every option."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from usermirrorer.llm.choose import choose, prompt_limit
from usermirrorer.llm.prompts import conversation, shed_history
from usermirrorer.llm.protocol import LanguageModel
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

BATCH = 96
"""Scenes passed to the model at once: so few that a local model still holds their prompts when it weighs the options,
enough to fill an engine's batch."""


def predict(
    model: LanguageModel,
    scenes: pl.DataFrame,
    prompt: str,
    mode: str,
    repeat: int,
    context: str,
    sampling: Sampling,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> pl.DataFrame:
    """Rows of PREDICTED, one per scene and sample.

    `scenes` are already in `context`. A scene too long for the model sheds its oldest history (`shed` entries); one
    that is too long even without history has no row (`evaluate` counts it as `too_long`). `progress` is called with
    the number of scenes done. The samples of a scene depend only on (seed, scene_id).
    """
    limit = prompt_limit(model, sampling, mode)
    rows: list[dict[str, object]] = []
    for start in range(0, len(scenes), BATCH):
        batch = []
        for scene_id, text in scenes[start : start + BATCH].select("scene_id", "text").iter_rows():
            fitted = shed_history(text, prompt, model.count_tokens, limit)
            if fitted is not None:
                batch.append((scene_id, *fitted))
        answers = choose(
            model,
            [conversation(text, prompt) for _, text, _ in batch],
            [len(text["action_list"]) for _, text, _ in batch],
            repeat=repeat,
            sampling=sampling,
            mode=mode,
            seeds=[scene_seed(seed, scene_id) for scene_id, _, _ in batch],
        )
        for (scene_id, _, shed), processes in zip(batch, answers, strict=True):
            for sample, process in enumerate(processes):
                row = {"scene_id": scene_id, "context": context, "sample": sample, "shed": shed, **vars(process)}
                rows.append({**row, "probs": process.probs.tolist()})
        progress(min(start + BATCH, len(scenes)))
    return pl.DataFrame(rows, schema=PREDICTED)
