"""Pairs and scenes as the rows that a trainer wants: read in any layout, surveyed, and shaped for the method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.convert import PUBLISHED, as_schema, polars_types, with_pair_columns
from usermirrorer.data.artefacts.reader import columns_of, files_at, is_hub_id, load_rows
from usermirrorer.data.artefacts.schema import PAIRS
from usermirrorer.errors import UserError
from usermirrorer.llm.engines.rendering import template_options
from usermirrorer.llm.injection import control_tokens, without_control_tokens
from usermirrorer.llm.prompts import LABELS, parse
from usermirrorer.train.config import Run
from usermirrorer.train.input.groups import rejected_from_group
from usermirrorer.train.input.scene_rows import are_scenes, instruction_of, rows_of_scenes
from usermirrorer.train.input.survey import survey
from usermirrorer.train.launching.agreement import agreed
from usermirrorer.train.weights.model import most_tokens


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

COLUMNS = {
    "sft": ("prompt", "chosen"),
    "dpo": ("prompt", "chosen", "rejected"),
    "kto": ("prompt", "chosen", "rejected"),
    "grpo": ("prompt", "chosen"),
}

FROM_SCENES = ("sft", "grpo")
"""Methods that train on scenes too."""

REMEDY = "pass a directory of pairs (or, for sft and grpo, of scenes), FILE.parquet, FILE.jsonl(.gz) or a Hub id"


def prepare(run: Run, tokenizer: PreTrainedTokenizerBase) -> tuple[Dataset, dict[str, Any]]:
    """The rows to train on, as TRL wants them, and what to record: path, fingerprint, prompt, counts, probe.

    One process surveys them for all. Raises UserError for rows that can't be trained on.
    """
    training, name = run.training, run.pairs.dataset_name
    with training.main_process_first(desc="reading pairs"):
        instruction = instruction_of(run)
        rows = _as_served(read(name, run.pairs.dataset_split, run.method, instruction), tokenizer)
    limit = most_tokens(run)
    kept, counts = agreed(training, lambda: survey(rows, tokenizer, limit, run.pairs.max_over_length, name))
    rows = rows.select_columns(list(COLUMNS[run.method])).select(kept)
    if run.groups.rejected_from == "group":
        rows = rejected_from_group(rows)
    rows = _shaped(rows, run.method, training.seed)
    if options := template_options(tokenizer):
        if run.method == "grpo":
            training.chat_template_kwargs = options
        else:
            rows = rows.add_column("chat_template_kwargs", [options] * len(rows))
    return rows, {"path": name, **counts}


def check_columns(name: str, method: str) -> None:
    """Raise UserError if local pairs are missing or parquet lacks a column; a Hub id is not checked."""
    if not is_hub_id(name):
        first = files_at(name, REMEDY)[0]
        if first.suffix == ".parquet":
            _check_columns(columns_of(first), method, str(first))


def read(name: str, split: str, method: str, instruction: str | None = "direct") -> Dataset:
    """All rows as `prompt`, `chosen` (and `rejected`), lists of messages, and `scene_id` if they have one.

    Scenes become rows with the label alone, asked under `instruction` (`scene_rows.py`). Published rows
    (`messages_chosen`, `messages_rejected`: whole conversations) are split before the last message.
    """
    rows = load_rows(name, split, REMEDY)
    _check_columns(rows.column_names, method, name)
    if are_scenes(rows.column_names):
        rows = rows_of_scenes(rows, name, instruction)
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


def _shaped(rows: Dataset, method: str, seed: int) -> Dataset:
    """Rows of `prompt`, `chosen` and perhaps `rejected` with the columns that the method's trainer reads.

    SFT: `completion`. KTO: two rows for each pair, `completion` and whether it was chosen, `label`. GRPO: the option
    really chosen, `choice` (0-based); it writes the answers itself.
    """
    if method == "sft":
        return rows.rename_column("chosen", "completion")
    if method == "kto":
        rows = rows.map(_unpaired, batched=True, remove_columns=rows.column_names, desc="Taking pairs apart")
        # KTO estimates its reference point from answers to the row before, which must not be about the same scene.
        return rows.shuffle(seed=seed)
    if method == "grpo":
        return rows.map(_with_choice, remove_columns=["chosen"], desc="Reading choices")
    return rows


def _unpaired(pairs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        "prompt": pairs["prompt"] * 2,
        "completion": pairs["chosen"] + pairs["rejected"],
        "label": [True] * len(pairs["prompt"]) + [False] * len(pairs["prompt"]),
    }


def _with_choice(row: dict[str, Any]) -> dict[str, Any]:
    return {"choice": parse(row["chosen"][-1]["content"], len(LABELS))[1]}


def _from_published(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Published rows in some columns of PAIRS. Withheld text is "", a withheld conversation has no messages."""
    schema = pa.schema([PAIRS.field(name) for name in columns])
    frame = as_schema(pl.DataFrame(table), polars_types(schema))
    fields = pl.element().struct
    message = pl.struct(fields.field("role"), fields.field("content").fill_null(""))
    return frame.with_columns(pl.all().fill_null([]).list.eval(message)).to_arrow().cast(schema)


def _check_columns(names: Sequence[str], method: str, place: str) -> None:
    """Raise UserError naming the missing columns, in our layout and in the published one."""
    if are_scenes(names) and method in FROM_SCENES:
        return
    missing = [column for column in COLUMNS[method] if column not in with_pair_columns(names)]
    if missing:
        published = dict.fromkeys(PUBLISHED[column] for column in COLUMNS[method])
        raise UserError(
            f"{place} lacks {', '.join(missing)} (it has {', '.join(names)}); {method} training reads "
            f"{', '.join(COLUMNS[method])}, or the published {', '.join(published)}"
        )
