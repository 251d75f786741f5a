"""What the rows of a training are, found before a trainer sees them: lengths, bad rows, the probe, the instruction.

TRL drops rows that are too long without a count, and only warns if prompt and answer are split at the wrong token.
Here every dropped row is counted by reason, and rows that would train the wrong tokens are refused.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usermirrorer.console.printable import printable
from usermirrorer.data.artefacts import store
from usermirrorer.errors import UserError
from usermirrorer.llm.engines.rendering import trained_tokens
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.prompts import EVIDENCE_LINE, INSTRUCTIONS, LABELS, parse
from usermirrorer.llm.readability import describe_unreadable, words_of


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("usermirrorer.train")

# An option whose text is withheld for its licence: a label with nothing before the next one or the end.
_BLANK_OPTION = re.compile(r"^\[[A-Z]\]\s*(?=^\[[A-Z]\]|\Z)", re.MULTILINE)
_BATCH = 256


def survey(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None, max_over_length: float, name: str
) -> tuple[list[int], dict[str, Any]]:
    """Indices of the rows to keep, and what to record. Lengths are in tokens, of prompt and answer together.

    Raises UserError if too large a share is over max_length, if nothing is left, or if a template splits prompt and
    answer at another token than it would in serving.
    """
    answers = [column for column in ("chosen", "rejected") if column in rows.column_names]
    ids = rows["scene_id"] if "scene_id" in rows.column_names else [f"row {i}" for i in range(len(rows))]
    digest = hashlib.blake2b(digest_size=8)
    kept: list[int] = []
    dropped: Counter[str] = Counter()
    over: list[str] = []
    totals: list[int] = []
    answer_lengths: list[int] = []
    longest = 0
    labels: set[int] = set()
    systems: Counter[str] = Counter()
    directory = Path(name).expanduser()
    manifest = store.read_manifest(directory) if directory.is_dir() else None
    content = manifest["content"] if manifest else {}
    declared = content.get("prompt") or content.get("recipe", {}).get("prompt")
    evidence = 0
    tokens = 0

    def encode(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    first = [turn for prompt in rows[:_BATCH]["prompt"] for turn in prompt if turn["role"] == "user"]
    words = {word for turn in first for word in words_of(turn["content"] or "")}
    if told := describe_unreadable(str(tokenizer.name_or_path), words, encode):
        logger.warning(told)
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        digest.update(json.dumps([batch[column] for column in ("prompt", *answers)], ensure_ascii=False).encode())
        to_drop = [_reason_to_drop(batch, answers, i, declared) for i in range(len(batch["prompt"]))]
        dropped.update(reason for reason in to_drop if reason)
        trainable = [i for i, reason in enumerate(to_drop) if not reason]
        if not trainable:
            continue
        prompts = trained_tokens(tokenizer, [batch["prompt"][i] for i in trainable], add_generation_prompt=True)
        texts = {c: trained_tokens(tokenizer, [batch["prompt"][i] + batch[c][i] for i in trainable]) for c in answers}
        for k, i in enumerate(trainable):
            lengths = [len(texts[column][k]) for column in answers]
            for column in answers:
                check_prefix(tokenizer, prompts[k], texts[column][k], f"{name}: {ids[start + i]}")
                labels.add(_label(batch[column][i]) or 0)
            evidence += any(EVIDENCE_LINE.search(m["content"]) for m in batch["prompt"][i] if m["role"] == "user")
            systems[_system(batch["prompt"][i])] += 1
            totals.append(max(lengths))
            answer_lengths.extend(length - len(prompts[k]) for length in lengths)
            if max_length is not None and max(lengths) > max_length:
                over.append(ids[start + i])
                dropped[f"over max_length {max_length}"] += 1
            else:
                kept.append(start + i)
                tokens += sum(lengths)
                longest = max(longest, *lengths)
    if labels:
        label_tokens(encode, LABELS[: max(labels) + 1], str(tokenizer.name_or_path))
    probe = content.get("probe")
    if content.get("recipe", {}).get("step") == "scenes":
        probe = {content["recipe"]["domain"]: probe}
    fingerprint = store.fingerprint(directory) if manifest else digest.hexdigest()
    counts = {
        "fingerprint": content.get("fingerprint") or fingerprint,
        "prompt": declared or _instruction(systems),
        "rows": len(rows),
        "kept": len(kept),
        "dropped": dict(dropped),
        "tokens": tokens,
        "longest": longest,
        "longest_answer": max(answer_lengths, default=0),
        "evidence": 2 * evidence > len(totals),
        "probe": probe,
    }
    _log(name, counts, totals, answer_lengths, over)
    if len(over) > max_over_length * len(totals):
        raise UserError(
            f"{name}: {len(over):,} of {len(totals):,} rows are over max_length {max_length} (the longest has "
            f"{max(totals):,} tokens), more than max_over_length {max_over_length:g}; raise max_length or build pairs "
            "with shorter histories"
        )
    if not kept:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items()) or "it has no rows"
        raise UserError(f"{name}: no row is left to train on ({reasons})")
    return kept, counts


def _log(name: str, counts: dict[str, Any], totals: list[int], answers: list[int], over: list[str]) -> None:
    logger.info(f"pairs: {counts['kept']:,} of {counts['rows']:,} rows of {name} ({counts['fingerprint']})")
    for reason, count in counts["dropped"].items():
        logger.info(f"dropped: {count:,} {reason}")
    if over:
        logger.info(f"over max_length: {len(set(over)):,} scenes, first {printable(', '.join(over[:3]))}")
    for title, lengths in (("prompt and answer", totals), ("answer", answers)):
        if lengths:
            half, most, tail = np.quantile(lengths, [0.5, 0.9, 0.99])
            logger.info(
                f"tokens of {title}: median {half:,.0f}, 90 % {most:,.0f}, 99 % {tail:,.0f}, longest {max(lengths):,}"
            )


def _reason_to_drop(batch: dict[str, list[Any]], answers: Sequence[str], i: int, declared: str | None) -> str | None:
    """Why row `i` can't be trained on; None if it can. `declared` is the instruction that the rows' manifest names."""
    prompt, given = batch["prompt"][i], [batch[column][i] for column in answers]
    if not prompt and any(given):
        return "without a prompt"
    messages = [*prompt, *(message for answer in given for message in answer)]
    question = next((m["content"] for m in reversed(prompt) if m["role"] == "user"), "")
    if not messages or any(not m["content"].strip() for m in messages) or _BLANK_OPTION.search(question):
        return "blanked for licence"
    if any([m["role"] for m in answer] != ["assistant"] for answer in given) or not question:
        return "not a user's turn and one answer"
    if any(_label(answer) is None for answer in given):
        return "with an answer that names no option (Behavior: [X])"
    if len(given) == 2 and given[0][0]["content"] == given[1][0]["content"]:
        return "chosen and rejected alike"
    if declared in INSTRUCTIONS and _system(prompt) != INSTRUCTIONS[declared]:
        return f"under another instruction than `{declared}`"
    return None


def _label(answer: Sequence[dict[str, str]]) -> int | None:
    return parse(answer[-1]["content"], len(LABELS))[1]


def _system(prompt: Sequence[dict[str, str]]) -> str:
    return next((turn["content"] for turn in prompt if turn["role"] == "system"), "")


def check_prefix(tokenizer: PreTrainedTokenizerBase, prompt: list[int], text: list[int], place: str) -> None:
    """Raise UserError if the tokens of the prompt alone are not the first tokens of prompt and answer."""
    if text[: len(prompt)] == prompt:
        return
    at = next((k for k, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), len(text))
    raise UserError(
        f"{place}: the prompt is not a prefix of prompt and answer under the chat template of "
        f"{tokenizer.name_or_path} ({tokenizer.decode(prompt[at : at + 8])!r} becomes "
        f"{tokenizer.decode(text[at : at + 8])!r}), so training would differ from serving; use a model whose template "
        "renders both alike"
    )


def _instruction(systems: Counter[str]) -> str | None:
    """The instruction that all rows share, None if it is not one of ours (published rows have their own)."""
    if len(systems) > 1:
        counts = ", ".join(f"{count:,} {text.strip()[:40]!r}" for text, count in systems.most_common(3))
        logger.warning(
            f"the rows are under {len(systems)} instructions ({printable(counts)}), and a model is asked under one"
        )
    return next((name for name, text in INSTRUCTIONS.items() if set(systems) == {text}), None)
