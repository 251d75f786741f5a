"""A local server that answers and records the few Hub calls that publishing makes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What was received: `files` by path, `bodies` of all requests, `tokens` of their authorization headers."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    created: dict[str, Any] = field(default_factory=dict)
    private: bool | None = None
    commits: int = 0
    refuse: bool = False


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    """A Hub for one test; set HF_ENDPOINT to its `url`."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._note()
            if "/tree/" in self.path:
                entries = [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in hub.files]
                return self._answer(entries)
            self._answer({"id": "me/set", "private": bool(hub.private), "sha": "0" * 40, "siblings": []})

        def do_POST(self) -> None:
            body = self._note()
            if hub.refuse:
                return self._answer({"error": "You don't have the rights"}, 403)
            if self.path.startswith("/api/repos/create"):
                hub.created = json.loads(body)
                if hub.private is None:
                    hub.private = hub.created.get("visibility") == "private"
                return self._answer({"url": f"{hub.url}/datasets/me/set", "name": "me/set"})
            if "/preupload/" in self.path:
                files = [f | {"uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]
                return self._answer({"files": [{k: v for k, v in f.items() if k != "sample"} for f in files]})
            if "/commit/" in self.path:
                hub.commits += 1
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "deletedFile":
                        del hub.files[value["path"]]
                return self._answer({"commitUrl": f"{hub.url}/datasets/me/set/commit/1", "commitOid": "1" * 40})
            self._answer({})  # the check of the card's front matter

        def _note(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.bodies.append(body)
            hub.calls.append(f"{self.command} {self.path}")
            hub.tokens.add(self.headers.get("Authorization"))
            return body

        def _answer(self, content: Any, status: int = 200) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
