"""A local server that answers and records the few Hub calls that publishing makes."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What was received: `files` by path, `bodies` of all requests, `tokens` of their authorization headers.

    Weights come as objects of Git LFS, all else in the commit. `refuse` is the status of every POST, if any; `drop`
    is how many requests to a place with `drop_at` in its path still end without an answer.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    created: dict[str, Any] = field(default_factory=dict)
    private: bool | None = None
    commits: int = 0
    refuse: int = 0
    drop: int = 0
    drop_at: str = "/"


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
            if hub.refuse == 401:
                return self._answer({"error": "Invalid credentials"}, 401)
            if "/tree/" in self.path:
                entries = [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in hub.files]
                return self._answer(entries)
            self._answer({"id": "me/set", "private": bool(hub.private), "sha": "0" * 40, "siblings": []})

        def do_PUT(self) -> None:
            body = self._note()
            assert hashlib.sha256(body).hexdigest() == self.path.rpartition("/")[2]
            hub.objects[self.path.rpartition("/")[2]] = body
            self._answer({})

        def do_POST(self) -> None:
            body = self._note()
            if hub.drop and hub.drop_at in self.path:
                hub.drop -= 1
                self.close_connection = True
                return  # without a status line: the connection is closed
            if hub.refuse:
                return self._answer({"error": "You don't have the rights"}, hub.refuse)
            if self.path.startswith("/api/repos/create"):
                hub.created = json.loads(body)
                if hub.private is None:
                    hub.private = hub.created.get("visibility") == "private"
                folder = "" if hub.created["type"] == "model" else "datasets/"
                name = f"{hub.created['organization']}/{hub.created['name']}"
                return self._answer({"url": f"{hub.url}/{folder}{name}", "name": name})
            if "/preupload/" in self.path:
                modes = {True: "lfs", False: "regular"}
                files = [
                    {"path": f["path"], "uploadMode": modes[f["path"].endswith(".safetensors")], "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                return self._answer({"files": files})
            if self.path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(body)["objects"]
                put = [{**one, "actions": {"upload": {"href": f"{hub.url}/objects/{one['oid']}"}}} for one in objects]
                return self._answer({"transfer": "basic", "objects": put})
            if "/commit/" in self.path:
                hub.commits += 1
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        hub.files[value["path"]] = hub.objects[value["oid"]]
                    elif line["key"] == "deletedFile":
                        del hub.files[value["path"]]
                return self._answer({"commitUrl": f"{hub.url}/me/set/commit/1", "commitOid": "1" * 40})
            self._answer({})  # the check of the card's front matter

        def _note(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.bodies.append(body)
            hub.calls.append(f"{self.command} {self.path}")
            if not self.path.startswith("/objects/"):  # storage, where the address itself is the permission
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
