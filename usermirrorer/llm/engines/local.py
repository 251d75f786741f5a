"""A model whose files are on this machine: its tokenizer, its length, and conversations as its tokens."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from usermirrorer.errors import UserError
from usermirrorer.llm.engines.rendering import Renderer
from usermirrorer.llm.paths import model_path
from usermirrorer.llm.protocol import Conversation
from usermirrorer.llm.readability import FEWEST_WORDS, describe_unreadable, words_of
from usermirrorer.records import read_record
from usermirrorer.steps import EngineSettings


LONGEST = 8192

SMALL = 512
"""A model that is no wider than this is fastest with one thread on a CPU."""


class LocalModel:
    """What the backends that load a model themselves have in common. Reads nothing before its first use."""

    def __init__(self, kind: str, model: str, settings: EngineSettings | None = None) -> None:
        self.name = f"{kind}:{model}"
        self.path = model_path(model)
        self.settings = settings or EngineSettings()
        self._words: set[str] = set()

    @cached_property
    def max_length(self) -> int:
        """Tokens of prompt and answer together: as set, else the model's context length, at most 8,192."""
        return self.settings.max_model_len or max_length(self.path)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own tokenizer; for an adapter saved without one, its base's."""
        from transformers import AutoTokenizer

        base = adapter_base(self.path)
        has_own = (Path(self.path) / "tokenizer_config.json").is_file()
        return load(AutoTokenizer, base if base and not has_own else self.path)

    @cached_property
    def renderer(self) -> Renderer:
        """The chat template."""
        return Renderer(self.tokenizer, self.name)

    def count_tokens(self, conversations: Sequence[Conversation]) -> list[int]:
        """Tokens of each conversation as it is sent: ready for an answer, or with its last, open answer continued."""
        return [len(tokens) for tokens in self.tokens(conversations)]

    def tokens(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Token ids of each conversation as it is sent. Raises UserError if the model has no chat template."""
        if not self.tokenizer.chat_template:
            raise UserError(f"{self.name} has no chat template: use an instruction-tuned model")
        self._warn_if_unreadable(conversations)
        return self.renderer.tokens(conversations)

    def fitting_tokens(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """The same; raises UserError if a conversation leaves no room for an answer."""
        found = self.tokens(conversations)
        for index, prompt in enumerate(found):
            if len(prompt) >= self.max_length:
                raise UserError(
                    f"Conversation {index} has {len(prompt)} tokens, which leaves no room for an answer in the "
                    f"{self.max_length} of {self.name}: shorten its history"
                )
        return found

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens around it."""
        return self.renderer.encode(texts)

    def _warn_if_unreadable(self, conversations: Sequence[Conversation]) -> None:
        """Say so, once, if the first words of the scenes show that the model can't read them."""
        for messages in conversations:
            if len(self._words) >= FEWEST_WORDS:
                return
            self._words |= {word for turn in messages if turn["role"] == "user" for word in words_of(turn["content"])}
            if len(self._words) >= FEWEST_WORDS and (told := describe_unreadable(self.name, self._words, self.encode)):
                print(f"WARNING: {told}", file=sys.stderr)


def adapter_base(path: str) -> str | None:
    """The base model if `path` is the directory of a LoRA adapter; None for a whole model."""
    config = Path(path) / "adapter_config.json"
    if not config.is_file():
        return None
    remedy = "give the directory of another model"
    base = read_record(config, remedy).get("base_model_name_or_path")
    if not isinstance(base, str):
        raise UserError(f"{config} names no base_model_name_or_path; {remedy}")
    return model_path(base)


def adapter_rank(path: str) -> int:
    """The rank of a LoRA adapter. Raises UserError if its record names none."""
    config, remedy = Path(path) / "adapter_config.json", "give the directory of another model"
    rank = read_record(config, remedy).get("r")
    if not isinstance(rank, int) or rank < 1:
        raise UserError(f"{config} names no rank r; {remedy}")
    return rank


def max_length(path: str) -> int:
    """Tokens of prompt and answer together: the model's context length, at most 8,192."""
    config = model_config(adapter_base(path) or path).get_text_config()
    return min(getattr(config, "max_position_embeddings", LONGEST), LONGEST)


def model_config(model: str) -> Any:
    """The configuration that transformers reads."""
    from transformers import AutoConfig

    return load(AutoConfig, model)


def load(kind: Any, model: str, **options: Any) -> Any:
    """Load `model` with `kind`, a transformers Auto class. Raises UserError if that fails."""
    try:
        return kind.from_pretrained(model, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"'{model}' is not a model that can be loaded: give the directory of one, a Hub id or tiny-base"
        ) from error
