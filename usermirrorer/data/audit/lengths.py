"""How long scenes and pairs are in a model's tokens: quantiles, who sheds history, who is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks import SHOWN, BadRow, Check, place_of
from usermirrorer.errors import UserError
from usermirrorer.llm.choose import prompt_limit
from usermirrorer.llm.prompts import INSTRUCTIONS, conversation, shed_history
from usermirrorer.llm.protocol import Conversation, LanguageModel, Sampling


QUANTILES = {"median": 0.5, "90 %": 0.9, "99 %": 0.99}


@dataclass(frozen=True)
class TokenCounter:
    """A model's tokenizer, what scenes are asked with (None: as their decisions were), and the length there is."""

    model: LanguageModel
    tokenizer: Any
    prompt: str | None
    max_length: int


def token_counter(name: str, prompt: str | None, max_length: int | None) -> TokenCounter:
    """The counter of a model's directory, Hub id or tiny-base; `max_length` defaults to what the model was made for.

    Raises UserError for a tokenizer that can't be loaded or an instruction that nobody knows.
    """
    from usermirrorer.llm.vllm import VLLMModel

    if prompt is not None and prompt not in INSTRUCTIONS:
        raise UserError(f"--prompt {prompt}: choose {', '.join(INSTRUCTIONS)}")
    if max_length is not None and max_length < 1:
        raise UserError(f"--max-length {max_length}: ask for at least one token")
    model = VLLMModel(name)
    if max_length is not None:
        model.max_length = max_length
    return TokenCounter(model, model.tokenizer, prompt, model.max_length)


def check_lengths(artefact: Artefact, counter: TokenCounter) -> Check:
    """Lengths of all rows in tokens; a warning where some do not fit."""
    return (_scenes if artefact.kind == "scenes" else _pairs)(artefact, counter)


def _scenes(artefact: Artefact, counter: TokenCounter) -> Check:
    """Prompts, against what the model's length leaves beside a decision process, as `decide` and `eval` have it."""
    prompt = counter.prompt or _asked_with(artefact)
    limit = prompt_limit(counter.model, Sampling(), "decision")
    assert limit is not None
    lengths: list[int] = []
    bad: list[BadRow] = []
    shed = dropped = 0
    for frame in artefact.rows(["scene_id", "text"]):
        rows = frame.filter(pl.col("text").struct.field("action_list").list.len() > 0)
        texts = [_whole(text) for text in rows["text"]]
        counts = counter.model.count_tokens([conversation(text, prompt) for text in texts])
        lengths += counts
        for index in np.flatnonzero(np.array(counts) > limit).tolist():
            fitted = shed_history(texts[index], prompt, counter.model.count_tokens, limit)
            shed += fitted is not None
            dropped += fitted is None
            if fitted is None and len(bad) < SHOWN:
                _, scene_id, file, row = rows.select("text", "scene_id", "_file", "_row").row(index)
                reason = f"has {counts[index]:,} tokens and does not fit {limit:,} even without history"
                bad.append(BadRow(place_of(file, row), scene_id or "", reason))
    told = f"{_quantiles(lengths)} tokens with `{prompt}`; limit {limit:,}: {shed:,} shed history, {dropped:,} dropped"
    return Check(artefact.name, "lengths", "warning" if dropped or shed else "ok", told, tuple(bad))


def _pairs(artefact: Artefact, counter: TokenCounter) -> Check:
    """Prompt and the longer answer, against the length of training rows: what is longer is dropped by `train`."""
    lengths: list[int] = []
    bad: list[BadRow] = []
    dropped = 0
    for frame in artefact.rows(["scene_id", "prompt", "chosen", "rejected"]):
        rows = frame.drop_nulls(["prompt", "chosen", "rejected"])
        sides = [_rendered(counter, [p + a for p, a in rows.select("prompt", side).iter_rows()]) for side in SIDES]
        counts = np.maximum(*sides) if len(rows) else np.zeros(0, dtype=np.int64)
        lengths += counts.tolist()
        over = np.flatnonzero(counts > counter.max_length).tolist()
        dropped += len(over)
        for index in over[: SHOWN - len(bad)]:
            scene_id, file, row = rows.select("scene_id", "_file", "_row").row(index)
            reason = f"has {counts[index]:,} tokens, more than {counter.max_length:,}"
            bad.append(BadRow(place_of(file, row), scene_id or "", reason))
    told = f"{_quantiles(lengths)} tokens of prompt and answer; limit {counter.max_length:,}: {dropped:,} dropped"
    return Check(artefact.name, "lengths", "warning" if dropped else "ok", told, tuple(bad))


SIDES = ("chosen", "rejected")


def _asked_with(artefact: Artefact) -> str:
    """The instruction of the decisions beside the scenes; `ekb` where there are none."""
    decisions = artefact.beside("decisions", "strong")
    return decisions.content["recipe"]["prompt"] if decisions and decisions.content else "ekb"


def _whole(text: dict[str, Any]) -> Any:
    return {
        "profile": text["profile"] or "",
        "history": text["history"] or "",
        "action_list": [option or "" for option in text["action_list"]],
    }


def _rendered(counter: TokenCounter, conversations: Sequence[Conversation]) -> np.ndarray:
    """Lengths of finished conversations, as a trainer renders them."""
    if not conversations:
        return np.zeros(0, dtype=np.int64)
    rows = counter.tokenizer.apply_chat_template(list(conversations), tokenize=True, return_dict=True)
    return np.array([len(ids) for ids in rows["input_ids"]])


def _quantiles(lengths: Sequence[int]) -> str:
    if not lengths:
        return "no"
    values = np.quantile(lengths, list(QUANTILES.values()))
    return (
        ", ".join(f"{name} {value:,.0f}" for name, value in zip(QUANTILES, values, strict=True))
        + f", longest {max(lengths):,}"
    )
