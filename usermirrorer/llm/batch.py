"""Decision processes through OpenAI's Batch API: answered within a day, for less.

Requests are uploaded as files, and a file beside the step's journal lists the batches that were made of them, with the
digest of every request. A run that was killed finds its requests there and waits for the same batches.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.background import wait
from usermirrorer.llm.execution import ask_all
from usermirrorer.llm.openai import OpenAIModel
from usermirrorer.llm.protocol import Conversation, LanguageModel, Output
from usermirrorer.llm.refusals import RequestFailed, clean
from usermirrorer.llm.replies import read_outputs
from usermirrorer.llm.requests import Answer, Request, Weigh, Write
from usermirrorer.llm.server import Upload
from usermirrorer.steps import Sampling


MOST_REQUESTS, MOST_BYTES = 5000, 100_000_000
"""Of one batch: a tenth and half of what OpenAI allows, so that the first answers come before all are there."""

TOGETHER = 2
"""Batches under way at a time."""

ROUNDS = 3
"""Batches that one request may be part of in a run."""

POLL_SECONDS, GATHER_SECONDS = 30.0, 1.0

ENDED = ("completed", "expired", "cancelled")

_BOUNDARY = "usermirrorer-requests"


class BatchedModel:
    """A model behind a server that writes through the Batch API. `kept` is the file that lists its batches."""

    def __init__(self, model: OpenAIModel, kept: Path, poll: float = POLL_SECONDS) -> None:
        self.name, self.max_length = model.name, model.max_length
        self._model, self._kept, self._poll = model, kept, poll

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
    if not isinstance(model, OpenAIModel) or not model.servers.is_one:
        raise UserError(f"--batch is for openai:MODEL at one base URL, not for '{model.name}': leave it out")
    return BatchedModel(model, kept)


class BatchAPISession:
    """A `Session` whose requests are sent in batches; those that are already part of one are not sent again."""

    def __init__(self, model: OpenAIModel, kept: Path, poll: float) -> None:
        self._model, self._kept, self._poll = model, kept, poll
        self.slots = MOST_REQUESTS * TOGETHER
        self._batches = _Batches(model, kept)
        self._keys: dict[str, list[int]] = {}
        self._bodies: dict[str, dict[str, Any]] = {}
        self._new: list[str] = []
        self._gathered = 0
        self._rounds: Counter[str] = Counter()
        self._lost: StepFailed | None = None

    def prepare(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """See `Session`. Raises UserError for a request that is not to write."""
        writes = [request for request in requests if isinstance(request, Write)]
        if len(writes) < len(requests):
            raise UserError(f"{self._model.name}: batches give no probabilities of options; leave out --batch")
        # Slots count answers, of which a request has several.
        self.slots = max(self.slots, MOST_REQUESTS * TOGETHER * max(write.n for write in writes))
        return [self._model.body(write) for write in writes]

    def submit(self, key: int, prepared: Any) -> None:
        """See `Session`."""
        digest = hashlib.blake2b(json.dumps(prepared, sort_keys=True).encode(), digest_size=16).hexdigest()
        self._keys.setdefault(digest, []).append(key)
        self._bodies[digest] = prepared
        self._new.append(digest)

    def collect(self) -> list[tuple[int, Answer | Exception]]:
        """See `Session`, but it gives nothing while more and more requests come, which one batch can hold."""
        if self._gathered < len(self._new) < MOST_REQUESTS:
            self._gathered = len(self._new)
            time.sleep(min(GATHER_SECONDS, self._poll))
            return []
        self._send()
        while self._keys:
            for batch in self._batches.ended():
                answers = self._take(batch)
                if answers:
                    return answers
            self._send()
            if self._lost is not None:
                raise self._lost
            if self._keys:
                time.sleep(self._poll)
        return []

    def close(self) -> None:
        """See `Session`: batches go on at the server, and a later run takes their answers."""
        self._keys, self._bodies, self._new, self._gathered = {}, {}, [], 0

    def _send(self) -> None:
        """Make batches of the requests that are part of none."""
        known = self._batches.digests()
        new = [digest for digest in dict.fromkeys(self._new) if digest not in known and digest in self._keys]
        self._new, self._gathered = [], 0
        lines = [(digest, _line(digest, self._bodies[digest])) for digest in new]
        for part in _parts(lines):
            self._batches.create([digest for digest, _ in part], b"".join(line for _, line in part))
            self._rounds.update(digest for digest, _ in part)

    def _take(self, batch: dict[str, Any]) -> list[tuple[int, Answer | Exception]]:
        """The answers of a batch that has ended. What it left out is asked for again, unless somebody cancelled it."""
        found = self._batches.results(batch)
        answers: list[tuple[int, Answer | Exception]] = []
        missing = []
        for digest in batch["requests"]:
            result: list[Output] | RequestFailed | None = found.get(digest)
            expected = self._bodies.get(digest, {}).get("n", 0)
            if isinstance(result, list) and len(result) < expected:
                told = f"{self._model.name} gave {len(result)} of {expected} answers to a request: leave out --batch"
                result = RequestFailed(told)
            if result is None and digest in self._keys and self._rounds[digest] >= ROUNDS:
                result = RequestFailed(
                    f"{ROUNDS} batches gave no answer to a request: start again, or without --batch"
                )
            if not isinstance(result, list):
                missing.append(digest)
            if result is None:
                self._new.append(digest)
            else:
                kept = result if isinstance(result, RequestFailed) else result[:expected]
                self._bodies.pop(digest, None)
                answers += [(key, kept) for key in self._keys.pop(digest, [])]
        self._batches.without(batch, missing)
        if batch["status"] == "cancelled":
            self._lost = StepFailed(f"batch {batch['id']} was cancelled: start again to ask for what it left out")
        elif batch["status"] == "expired" and self._new:
            print(f"batch {batch['id']} expired; {len(self._new):,} requests are asked again", file=sys.stderr)
        return answers


class _Batches:
    """The batches of one step, as the server has them and as `kept` lists them."""

    def __init__(self, model: OpenAIModel, kept: Path) -> None:
        self._servers, self._kept = model.servers, kept
        self._taken: set[str] = set()
        self._told: dict[str, str] = {}
        self._all = _read(kept, model.servers.hosts)

    def digests(self) -> set[str]:
        """Of all requests that are part of a batch whose answers are still to come."""
        return {digest for batch in self._all if batch["id"] not in self._taken for digest in batch["requests"]}

    def create(self, digests: list[str], lines: bytes) -> None:
        """Upload requests and make a batch of them."""
        fields = f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{_BOUNDARY}\r\n'
        file = 'content-disposition: form-data; name="file"; filename="requests.jsonl"\r\n'
        content = f"{fields}{file}content-type: application/jsonl\r\n\r\n".encode() + lines
        form = Upload(content + f"\r\n--{_BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={_BOUNDARY}")
        name = wait(self._servers.ask("/files", _id, form))
        body = {"input_file_id": name, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = wait(self._servers.ask("/batches", _id, body))
        self._all.append({"id": batch, "host": self._servers.hosts, "requests": digests})
        self._write()
        print(f"batch {batch}: {len(digests):,} requests; a later run finds it, too", file=sys.stderr)

    def ended(self) -> Iterator[dict[str, Any]]:
        """The batches whose answers are ready and were not taken. Raises StepFailed for one that the server refused."""
        for batch in list(self._all):
            if batch["id"] in self._taken:
                continue
            state = self._state(batch)
            if state is None:
                continue
            if state["status"] == "failed":
                self.without(batch, batch["requests"])
                errors = (state.get("errors") or {}).get("data") or [{}]
                reason = clean(str(errors[0].get("message") or "no reason given"))
                raise StepFailed(f"batch {batch['id']} was refused ({reason}): change what it names, then start again")
            if state["status"] in ENDED:
                yield {**batch, **{key: state.get(key) for key in ("status", "output_file_id", "error_file_id")}}

    def results(self, batch: dict[str, Any]) -> dict[str, list[Output] | RequestFailed]:
        """Answers and refusals by digest; what is not among them may be asked again."""
        self._taken.add(batch["id"])
        found: dict[str, list[Output] | RequestFailed] = {}
        for name in (batch["output_file_id"], batch["error_file_id"]):
            if name:
                text = wait(self._servers.ask(f"/files/{name}/content", str, plain=True))
                found |= dict(filter(None, map(_result, text.splitlines())))
        return found

    def without(self, batch: dict[str, Any], digests: Iterable[str]) -> None:
        """Forget that some requests are part of a batch, or the batch if it has no other."""
        gone = set(digests)
        for one in self._all:
            if one["id"] == batch["id"]:
                one["requests"] = [digest for digest in one["requests"] if digest not in gone]
        self._all = [one for one in self._all if one["requests"]]
        self._write()

    def _state(self, batch: dict[str, Any]) -> dict[str, Any] | None:
        """What the server says of a batch; None, and forgotten, if it does not know it."""
        try:
            state = wait(self._servers.ask(f"/batches/{batch['id']}", _state, optional=True))
        except RequestFailed as error:
            if error.status != 404:
                raise
            print(f"batch {batch['id']} is not known any more; its requests are asked again", file=sys.stderr)
            self.without(batch, batch["requests"])
            return None
        counts = state.get("request_counts") or {}
        told = f"batch {batch['id']}: {state['status']}, {counts.get('completed', 0)} of {len(batch['requests'])} answered"
        if self._told.get(batch["id"]) != told:
            self._told[batch["id"]] = told
            print(told, file=sys.stderr)
        return state

    def _write(self) -> None:
        temporary = self._kept.with_name(f"{self._kept.name}.tmp")
        temporary.write_text(json.dumps(self._all))
        os.replace(temporary, self._kept)


def _read(kept: Path, host: str) -> list[dict[str, Any]]:
    """The batches that a file lists for a server. Raises UserError if it can't be read."""
    if not kept.is_file():
        return []
    try:
        batches = [
            {"id": str(one["id"]), "host": str(one["host"]), "requests": [str(digest) for digest in one["requests"]]}
            for one in json.loads(kept.read_bytes())
        ]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{kept} is damaged: delete it, and its requests are asked anew") from None
    elsewhere = next((one["host"] for one in batches if one["host"] != host), None)
    if elsewhere:
        raise UserError(f"{kept} lists batches at {elsewhere}, not at {host}: use that --base-url, or delete the file")
    return batches


def _parts(lines: Sequence[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """The requests in files that are not too large."""
    part: list[tuple[str, bytes]] = []
    size = 0
    for digest, line in lines:
        if part and (len(part) == MOST_REQUESTS or size + len(line) > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append((digest, line))
        size += len(line)
    if part:
        yield part


def _line(digest: str, body: dict[str, Any]) -> bytes:
    request = {"custom_id": digest, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode() + b"\n"


def _result(line: str) -> tuple[str, list[Output] | RequestFailed] | None:
    """The digest and the answer in a line of results; None if it is unusable or may be otherwise another time."""
    try:
        entry = json.loads(line)
        digest, response = str(entry["custom_id"]), entry.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            return digest, read_outputs(body)
        if isinstance(status, int) and 400 <= status < 500 and status not in (408, 409, 429):
            return digest, RequestFailed(f"a request was refused ({status}: {clean(str(body))})", status)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        pass
    return None


def _id(reply: Any) -> str:
    if not isinstance(reply["id"], str):
        raise ValueError("no id")
    return reply["id"]


def _state(reply: Any) -> dict[str, Any]:
    if not isinstance(reply["status"], str):
        raise ValueError("no status")
    return reply
