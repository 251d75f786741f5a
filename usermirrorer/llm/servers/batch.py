"""Decision processes through OpenAI's Batch API: answered within a day, for less.

Requests are uploaded as files, and a file beside the step's journal lists the batches that were made of them, with the
digest of every request. A run that was killed finds its requests there and waits for the same batches.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.execution import ask_all
from usermirrorer.llm.protocol import Conversation, LanguageModel, Output
from usermirrorer.llm.requests import Answer, Request, Weigh, Write
from usermirrorer.llm.servers.batches import MOST_REQUESTS, Batches, line_of, parts
from usermirrorer.llm.servers.openai import OpenAIModel
from usermirrorer.llm.servers.refusals import RequestFailed
from usermirrorer.steps import Sampling


TOGETHER = 2
"""Batches under way at a time."""

ROUNDS = 3
"""Batches that one request may be part of in a run."""

POLL_SECONDS, GATHER_SECONDS = 30.0, 1.0


class BatchedModel:
    """A model behind a server that writes through the Batch API. `kept` is the file that lists its batches."""

    def __init__(self, model: OpenAIModel, kept: Path, poll: float = POLL_SECONDS) -> None:
        self.name = model.name
        self._model, self._kept, self._poll = model, kept, poll

    @property
    def max_length(self) -> int | None:
        """Tokens of prompt and answer together; None if the server does not say."""
        return self._model.max_length

    def session(self) -> BatchAPISession:
        """The server, ready for requests to write."""
        return BatchAPISession(self._model, self._kept, self._poll)

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` answers to each conversation, `(conversations, n)`."""
        asked = zip(conversations, seeds, strict=True)
        return ask_all(self.session(), [Write(messages, n, sampling, seed) for messages, seed in asked])

    def choice_probs(self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Raises UserError: batches give no probabilities of options."""
        asked = zip(conversations, labels, strict=True)
        return ask_all(self.session(), [Weigh(messages, names) for messages, names in asked])

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, `(texts, width)`, float32; asked for one by one."""
        return self._model.embed(texts)

    def count_tokens(self, conversations: Sequence[Conversation]) -> list[int]:
        """Length of each rendered conversation in tokens, or in words."""
        return self._model.count_tokens(conversations)


def batched(model: LanguageModel, kept: Path) -> BatchedModel:
    """The model through the Batch API. Raises UserError if it is not behind one server."""
    return BatchedModel(check_batched(model), kept)


def check_batched(model: LanguageModel) -> OpenAIModel:
    """The model, which is behind one server. Raises UserError if it is not."""
    if not isinstance(model, OpenAIModel) or not model.servers.is_one:
        raise UserError(f"batches are for openai:MODEL at one base URL, not for '{model.name}': leave out batch")
    return model


class BatchAPISession:
    """A `Session` whose requests are sent in batches; those that are already part of one are not sent again."""

    def __init__(self, model: OpenAIModel, kept: Path, poll: float) -> None:
        self._model, self._kept, self._poll = model, kept, poll
        self.slots = MOST_REQUESTS * TOGETHER
        self.usage = model.usage
        self._batches = Batches(model.servers, kept)
        self._keys: dict[str, list[int]] = {}
        self._bodies: dict[str, dict[str, Any]] = {}
        self._new = self._gathered = 0
        self._rounds: Counter[str] = Counter()
        self._lost: StepFailed | None = None

    def prepare(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """See `Session`. Raises UserError for a request that is not to write."""
        writes = [request for request in requests if isinstance(request, Write)]
        if len(writes) < len(requests):
            raise UserError(f"{self._model.name}: batches give no probabilities of options; leave out batch")
        # Slots count answers, of which a request has several.
        self.slots = max(self.slots, MOST_REQUESTS * TOGETHER * max(write.n for write in writes))
        return [self._model.body(write) for write in writes]

    def submit(self, key: int, prepared: Any) -> None:
        """See `Session`."""
        digest = hashlib.blake2b(json.dumps(prepared, sort_keys=True).encode(), digest_size=16).hexdigest()
        self._keys.setdefault(digest, []).append(key)
        self._bodies[digest] = prepared
        self._new += 1

    def collect(self) -> list[tuple[int, Answer | Exception]]:
        """See `Session`, but it gives nothing while more and more requests come, which one batch can hold."""
        if self._lost is not None:
            raise self._lost
        if self._gathered < self._new < MOST_REQUESTS:
            self._gathered = self._new
            time.sleep(min(GATHER_SECONDS, self._poll))
            return []
        self._send()
        while self._keys:
            for batch in self._batches.ended():
                answers = self._take(batch)
                if answers:
                    return answers
            if self._lost is not None:
                raise self._lost
            self._send()
            if self._keys:
                time.sleep(self._poll)
        return []

    def close(self) -> None:
        """See `Session`: batches go on at the server, and a later run takes their answers."""
        self._keys, self._bodies, self._new, self._gathered = {}, {}, 0, 0

    def _send(self) -> None:
        """Make batches of the requests that are part of none."""
        known = self._batches.digests()
        self._new = self._gathered = 0
        lines = [(digest, line_of(digest, self._bodies[digest])) for digest in self._keys if digest not in known]
        for some in parts(lines):
            self._batches.create([digest for digest, _ in some], b"".join(line for _, line in some))
            self._rounds.update(digest for digest, _ in some)

    def _take(self, batch: dict[str, Any]) -> list[tuple[int, Answer | Exception]]:
        """The answers of a batch that has ended. What it left out is asked for again, unless somebody cancelled it."""
        found = self._batches.results(batch, self.usage)
        answers: list[tuple[int, Answer | Exception]] = []
        missing = []
        for digest in batch["requests"]:
            result: list[Output] | RequestFailed | None = found.get(digest)
            expected = self._bodies.get(digest, {}).get("n", 0)
            if isinstance(result, list) and len(result) < expected:
                told = f"{self._model.name} gave {len(result)} of {expected} answers to a request: leave out batch"
                result = RequestFailed(told)
            if result is None and digest in self._keys and self._rounds[digest] >= ROUNDS:
                result = RequestFailed(f"{ROUNDS} batches gave no answer to a request: start again, or without batch")
            if not isinstance(result, list):
                missing.append(digest)
            if result is not None:
                kept = result if isinstance(result, RequestFailed) else result[:expected]
                self._bodies.pop(digest, None)
                answers += [(key, kept) for key in self._keys.pop(digest, [])]
        self._batches.without(batch, missing)
        if batch["status"] == "cancelled" and missing:
            self._lost = StepFailed(f"batch {batch['id']} was cancelled: start again to ask for what it left out")
        elif again := sum(digest in self._keys for digest in missing):
            print(f"batch {batch['id']} {batch['status']}; {again:,} requests are asked again", file=sys.stderr)
        return answers
