"""Conversations as a model's tokens, by its chat template, and fast: what is the same in all is rendered once.

A template puts literal text around the contents of the turns. That text is learnt from one rendering, and a prompt
that several answers share is tokenised once, up to the last control token, at which tokenizers split in any case. Both
are checked against the template and the tokenizer themselves; where they differ, those are used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from usermirrorer.errors import UserError
from usermirrorer.llm.injection import broken, control_tokens, without_control_tokens
from usermirrorer.llm.prompts import PROMPT_DATE
from usermirrorer.llm.protocol import Conversation


CHECKED = 16
"""Conversations of a kind that are also rendered and tokenised whole."""

PROMPTS = 256
"""Prompts whose tokens are kept."""

_MARK = "\ue000{}\ue001"
# Templates of thinking models look for these in a turn.
_LOOKED_FOR = re.compile(r"</?(?:think|tool)|[\ue000\ue001]")


@dataclass
class _Frame:
    """The literal text around the contents of turns: one piece more than there are turns."""

    pieces: list[str]
    head: int
    """How much of the text before the last content ends in a control token"""
    unchecked: int = CHECKED


def template_options(tokenizer: Any) -> dict[str, bool]:
    """What a chat template is told besides the date: thinking models (Qwen3) get no thought of their own.

    Their templates then put an empty thought into the prompt, and our decision process takes its place.
    """
    return {"enable_thinking": False} if "enable_thinking" in tokenizer.chat_template else {}


def trained_tokens(tokenizer: Any, conversations: Sequence[Conversation], **options: Any) -> list[list[int]]:
    """Token ids of whole conversations, or of prompts ready for an answer, as they are trained on."""
    options |= {"tokenize": True, "return_dict": True, "date_string": PROMPT_DATE, **template_options(tokenizer)}
    return tokenizer.apply_chat_template(list(conversations), **options)["input_ids"]


class Renderer:
    """The chat template and the tokenizer of the model called `name`."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.frames: dict[tuple[str, ...], _Frame | None] = {}
        self.prompts: dict[str, list[int]] = {}

    def tokens(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Token ids of each conversation: ready for an answer, or with its last, open answer continued."""
        plain = [without_control_tokens(messages, self._control) for messages in conversations]
        halves = [self._halves(messages) for messages in plain]
        whole = self._whole([messages for messages, half in zip(plain, halves, strict=True) if half is None])
        heads = {head for head, _ in filter(None, halves) if head not in self.prompts}
        tails = {tail for _, tail in filter(None, halves)}
        known = dict(zip([*heads, *tails], self.encode([*heads, *tails]), strict=True))
        for head in heads:
            self.prompts[head] = known[head]
        rest = iter(whole)
        found = [next(rest) if half is None else [*self.prompts[half[0]], *known[half[1]]] for half in halves]
        while len(self.prompts) > PROMPTS:
            self.prompts.pop(next(iter(self.prompts)))
        self._check(plain, halves, found)
        return found

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens around it."""
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]

    def plain(self, texts: Sequence[str]) -> list[str]:
        """Texts of a log without control tokens, to be embedded."""
        return [broken(text, self._control) for text in texts]

    @cached_property
    def _control(self) -> re.Pattern[str]:
        return control_tokens(self.tokenizer)

    def _render(self, messages: Conversation) -> str:
        """The conversation as the template writes it."""
        from jinja2 import TemplateError

        is_open = messages[-1]["role"] == "assistant"
        try:
            return self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                date_string=PROMPT_DATE,
                add_generation_prompt=not is_open,
                continue_final_message=is_open,
                **template_options(self.tokenizer),
            )
        except TemplateError as error:
            raise UserError(f"the chat template of {self.name} refuses a conversation: {error}") from error

    def _whole(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        return self.encode([self._render(messages) for messages in conversations])

    def _halves(self, messages: Conversation) -> tuple[str, str] | None:
        """The text up to the last control token before the answer, and the rest; None: ask the template."""
        roles = tuple(turn["role"] for turn in messages)
        if roles not in self.frames:
            self.frames[roles] = self._learn(roles)
        frame = self.frames[roles]
        contents = [turn["content"] for turn in messages]
        if frame is None or any(text != text.strip() or _LOOKED_FOR.search(text) for text in contents):
            return None
        parts = [part for pair in zip(frame.pieces, contents, strict=False) for part in pair]
        last = parts.pop() if roles[-1] == "assistant" else ""
        before = "".join(parts) if roles[-1] == "assistant" else "".join([*parts, frame.pieces[-1]])
        cut = len(before) - frame.head
        return before[:cut], before[cut:] + last

    def _learn(self, roles: tuple[str, ...]) -> _Frame | None:
        marks = [_MARK.format(number) for number in range(len(roles))]
        text = self._render([{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)])
        pieces = re.split("|".join(marks), text)
        if len(pieces) != len(roles) + 1 or [text.find(mark) for mark in marks] != sorted(map(text.find, marks)):
            return None
        piece = pieces[-2] if roles[-1] == "assistant" else pieces[-1]
        if roles[-1] == "assistant" and pieces[-1]:
            return None
        special = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        end = max((piece.rfind(name) + len(name) for name in special if name in piece), default=0)
        return _Frame(pieces, len(piece) - end) if end else None

    def _check(
        self, plain: Sequence[Conversation], halves: Sequence[tuple[str, str] | None], found: list[list[int]]
    ) -> None:
        """Compare the first of each kind with template and tokenizer; what differs is corrected, and its kind too."""
        for index, (messages, half) in enumerate(zip(plain, halves, strict=True)):
            roles = tuple(turn["role"] for turn in messages)
            frame = self.frames[roles]
            if half is None or (frame is not None and not frame.unchecked):
                continue
            [asked] = self._whole([messages])
            if frame is not None:
                frame.unchecked -= 1
                if asked != found[index]:
                    self.frames[roles] = None
            found[index] = asked
