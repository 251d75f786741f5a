"""Checks that a tokenizer keeps the option labels apart: otherwise their probabilities mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import BEHAVIOR


def label_tokens(encode: Callable[[list[str]], list[list[int]]], labels: Sequence[str], name: str) -> list[int]:
    """Token id of each label after `Behavior: [`, the same as in the finished `Behavior: [X]` of training.

    `encode` gives the token ids of each text, without special tokens. Raises UserError, naming the label and the model
    `name`, if a label is not a single token of its own there.
    """
    before = f"I take it.\n{BEHAVIOR}"
    prefix, *rows = encode([before, *(before + label for label in labels), *(f"{before}{label}]" for label in labels)])
    tokens: list[int] = []
    for label, opened, closed in zip(labels, rows[: len(labels)], rows[len(labels) :], strict=True):
        single = len(opened) == len(prefix) + 1 and opened[:-1] == prefix and closed[: len(opened)] == opened
        if not single or opened[-1] in tokens:
            raise UserError(
                f"The label '{label}' is not a single token of its own after '[' in {name}: use a model whose "
                "tokenizer keeps capital letters apart"
            )
        tokens.append(opened[-1])
    return tokens
