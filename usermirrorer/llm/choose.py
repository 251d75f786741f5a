"""A model decides and is read: the one core of `eval`, `simulate` and `Simulator`.

In `decision` mode the model writes a decision process and then the probability of every option is read behind that
text; in `direct` mode it is read at once, without a decision process (the paper's section 4 has both).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import INSTRUCTIONS, LABELS, opened, parse
from usermirrorer.llm.protocol import Conversation, LanguageModel
from usermirrorer.steps import Sampling


MODES = ("decision", "direct")

# Room for what is put behind a decision process, `\nBehavior: [` and the label, in any tokenizer's tokens.
_CLOSING = 16


@dataclass(frozen=True)
class Process:
    """One decision process and how it was read.

    `text` ends before the line `Behavior:` (empty in direct mode). `behavior` is the 0-based option that the writer
    named, None where it named none of those offered; such a process is `unfinished` and was closed for the writer.
    `probs` has shape `(options,)`.
    """

    text: str
    behavior: int | None
    finish_reason: str
    unfinished: bool
    probs: np.ndarray


def choose(
    model: LanguageModel,
    conversations: Sequence[Conversation],
    options: Sequence[int],
    *,
    repeat: int,
    sampling: Sampling,
    mode: str,
    seeds: Sequence[int],
) -> list[list[Process]]:
    """The decision processes of each conversation, with the probability of every option behind each.

    `conversations` are prompts (system and user message), `options` how many options each shows, `seeds` one seed
    each. Decision mode gives `repeat` processes per conversation; direct mode one, since nothing in it is random. A
    process without an option of its own is closed with `\\nBehavior: [` and read all the same (the published way).
    """
    if mode not in MODES:
        raise UserError(f"There is no mode '{mode}': choose decision or direct")
    labels = [list(LABELS[:count]) for count in options]
    if mode == "direct":
        probs = model.choice_probs([opened(messages, None) for messages in conversations], labels)
        return [[Process("", None, "stop", False, row)] for row in probs]
    outputs = model.generate(conversations, repeat, _fitting(model, sampling), seeds)
    parsed = [[parse(output.text, count) for output in row] for row, count in zip(outputs, options, strict=True)]
    contexts = [
        # Only a text cut off at its limit can have grown past the model's length on being tokenised again.
        _closed(model, messages, text) if output.finish_reason == "length" else opened(messages, text)
        for messages, out_row, row in zip(conversations, outputs, parsed, strict=True)
        for output, (text, _) in zip(out_row, row, strict=True)
    ]
    probs = model.choice_probs(contexts, [names for names, row in zip(labels, parsed, strict=True) for _ in row])
    rows = iter(probs)
    return [
        [
            Process(text, behavior, output.finish_reason, behavior is None, next(rows))
            for output, (text, behavior) in zip(out_row, row, strict=True)
        ]
        for out_row, row in zip(outputs, parsed, strict=True)
    ]


def prompt_limit(model: LanguageModel, sampling: Sampling, mode: str) -> int | None:
    """Most tokens a prompt may have so that `choose` can answer and read it: the `limit` of `prompts.fit`.

    The decision process is granted half of the model's length at most. None where the model sets no limit.
    """
    if model.max_length is None:
        return None
    return model.max_length - _CLOSING - (_fitting(model, sampling).max_tokens if mode == "decision" else 0)


def trained_prompt(name: str, mode: str = "decision") -> str:
    """The instruction to ask a model with: `direct` in direct mode, else as trained (`usermirrorer.json`), else `ekb`.

    `name` is a model's name as in a SPEC, with or without `vllm:`.
    """
    if mode == "direct":
        return "direct"
    from usermirrorer.llm import model_path

    kind, _, rest = name.partition(":")
    if kind in ("openai", "scripted") and rest:
        return "ekb"
    card = Path(model_path(rest if kind == "vllm" and rest else name)) / "usermirrorer.json"
    if not card.is_file():
        return "ekb"
    prompt = json.loads(card.read_text())["prompt"]
    if prompt is None:
        raise UserError(f"{card} names no prompt (its rows were made elsewhere): say with --prompt what to ask with")
    if prompt not in INSTRUCTIONS:
        raise UserError(f"{card} names the prompt '{prompt}', which is none of {', '.join(INSTRUCTIONS)}")
    return prompt


def _fitting(model: LanguageModel, sampling: Sampling) -> Sampling:
    if model.max_length is None:
        return sampling
    return replace(sampling, max_tokens=min(sampling.max_tokens, model.max_length // 2))


def _closed(model: LanguageModel, messages: Conversation, text: str) -> Conversation:
    """The conversation to read behind `text`; a runaway text that no longer fits loses its end, never the prompt."""
    context = opened(messages, text)
    if model.max_length is None:
        return context
    while text and model.count_tokens([context])[0] >= model.max_length:
        text = text[: len(text) // 2]
        context = opened(messages, text)
    return context
