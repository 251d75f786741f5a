"""The batches of one step, as OpenAI's Batch API has them and as a file beside the step's journal lists them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.protocol import Output
from usermirrorer.llm.requests import Usage
from usermirrorer.llm.servers.background import wait
from usermirrorer.llm.servers.refusals import RequestFailed, clean
from usermirrorer.llm.servers.replies import UNUSABLE, read_outputs, read_usage
from usermirrorer.llm.servers.server import Servers, Upload


MOST_REQUESTS, MOST_BYTES = 5000, 100_000_000
"""Of one batch: a tenth and half of what OpenAI allows, so that the first answers come before all are there."""

ENDED = ("completed", "expired", "cancelled")

_BOUNDARY = "usermirrorer-requests"


class Batches:
    """The batches that the file `kept` lists. Raises UserError if it can't be read or is of another server."""

    def __init__(self, servers: Servers, kept: Path) -> None:
        self._servers, self._kept = servers, kept
        self._taken: set[str] = set()
        self._told: dict[str, str] = {}
        self._all = _read(kept, servers.hosts)

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
        """The batches whose answers are ready and not yet taken. Raises StepFailed for one that was refused."""
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

    def results(self, batch: dict[str, Any], usage: Usage) -> dict[str, list[Output] | RequestFailed]:
        """Answers and refusals by digest; what is not among them may be asked again."""
        self._taken.add(batch["id"])
        found: dict[str, list[Output] | RequestFailed] = {}
        for name in (batch["output_file_id"], batch["error_file_id"]):
            if name:
                text = wait(self._servers.ask(f"/files/{name}/content", str, plain=True))
                found |= dict(filter(None, (result_of(line, usage) for line in text.splitlines())))
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
        done = (state.get("request_counts") or {}).get("completed", 0)
        told = f"batch {batch['id']}: {state['status']}, {done} of {len(batch['requests'])} answered"
        if self._told.get(batch["id"]) != told:
            self._told[batch["id"]] = told
            print(told, file=sys.stderr)
        return state

    def _write(self) -> None:
        temporary = self._kept.with_name(f"{self._kept.name}.tmp")
        temporary.write_text(json.dumps(self._all))
        os.replace(temporary, self._kept)


def _read(kept: Path, host: str) -> list[dict[str, Any]]:
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


def parts(lines: Sequence[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
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


def line_of(digest: str, body: dict[str, Any]) -> bytes:
    request = {"custom_id": digest, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode() + b"\n"


def result_of(line: str, usage: Usage) -> tuple[str, list[Output] | RequestFailed] | None:
    """The digest and the answer in a line of results; None if it is unusable or may be otherwise another time."""
    try:
        entry = json.loads(line)
        digest, response = str(entry["custom_id"]), entry.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            outputs = read_outputs(body)
            usage.add(*read_usage(body))
            return digest, outputs
        if isinstance(status, int) and 400 <= status < 500 and status not in (408, 409, 429):
            return digest, RequestFailed(f"a request was refused ({status}: {clean(str(body))})", status)
    except UNUSABLE:
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
