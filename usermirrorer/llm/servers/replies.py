"""What servers reply, read strictly: each reader takes decoded JSON and raises ValueError for what can't be used.

It may also raise what Python does if a part is missing, of another type or out of range, all of it in `UNUSABLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from usermirrorer.llm.protocol import Output


UNUSABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)

WITHOUT_TEXT = ("length", "content_filter")
"""Finish reasons with which an answer may have no text: the model thought too long, or the server kept it back."""


def read_outputs(reply: Any) -> list[Output]:
    """The answers of a chat completion, in order."""
    choices = reply["choices"]
    if not choices:
        raise ValueError("no choices")
    outputs = []
    for choice in choices:
        text, reason = choice["message"].get("content"), choice.get("finish_reason")
        if text is None and reason in WITHOUT_TEXT:
            text = ""
        if not isinstance(text, str):
            raise ValueError(f"the content is {_shown(text)}, not text")
        text = text.encode(errors="replace").decode()  # half of a surrogate pair is no text
        outputs.append(Output(text, "length" if reason == "length" else "stop"))
    return outputs


def read_probs(reply: Any, ids: Sequence[int]) -> np.ndarray:
    """Probabilities of the tokens `ids` at the first place of a chat completion; they sum to one."""
    logprobs = reply["choices"][0].get("logprobs")
    if not logprobs or not logprobs.get("content"):
        raise ValueError("no log-probabilities")
    first = logprobs["content"][0]
    found = {entry["token"]: entry["logprob"] for entry in [first, *first["top_logprobs"]]}
    values = []
    for token in ids:
        value = found.get(f"token_id:{token}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"the log-probability of token {token} is {_shown(value)}, not a number")
        values.append(value)
    probs = np.exp(np.array(values, dtype=np.float64))
    if not abs(probs.sum() - 1) < 1e-4:
        raise ValueError(f"the probabilities of {len(ids)} labels sum to {probs.sum():.6g}")
    return probs / probs.sum()


def read_usage(reply: Any) -> tuple[int, int, int]:
    """Tokens of a reply's prompt, those of them that an earlier prompt shared, and of its answers; 0 if unsaid."""
    usage = reply.get("usage") or {}
    counts = (
        usage.get("prompt_tokens"),
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        usage.get("completion_tokens"),
    )
    prompt, cached, completion = (count if type(count) is int and 0 <= count < 2**40 else 0 for count in counts)
    return prompt, cached, completion


def read_tokens(reply: Any) -> list[int]:
    """Token ids from vLLM's `/tokenize`."""
    tokens = reply["tokens"]
    if not tokens or not all(isinstance(token, int) for token in tokens):
        raise ValueError("no tokens")
    return tokens


def read_vectors(reply: Any, count: int) -> np.ndarray:
    """Vectors of `count` texts, `(texts, width)`, float32, each of unit length."""
    rows = sorted(reply["data"], key=lambda row: row["index"])
    if [row["index"] for row in rows] != list(range(count)):
        raise ValueError(f"vectors of {len(rows)} of {count} texts")
    vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if vectors.ndim != 2 or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ValueError("a vector that is zero or no vector of numbers")
    return vectors / lengths


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:40]
