"""A model samples a decision, then scores the options: the one core of `eval`, `simulate` and `Simulator`.

In `decision` mode the model writes a decision process, then scores every option given that text; in `direct` mode it
scores them at once (the paper's section 4 has both).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from usermirrorer.errors import UserError, unknown_name
from usermirrorer.llm.paths import training_record
from usermirrorer.llm.prompts import INSTRUCTIONS, LABELS, opened, parse
from usermirrorer.llm.protocol import Conversation, LanguageModel, Output
from usermirrorer.llm.requests import Task, Weigh, Write
from usermirrorer.steps import Sampling


MODES = ("decision", "direct")

# Tokens reserved for what follows a decision process, `\nBehavior: [` and the label, under any tokenizer.
_CLOSING = 16


@dataclass(frozen=True)
class Process:
    """One decision process and the probabilities of the options given it.

    `text` ends before the line `Behavior:` (empty in direct mode). `behavior` is the 0-based option that the model
    named, None if it named none of those offered; such a process is `unfinished` and was closed for the model.
    `probs` has shape `(options,)`.
    """

    text: str
    behavior: int | None
    finish_reason: str
    unfinished: bool
    probs: np.ndarray


def choose(
    model: LanguageModel,
    messages: Conversation,
    options: int,
    *,
    repeat: int,
    sampling: Sampling,
    mode: str,
    seed: int,
) -> Task[list[Process]]:
    """The decision processes of a prompt (system and user message), each with the options' probabilities given it.

    Decision mode gives `repeat` processes, direct mode one, since nothing in it is random. A process that names no
    option is closed with `\\nBehavior: [` and scored like the others (as published). Raises UserError for an unknown
    `mode`.
    """
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    labels = LABELS[:options]
    if mode == "direct":
        [probs] = yield [Weigh(opened(messages, None), labels)]
        return [Process("", None, "stop", False, cast(np.ndarray, probs))]
    [answer] = yield [Write(messages, repeat, _limited(model, sampling), seed)]
    outputs = cast(list[Output], answer)
    drawn = [(output.finish_reason, *parse(output.text, options)) for output in outputs]
    contexts = [
        # Only a text cut off at its limit can exceed the model's length once it is tokenized again.
        _closed(model, messages, text) if reason == "length" else opened(messages, text)
        for reason, text, _ in drawn
    ]
    rows = yield [Weigh(context, labels) for context in contexts]
    return [
        Process(text, behavior, reason, behavior is None, cast(np.ndarray, row))
        for (reason, text, behavior), row in zip(drawn, rows, strict=True)
    ]


def prompt_limit(model: LanguageModel, sampling: Sampling, mode: str) -> int | None:
    """The most tokens a prompt may have for `choose` to work: the `limit` of `prompts.shed_history`.

    The decision process gets at most half of the model's length. None if the model sets no limit.
    """
    if model.max_length is None:
        return None
    return model.max_length - _CLOSING - (_limited(model, sampling).max_tokens if mode == "decision" else 0)


def trained_mode(spec: str) -> str:
    """`direct` for a model that was trained on labels alone (`usermirrorer.json`), else `decision`."""
    return "direct" if (training_record(spec) or {}).get("prompt") == "direct" else "decision"


def trained_with_evidence(spec: str) -> bool | None:
    """Whether a model was trained on options with evidence (`usermirrorer.json`); None if that is not recorded."""
    return ((training_record(spec) or {}).get("data") or {}).get("evidence")


def trained_prompt(spec: str, mode: str = "decision") -> str:
    """The instruction for a model: `direct` in direct mode, else as trained (`usermirrorer.json`), else `ekb`.

    Raises UserError if the record names no instruction of ours.
    """
    if mode == "direct":
        return "direct"
    record = training_record(spec)
    if record is None:
        return "ekb"
    prompt = record.get("prompt")
    if prompt == "direct":
        return "ekb"
    if prompt is None:
        raise UserError(
            f"{spec}: usermirrorer.json names no prompt (its rows were made elsewhere); choose one with --prompt"
        )
    if prompt not in INSTRUCTIONS:
        known = ", ".join(INSTRUCTIONS)
        raise UserError(f"{spec}: usermirrorer.json names the prompt '{prompt}', which is not one of {known}")
    return prompt


def _limited(model: LanguageModel, sampling: Sampling) -> Sampling:
    if model.max_length is None:
        return sampling
    return replace(sampling, max_tokens=min(sampling.max_tokens, model.max_length // 2))


def _closed(model: LanguageModel, messages: Conversation, text: str) -> Conversation:
    """The conversation that scores the options given `text`. A text too long for the model loses its end."""
    context = opened(messages, text)
    while text and model.max_length is not None and model.count_tokens([context])[0] >= model.max_length:
        text = text[: len(text) // 2]
        context = opened(messages, text)
    return context
