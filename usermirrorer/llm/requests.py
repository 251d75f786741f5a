"""What is asked of a model, one request at a time, and how the answers come back: in any order, as they are ready."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.steps import Sampling


@dataclass(frozen=True)
class Write:
    """`n` answers to a conversation, sampled with a seed of its own."""

    conversation: Conversation
    n: int
    sampling: Sampling
    seed: int


@dataclass(frozen=True)
class Weigh:
    """The probability of each label as the next token of a conversation that ends in an open assistant turn."""

    conversation: Conversation
    labels: Sequence[str]


Request = Write | Weigh
Answer = list[Output] | np.ndarray
"""`n` outputs for a `Write`, probabilities `(labels,)` for a `Weigh`."""

T = TypeVar("T")
Task = Generator[Sequence[Request], Sequence[Answer], T]
"""Work on one scene: yields requests, is sent their answers in order, and returns its result.

Two steps, as in `eval`, are two yields: first the decision processes, then the options given each of them.
"""


@dataclass
class Usage:
    """What a session has done so far. Tokens that a prompt shares with earlier ones are not read again."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, prompt: int, cached: int, completion: int) -> None:
        """Count an answer."""
        self.requests += 1
        self.prompt_tokens += prompt
        self.cached_tokens += cached
        self.completion_tokens += completion

    def add_all(self, other: Usage) -> None:
        """Count what another session has done."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens


class Session(Protocol):
    """A model that is ready for requests. Not for use by several threads, but for `prepare`."""

    usage: Usage

    slots: int
    """How many requests keep it busy; more may be submitted."""

    def prepare(self, requests: Sequence[Request]) -> Sequence[object]:
        """What `submit` needs of requests, such as their tokens; called ahead, in a thread of its own.

        Raises UserError if a request can't be asked of this model.
        """

    def submit(self, key: int, prepared: object) -> None:
        """Ask a request whose answer `collect` gives under `key`."""

    def collect(self) -> list[tuple[int, Answer | Exception]]:
        """Answers that have come, or why one did not; waits until there is one.

        Raises StepFailed or UserError if nothing more can come, such as when a server is gone or refuses the key.
        """

    def close(self) -> None:
        """Forget requests that nobody waits for any more."""
