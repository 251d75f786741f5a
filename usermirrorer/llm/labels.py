"""Whether a tokenizer keeps the option labels apart: without that, no probability of a label means anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import BEHAVIOR


def label_tokens(encode: Callable[[list[str]], list[list[int]]], labels: Sequence[str], name: str) -> list[int]:
    """Token id of each label behind `Behavior: [`, the same in the finished `Behavior: [X]` of training.

    `encode` gives the token ids of each text, without special tokens. Raises UserError that names the first label
    which is not a single token of its own there, and the model `name`.
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
