"""Pairs as training rows: read, checked against the tokenizer and counted before a trainer sees them.

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
import polars as pl
import pyarrow as pa

from usermirrorer.console.printable import printable
from usermirrorer.data.artefacts import store
from usermirrorer.data.artefacts.convert import PUBLISHED, as_schema, polars_types, with_pair_columns
from usermirrorer.data.artefacts.reader import columns_of, files_at, is_hub_id, load_rows
from usermirrorer.data.artefacts.schema import PAIRS
from usermirrorer.errors import UserError
from usermirrorer.llm.injection import control_tokens, without_control_tokens
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.prompts import EVIDENCE_PATTERN, INSTRUCTIONS, LABELS, parse
from usermirrorer.llm.readability import describe_unreadable, words_of
from usermirrorer.train.config import Run
from usermirrorer.train.direct import are_scenes, rows_of_scenes


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("usermirrorer.train")

COLUMNS = {"sft": ("prompt", "chosen"), "dpo": ("prompt", "chosen", "rejected")}

REMEDY = "pass a directory of pairs (or, for sft, of scenes), FILE.parquet, FILE.jsonl(.gz) or a Hub id"

# An option whose text is withheld for its licence: a label with nothing before the next one or the end.
_BLANK_OPTION = re.compile(r"^\[[A-Z]\]\s*(?=^\[[A-Z]\]|\Z)", re.MULTILINE)
_EVIDENCE = re.compile(EVIDENCE_PATTERN + "$", re.MULTILINE)
_BATCH = 256


def prepare(run: Run, tokenizer: PreTrainedTokenizerBase) -> tuple[Dataset, dict[str, Any]]:
    """The rows to train on, as TRL wants them, and what to record: path, fingerprint, prompt, counts, probe.

    One process checks and broadcasts the result. Raises UserError for rows that can't be trained on.
    """
    from accelerate.utils import broadcast_object_list

    training, name = run.training, run.pairs.dataset_name
    with training.main_process_first(desc="reading pairs"):
        rows = _as_served(read(name, run.pairs.dataset_split, run.method), tokenizer)
    found: list[Any] = [None]
    if training.process_index == 0:
        try:
            found = [_survey(rows, tokenizer, training.max_length, run.pairs.max_over_length, name)]
        except UserError as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], UserError):
        raise found[0]
    kept, counts = found[0]
    rows = rows.select_columns(list(COLUMNS[run.method])).select(kept)
    if run.method == "sft":
        rows = rows.rename_column("chosen", "completion")
    return rows, {"path": name, **counts}


def check_columns(name: str, method: str) -> None:
    """Raise UserError if local pairs are missing or parquet lacks a column; a Hub id is not checked."""
    if not is_hub_id(name):
        first = files_at(name, REMEDY)[0]
        if first.suffix == ".parquet":
            _check_columns(columns_of(first), method, str(first))


def read(name: str, split: str, method: str) -> Dataset:
    """All rows as `prompt`, `chosen` (and `rejected` for DPO), lists of messages, and `scene_id` if they have one.

    Scenes, for SFT, become rows with the label alone (`direct.py`). Published rows (`messages_chosen`,
    `messages_rejected`: whole conversations) are split before the last message.
    """
    rows = load_rows(name, split, REMEDY)
    _check_columns(rows.column_names, method, name)
    if are_scenes(rows.column_names):
        rows = rows_of_scenes(rows, name)
    wanted, types = list(COLUMNS[method]), rows.features.arrow_schema
    # Lines of JSON may have messages of any shape.
    if any(name not in types.names or types.field(name).type != PAIRS.field(name).type for name in wanted):
        rows = rows.with_format("arrow").map(
            _from_published,
            batched=True,
            fn_kwargs={"columns": wanted},
            remove_columns=rows.column_names,
            desc="Reading messages",
        )
        rows = rows.with_format(None)
    return rows.select_columns([*wanted, *({"scene_id"} & set(rows.column_names))])


def _as_served(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The rows without control tokens in their texts, which a model is not shown when it is asked either."""
    columns = [name for name in rows.column_names if name in COLUMNS["dpo"]]
    arguments = {"columns": columns, "control": control_tokens(tokenizer)}
    return rows.map(_without_control_tokens, fn_kwargs=arguments, desc="Breaking control tokens")


def _without_control_tokens(row: dict[str, Any], columns: Sequence[str], control: re.Pattern[str]) -> dict[str, Any]:
    return {name: without_control_tokens(row[name] or [], control) for name in columns}


def _survey(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None, max_over_length: float, name: str
) -> tuple[list[int], dict[str, Any]]:
    """Indices of the rows to keep, and what to record. Lengths are in tokens, of prompt and answer together."""
    answers = [column for column in ("chosen", "rejected") if column in rows.column_names]
    ids = rows["scene_id"] if "scene_id" in rows.column_names else [f"row {i}" for i in range(len(rows))]
    digest = hashlib.blake2b(digest_size=8)
    kept: list[int] = []
    dropped: Counter[str] = Counter()
    over: list[str] = []
    totals: list[int] = []
    answer_lengths: list[int] = []
    labels: set[int] = set()
    systems: set[str] = set()
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
        to_drop = [_reason_to_drop(batch, answers, i) for i in range(len(batch["prompt"]))]
        dropped.update(reason for reason in to_drop if reason)
        trainable = [i for i, reason in enumerate(to_drop) if not reason]
        if not trainable:
            continue
        prompts = _render(tokenizer, [batch["prompt"][i] for i in trainable], add_generation_prompt=True)
        texts = {c: _render(tokenizer, [batch["prompt"][i] + batch[c][i] for i in trainable]) for c in answers}
        for k, i in enumerate(trainable):
            lengths = [len(texts[column][k]) for column in answers]
            for column in answers:
                check_prefix(tokenizer, prompts[k], texts[column][k], f"{name}: {ids[start + i]}")
                label = parse(batch[column][i][-1]["content"], len(LABELS))[1]
                labels |= set() if label is None else {label}
            evidence += any(_EVIDENCE.search(m["content"]) for m in batch["prompt"][i] if m["role"] == "user")
            systems.add(next((m["content"] for m in batch["prompt"][i] if m["role"] == "system"), ""))
            totals.append(max(lengths))
            answer_lengths.extend(length - len(prompts[k]) for length in lengths)
            if max_length is not None and max(lengths) > max_length:
                over.append(ids[start + i])
                dropped[f"over max_length {max_length}"] += 1
            else:
                kept.append(start + i)
                tokens += sum(lengths)
    if labels:
        label_tokens(encode, LABELS[: max(labels) + 1], str(tokenizer.name_or_path))
    directory = Path(name).expanduser()
    manifest = store.read_manifest(directory) if directory.is_dir() else None
    content = manifest["content"] if manifest else {}
    probe = content.get("probe")
    if content.get("recipe", {}).get("step") == "scenes":
        probe = {content["recipe"]["domain"]: probe}
    fingerprint = store.fingerprint(directory) if manifest else digest.hexdigest()
    counts = {
        "fingerprint": content.get("fingerprint") or fingerprint,
        "prompt": content.get("prompt") or content.get("recipe", {}).get("prompt") or _instruction(systems),
        "rows": len(rows),
        "kept": len(kept),
        "dropped": dict(dropped),
        "tokens": tokens,
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


def _reason_to_drop(batch: dict[str, list[Any]], answers: Sequence[str], i: int) -> str | None:
    messages = [*batch["prompt"][i], *(message for column in answers for message in batch[column][i])]
    question = next((m["content"] or "" for m in reversed(batch["prompt"][i]) if m["role"] == "user"), "")
    withheld = not messages or any(not (message["content"] or "").strip() for message in messages)
    if withheld or _BLANK_OPTION.search(question):
        return "blanked for licence"
    if any([m["role"] for m in batch[column][i]] != ["assistant"] for column in answers) or not question:
        return "not a user's turn and one answer"
    return None


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


def _render(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Any], **options: Any) -> list[list[int]]:
    return tokenizer.apply_chat_template(list(conversations), tokenize=True, return_dict=True, **options)["input_ids"]


def _instruction(systems: set[str]) -> str | None:
    """The instruction that all rows share, None if it is not one of ours (published rows have their own)."""
    return next((name for name, text in INSTRUCTIONS.items() if systems == {text}), None)


def _from_published(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Published rows in some columns of PAIRS. Withheld text is "", a withheld conversation has no messages."""
    schema = pa.schema([PAIRS.field(name) for name in columns])
    frame = as_schema(pl.DataFrame(table), polars_types(schema))
    fields = pl.element().struct
    message = pl.struct(fields.field("role"), fields.field("content").fill_null(""))
    return frame.with_columns(pl.all().fill_null([]).list.eval(message)).to_arrow().cast(schema)


def _check_columns(names: Sequence[str], method: str, place: str) -> None:
    """Raise UserError naming the missing columns, in our layout and in the published one; scenes will do for SFT."""
    if are_scenes(names) and method == "sft":
        return
    missing = [column for column in COLUMNS[method] if column not in with_pair_columns(names)]
    if missing:
        published = dict.fromkeys(PUBLISHED[column] for column in COLUMNS[method])
        raise UserError(
            f"{place} lacks {', '.join(missing)} (it has {', '.join(names)}); {method} training reads "
            f"{', '.join(COLUMNS[method])}, or the published {', '.join(published)}"
        )
