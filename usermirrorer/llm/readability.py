"""Whether a model can read a log: what its tokenizer does not know, it spells in many tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence


MOST_SPELLED = 1 / 3
"""A model that spells a larger share of the words can't read the text."""

FEWEST_WORDS = 20
"""Different words that are needed to tell."""

_WORD = re.compile(r"[^\W\d_]+")


def words_of(text: str) -> set[str]:
    """The words of at least four bytes; shorter ones are few tokens anyway."""
    return {word for word in _WORD.findall(text) if len(word.encode()) >= 4}


Encode = Callable[[list[str]], Sequence[Sequence[int]]]
"""Token ids of texts."""


def describe_unreadable(name: str, words: Iterable[str], encode: Encode) -> str:
    """A sentence on what to use instead if the model called `name` can't read these words; empty if it can.

    A word is spelled if its tokens are shorter than two bytes, on average.
    """
    words = sorted(set(words))
    # Within a line, a word comes with the space before it.
    alone, *found = map(len, encode(["a", *(f"a {word}" for word in words)]))
    spelled = [word for word, tokens in zip(words, found, strict=True) if 2 * (tokens - alone) > len(word.encode())]
    if len(words) < FEWEST_WORDS or len(spelled) <= MOST_SPELLED * len(words):
        return ""
    return (
        f"{name} can't read this log: it spells {len(spelled) / len(words):.0%} of the words, such as {spelled[0]!r}, "
        f"in pieces of a letter or two, so its answers are no better than chance; take a language model that knows "
        f"the log's language, such as HuggingFaceTB/SmolLM2-135M-Instruct for English"
    )
