"""What the framework needs of a language model, whichever backend runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np

from usermirrorer.steps import Sampling


if TYPE_CHECKING:
    from usermirrorer.llm.requests import Session


class Message(TypedDict):
    role: str
    content: str


Conversation = list[Message]


@dataclass(frozen=True)
class Output:
    """One sampled answer. `finish_reason` is `stop` (the model ended its turn) or `length` (cut at max_tokens)."""

    text: str
    finish_reason: str


class LanguageModel(Protocol):
    """A model that writes decision processes, gives the probability of every option, and embeds texts."""

    @property
    def name(self) -> str:
        """As in the SPEC, e.g. `vllm:Qwen/Qwen2.5-3B-Instruct`; manifests record it."""

    @property
    def max_length(self) -> int | None:
        """Tokens of prompt and answer together; None if the model sets no limit."""

    def session(self) -> Session:
        """The model, ready for requests one by one. It starts here, if it has to."""

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` answers to each conversation, sampled with its own seed: the same bytes in any batch."""

    def choice_probs(self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Probability of each label as the next token, shape `(options,)` per conversation, summing to one.

        Each conversation ends in an open assistant message (`…Behavior: [`). Raises UserError if a label is not a
        single, distinct token there, or the server gives no such probabilities.
        """

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, `(texts, width)`, float32."""

    def count_tokens(self, conversations: Sequence[Conversation]) -> list[int]:
        """Length of each rendered conversation in tokens (in words if the model has no tokenizer)."""
