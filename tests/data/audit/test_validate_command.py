"""The `validate` command: lengths in tokens, exit status, and one sentence for wrong use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from built import edit, first_row
from films import PAIRS, TRAIN, by_name, rows_of
from transformers import AutoTokenizer

from usermirrorer.data.audit.checks.lengths import token_counter
from usermirrorer.data.audit.validate import validate
from usermirrorer.llm.paths import TINY_BASE
from usermirrorer.llm.prompts import conversation, shed_history


def test_lengths_are_what_decide_and_train_see(built_films: Path) -> None:
    counter = token_counter("tiny-base", None, 350)
    limit = 350 - 16 - 175  # as in `decide`: half of the length for the answer, and room to close it
    texts = rows_of(built_films, TRAIN)["text"].to_list()
    fitted = [shed_history(text, "plain", counter.model.count_tokens, limit) for text in texts]
    dropped, shed = sum(f is None for f in fitted), sum(f is not None and f[1] > 0 for f in fitted)
    assert dropped and shed
    lengths = [counter.model.count_tokens([conversation(text, "plain")])[0] for text in texts]
    found = by_name(validate(built_films / TRAIN, counter), TRAIN)["lengths"]
    assert found.result == "warning"
    assert f"median {np.median(lengths):,.0f}, " in found.summary
    assert f"longest {max(lengths):,} tokens" in found.summary
    assert f"limit {limit}: {shed:,} shed history, {dropped:,} dropped" in found.summary

    tokenizer = AutoTokenizer.from_pretrained(TINY_BASE)
    rows = rows_of(built_films, PAIRS).to_dicts()
    sides = [
        [len(tokenizer.apply_chat_template(r["prompt"] + r[s])["input_ids"]) for r in rows]
        for s in ("chosen", "rejected")
    ]
    longest = np.maximum(*map(np.array, sides))
    limit = int(np.median(longest))
    found = by_name(validate(built_films / PAIRS, token_counter("tiny-base", None, limit)), PAIRS)["lengths"]
    assert f"limit {limit:,}: {(longest > limit).sum():,} dropped" in found.summary


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "nowhere is not there"),
        (["pyproject.toml"], "of no known kind"),
        (["docs"], "holds no artefact"),
        (["runs", "--max-length", "5"], "--tokenizer"),
    ],
)
def test_wrong_use_is_one_sentence(command: Callable, args: list[str], message: str) -> None:
    done = command("validate", *args)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_exit_status_and_report(work: Path, command: Callable) -> None:
    done = command("validate", work / TRAIN)
    assert done.returncode == 0 and "positions" in done.stdout and "validate:" in done.stdout
    edit(work / TRAIN, first_row(lambda row: row | {"item_pos": 26}))
    done = command("validate", work)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{TRAIN}, options: train-00000.parquet row 1 (scene " in " ".join(done.stdout.split())
    assert f"FAILED: {TRAIN}, options: " in done.stdout
