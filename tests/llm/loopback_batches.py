"""The Batch API of a loopback server: files, batches, and how each batch ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from loopback_server import Reply, completion


class BatchAPI:
    """Set it as a server's `route`. `ends` gives the states of a batch by its number, one for each time it is asked.

    `answer` gives the line of results for a request, None to leave it out.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[list[dict]] = []
        self.asked: list[int] = []
        self.ends: Callable[[int], list[str]] = lambda number: ["validating", "in_progress", "completed"]
        self.answer: Callable[[dict, int], dict | None] = lambda request, number: good(request)
        self.forgotten: set[int] = set()

    def __call__(self, method: str, path: str, content: bytes) -> Any:
        if path == "/v1/files":
            assert b'name="purpose"\r\n\r\nbatch\r\n' in content and b'filename="requests.jsonl"' in content
            lines = re.findall(rb"^\{.*\}$", content, re.MULTILINE)
            return {"id": self.keep(b"\n".join(lines))}
        if path == "/v1/batches":
            body = json.loads(content)
            assert body["endpoint"] == "/v1/chat/completions" and body["completion_window"] == "24h"
            self.requests.append([json.loads(line) for line in self.files[body["input_file_id"]].splitlines()])
            self.asked.append(0)
            return {"id": f"batch_{len(self.requests) - 1}", "status": "validating"}
        if found := re.fullmatch(r"/v1/batches/batch_(\d+)", path):
            return self.state(int(found[1]))
        if found := re.fullmatch(r"/v1/files/(\w+)/content", path):
            return Reply(content=self.files[found[1]])
        return None

    def keep(self, content: bytes) -> str:
        self.files[f"file_{len(self.files)}"] = content
        return f"file_{len(self.files) - 1}"

    def state(self, number: int) -> Any:
        if number in self.forgotten:
            return Reply(404, {"error": {"message": "no such batch"}})
        states = self.ends(number)
        status = states[min(self.asked[number], len(states) - 1)]
        self.asked[number] += 1
        state: dict[str, Any] = {"id": f"batch_{number}", "status": status, "output_file_id": None}
        if status == "failed":
            return state | {"errors": {"data": [{"message": "enqueued token limit reached"}]}}
        if status in ("completed", "expired", "cancelled"):
            # Answers come in any order.
            lines = [line for request in self.requests[number][::-1] if (line := self.answer(request, number))]
            good_lines = [line for line in lines if not line.get("error")]
            bad_lines = [line for line in lines if line.get("error")]
            text = lambda some: "\n".join(map(json.dumps, some)).encode()  # noqa: E731
            state["output_file_id"] = self.keep(text(good_lines)) if good_lines else None
            state["error_file_id"] = self.keep(text(bad_lines)) if bad_lines else None
        return state


def good(request: dict, body: dict | None = None) -> dict:
    """A line of results that answers a request, with `body` or as the server would."""
    body = body or completion(request["body"])
    return {
        "id": "r",
        "custom_id": request["custom_id"],
        "response": {"status_code": 200, "body": body},
        "error": None,
    }


def bad(request: dict, status: int, message: str) -> dict:
    """A line of results that refuses it."""
    body = {"error": {"message": message}}
    return {
        "id": "r",
        "custom_id": request["custom_id"],
        "response": {"status_code": status, "body": body},
        "error": {"code": "x"},
    }
