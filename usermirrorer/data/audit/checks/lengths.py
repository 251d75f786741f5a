"""Lengths of scenes and pairs in a model's tokens: quantiles, how many shed history, how many are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, BadRow, Check
from usermirrorer.data.audit.checks.rules import bad_rows
from usermirrorer.errors import UserError, unknown_name
from usermirrorer.llm.choose import prompt_limit
from usermirrorer.llm.engines.rendering import trained_tokens
from usermirrorer.llm.injection import control_tokens, without_control_tokens
from usermirrorer.llm.prompts import INSTRUCTIONS, conversation, shed_history
from usermirrorer.llm.protocol import Conversation, LanguageModel
from usermirrorer.steps import Sampling


QUANTILES = {"median": 0.5, "90 %": 0.9, "99 %": 0.99}
SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class TokenCounter:
    """A model's tokenizer, the instruction for scenes (None: that of their decisions), and the model's length."""

    model: LanguageModel
    tokenizer: Any
    prompt: str | None
    max_length: int


def token_counter(name: str, prompt: str | None, max_length: int | None) -> TokenCounter:
    """The counter for a model's directory, Hub id or tiny-base; `max_length` defaults to the model's own.

    Raises UserError if the tokenizer can't be loaded or the instruction is unknown.
    """
    from usermirrorer.llm.engines.vllm import VLLMModel

    if prompt is not None and prompt not in INSTRUCTIONS:
        raise unknown_name("--prompt", prompt, INSTRUCTIONS)
    if max_length is not None and max_length < 1:
        raise UserError(f"--max-length {max_length}: must be at least 1")
    model = VLLMModel(name)
    if max_length is not None:
        model.max_length = max_length
    return TokenCounter(model, model.tokenizer, prompt, model.max_length)


def check_lengths(artefact: Artefact, counter: TokenCounter) -> Check:
    """Lengths of all rows in tokens; a warning if some do not fit."""
    return (_check_scenes if artefact.kind == "scenes" else _check_pairs)(artefact, counter)


def _check_scenes(artefact: Artefact, counter: TokenCounter) -> Check:
    """Prompts against the length left beside a decision process, as in `decide` and `eval`."""
    model, prompt = counter.model, counter.prompt or _instruction(artefact)
    limit = prompt_limit(model, Sampling(), "decision")
    assert limit is not None
    lengths: list[int] = []
    bad: list[BadRow] = []
    shed = dropped = 0
    for frame in artefact.rows(["scene_id", "text"]):
        rows = frame.filter(pl.col("text").struct.field("action_list").list.len() > 0)
        texts = [_complete(text) for text in rows["text"]]
        counts = model.count_tokens([conversation(text, prompt) for text in texts])
        lengths += counts
        over = [index for index, count in enumerate(counts) if count > limit]
        lost = [i for i in over if shed_history(texts[i], prompt, model.count_tokens, limit) is None]
        shed += len(over) - len(lost)
        dropped += len(lost)
        for index in lost[: MAX_BAD_ROWS - len(bad)]:
            reason = f"has {counts[index]:,} tokens and does not fit {limit:,} even without history"
            bad += bad_rows(rows[index], pl.lit(reason))
    summary = (
        f"{_quantiles(lengths)} tokens with `{prompt}`; limit {limit:,}: {shed:,} shed history, {dropped:,} dropped"
    )
    return Check(artefact.name, "lengths", "warning" if dropped or shed else "ok", summary, tuple(bad))


def _check_pairs(artefact: Artefact, counter: TokenCounter) -> Check:
    """Prompt and longer answer against the length of training rows; `train` drops what is longer."""
    lengths: list[int] = []
    bad: list[BadRow] = []
    dropped = 0
    for frame in artefact.rows(["scene_id", "prompt", *SIDES]):
        rows = frame.drop_nulls(["prompt", *SIDES])
        sides = [rows.select("prompt", side).iter_rows() for side in SIDES]
        chosen, rejected = (_rendered_lengths(counter, [prompt + answer for prompt, answer in side]) for side in sides)
        counts = list(map(max, chosen, rejected))
        lengths += counts
        over = [index for index, count in enumerate(counts) if count > counter.max_length]
        dropped += len(over)
        for index in over[: MAX_BAD_ROWS - len(bad)]:
            reason = f"has {counts[index]:,} tokens, more than {counter.max_length:,}"
            bad += bad_rows(rows[index], pl.lit(reason))
    summary = f"{_quantiles(lengths)} tokens of prompt and answer; limit {counter.max_length:,}: {dropped:,} dropped"
    return Check(artefact.name, "lengths", "warning" if dropped else "ok", summary, tuple(bad))


def _instruction(artefact: Artefact) -> str:
    """The instruction of the decisions beside the scenes; `ekb` if there are none."""
    decisions = artefact.beside("decisions", "strong")
    return decisions.content["recipe"]["prompt"] if decisions else "ekb"


def _complete(text: dict[str, Any]) -> Any:
    """A scene's text with empty strings for nulls."""
    options = [option or "" for option in text["action_list"]]
    return {"profile": text["profile"] or "", "history": text["history"] or "", "action_list": options}


def _rendered_lengths(counter: TokenCounter, conversations: Sequence[Conversation]) -> list[int]:
    """Lengths in tokens of finished conversations as the trainer renders them."""
    if not conversations:
        return []
    control = control_tokens(counter.tokenizer)
    plain = [without_control_tokens(messages, control) for messages in conversations]
    return list(map(len, trained_tokens(counter.tokenizer, plain)))


def _quantiles(lengths: Sequence[int]) -> str:
    if not lengths:
        return "no"
    values = np.quantile(lengths, list(QUANTILES.values()))
    found = [f"{name} {value:,.0f}" for name, value in zip(QUANTILES, values, strict=True)]
    return ", ".join([*found, f"longest {max(lengths):,}"])
