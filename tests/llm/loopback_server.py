"""A small OpenAI-compatible server on loopback that answers as scripted: well, badly, late or not at all."""

from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from usermirrorer.llm.protocol import Conversation
from usermirrorer.llm.servers.server import Patience


KEY = "sk-very-secret-0123456789"

SOON = Patience(first_pause=0.005, answer=60, total=60, notice=60)
"""The same attempts, each after a short pause."""

SHORT = replace(SOON, answer=1, total=1)
"""For what never ends."""


@dataclass(frozen=True)
class Reply:
    """What a server answers. `hang` keeps it silent until the client goes away; `reset` breaks the connection off."""

    status: int = 200
    content: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    reset: bool = False


Chat = Callable[[dict, int], Any]
"""The content of a good reply, or a `Reply`; gets the request and how many times it has come."""


class Server(ThreadingHTTPServer):
    """Answers chat requests with `chat`, `/tokenize` if it `serves_vllm`, and anything with `route` if that is set."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.chat: Chat = lambda body, tries: completion(body)
        self.route: Callable[[str, str, bytes], Any] | None = None
        self.serves_vllm = False
        self.seen: list[dict] = []
        self.tokenized: list[dict] = []
        self.keys: set[str | None] = set()
        self.in_flight = self.most_in_flight = self.connections = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def start(self) -> Server:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def prompts(self) -> list[str]:
        """The last message of every chat request, in the order in which they came."""
        return [body["messages"][-1]["content"] for body in self.seen]

    def get_request(self) -> tuple[socket.socket, Any]:
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go away."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        server.keys.add(self.headers["authorization"])
        if server.route is not None and (reply := server.route("POST", self.path, content)) is not None:
            return self.answer(reply)
        body = json.loads(content)
        if self.path == "/tokenize":
            server.tokenized.append(body)
            self.answer({"tokens": tokens(body)} if server.serves_vllm else Reply(404))
        elif self.path == "/v1/embeddings":
            rows = [{"index": i, "embedding": [len(text), 1.0]} for i, text in enumerate(body["input"])]
            self.answer({"object": "list", "model": "m", "data": rows[::-1]})
        else:
            with server.lock:
                tries = sum(body == earlier for earlier in server.seen) + 1
                server.seen.append(body)
                server.in_flight += 1
                server.most_in_flight = max(server.most_in_flight, server.in_flight)
            try:
                reply = server.chat(body, tries)
            finally:
                with server.lock:
                    server.in_flight -= 1
            self.answer(reply)

    def do_GET(self) -> None:
        server = self.server
        if server.route is not None and (reply := server.route("GET", self.path, b"")) is not None:
            return self.answer(reply)
        limit = {"max_model_len": 4096} if server.serves_vllm else {}
        self.answer({"object": "list", "data": [{"id": "m", "object": "model", **limit}]})

    def answer(self, reply: Any) -> None:
        reply = reply if isinstance(reply, Reply) else Reply(content=reply)
        if reply.hang:
            self.server.closing.wait(20)
        if reply.hang or reply.reset:
            # A reset, not an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            return
        content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        self.send_response(reply.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def tokens(body: dict) -> list[int]:
    """One token per byte, one more before each message."""
    if "prompt" in body:
        return list(body["prompt"].encode())
    opened_turn = 0 if body.get("continue_final_message") else 1
    return [0] * (sum(1 + len(message["content"].encode()) for message in body["messages"]) + opened_turn)


def completion(body: dict, texts: list[str | None] | None = None, finish_reason: str = "stop") -> dict:
    """A chat completion of `n` answers that repeat the prompt, or of `texts`."""
    texts = [f"{body['messages'][-1]['content']} / {i}" for i in range(body["n"])] if texts is None else texts
    choices = [
        {"index": i, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}
        for i, text in enumerate(texts)
    ]
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}


def masked(body: dict, **logprobs: Any) -> dict:
    """What `vllm serve --logprobs-mode processed_logprobs` returns: the letters weigh 1, 2, 3, ...

    `logprobs` replaces the values of some letters; that of a letter given as None is left out.
    """
    weights = [token - ord("A") + 1 for token in body["allowed_token_ids"]]
    entries = [
        {"token": f"token_id:{token}", "logprob": logprobs.get(chr(token), math.log(weight / sum(weights)))}
        for token, weight in zip(body["allowed_token_ids"], weights, strict=True)
    ]
    entries = [entry for entry in entries if entry["logprob"] is not None]
    reply = completion({**body, "n": 1})
    reply["choices"][0]["logprobs"] = {"content": [{**entries[0], "top_logprobs": entries}]}
    reply["usage"] = {"prompt_tokens": len(tokens(body)), "completion_tokens": 1, "total_tokens": 0}
    return reply


def user(text: str) -> Conversation:
    return [{"role": "user", "content": text}]
