"""Requests to the servers of one model: sent again after a fault, never for ever, one sentence if all was in vain."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from usermirrorer.errors import UserError
from usermirrorer.llm.servers.background import client
from usermirrorer.llm.servers.balance import Balance, Server
from usermirrorer.llm.servers.refusals import Fault, RequestFailed, ServerLost, check_status, clean
from usermirrorer.llm.servers.replies import UNUSABLE


T = TypeVar("T")

CONCURRENCY = 64
"""The most requests in flight at one server, unless the user says otherwise."""

OFFICIAL = "api.openai.com"

LARGEST, LARGEST_FILE = 2**26, 2**30
"""Bytes of a reply, and of a file with the results of a batch."""


@dataclass(frozen=True)
class Patience:
    """How long a request is tried; times in seconds."""

    attempts: int = 6
    """Attempts that end in a fault: 5xx, a lost connection, no or an unusable reply. A refusal for overload is none"""
    answer: float = 600.0
    """For the answer to one attempt"""
    total: float = 600.0
    """After the begin of the first attempt, in which another may begin"""
    first_pause: float = 0.5
    """After the first fault; twice as long after each further one, less up to a quarter at random"""
    longest_pause: float = 120.0
    """The longest `Retry-After` that is obeyed; a server that asks for more is given up"""
    notice: float = 20.0
    """Of silence until stderr says so; then twice as many, and so on"""
    hopeless: int = 20
    """Requests given up in a row until the others are given up, too"""


class Upload(NamedTuple):
    """What is sent, and its media type."""

    content: bytes
    kind: str = "application/json"


class _Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str


class Servers:
    """Servers of one model, at `base_url` (several in a list, or separated by commas) or OPENAI_BASE_URL.

    Every request reads the key from OPENAI_API_KEY. Raises UserError for what is not a URL.
    """

    def __init__(
        self,
        model: str,
        base_url: str | Sequence[str] | None = None,
        concurrency: int | None = None,
        patience: Patience | None = None,
    ) -> None:
        concurrency = CONCURRENCY if concurrency is None else concurrency
        if concurrency < 1:
            raise UserError(f"concurrency {concurrency}: must be at least 1")
        self.model = model
        self.patience = patience or Patience()
        self._balance = Balance(base_urls(base_url), concurrency)
        self.slots = 2 * concurrency * len(self._balance.servers)
        """Requests in hand that keep the servers busy: as many again as may be in flight"""
        self._answered_at = self._heard_at = 0.0
        self._in_vain = self._notices = 0
        self._watched = False

    @property
    def hosts(self) -> str:
        """For messages: `HOST`, or `HOST and 2 others`."""
        first, *others = [server.host for server in self._balance.servers]
        return f"{first} and {len(others)} other{'s' * (len(others) > 1)}" if others else first

    @property
    def is_one(self) -> bool:
        """Whether there is one base URL."""
        return len(self._balance.servers) == 1

    @property
    def official(self) -> bool:
        """Whether one of them is OpenAI's own."""
        return any(server.host == OFFICIAL for server in self._balance.servers)

    async def ask(
        self,
        path: str,
        read: Callable[[Any], T],
        body: Any = None,
        *,
        root: bool = False,
        optional: bool = False,
        plain: bool = False,
    ) -> T:
        """What `read` makes of the JSON (or `plain` text) that a server answers to a POST of `body`, else to a GET.

        `path` follows the base URL, with `root` the base URL without its `/v1`. `read` raises one of
        `UNUSABLE` for an unusable reply. With `optional`, a refusal (4xx) or an unusable
        reply is final at once, and says nothing of other requests. Raises RequestFailed, or ServerLost or UserError if
        others would fare no better.
        """
        content = None if body is None else body if isinstance(body, Upload) else Upload(json.dumps(body).encode())

        async def send(server: Server) -> T:
            reply = await self._reply(server, path, content, root, LARGEST_FILE if plain else LARGEST)
            check_status(*reply, server.host, self.model, optional)
            try:
                return read(reply.text if plain else json.loads(reply.text))
            except UNUSABLE as error:
                reason = f"gave an unusable reply ({_named(error)})"
            if optional:
                raise RequestFailed(f"{server.host} {reason}", reply.status)
            raise Fault(reason, reply.status)

        return await self._tried(send)

    async def _reply(self, server: Server, path: str, content: Upload | None, root: bool, most: int) -> _Reply:
        url = (server.url.removesuffix("/v1") if root else server.url) + path
        headers = {} if content is None else {"content-type": content.kind}
        if "@" not in urlsplit(url).netloc:  # else user and password of the URL are sent
            headers["authorization"] = f"Bearer {self._key()}"
        method, data = ("GET", None) if content is None else ("POST", content.content)
        async with client().request(method, url, data=data, headers=headers) as reply:
            parts, size = [], 0
            async for part in reply.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > most:
                    raise Fault(f"sent more than {most:,} bytes", reply.status)
            return _Reply(reply.status, reply.headers, b"".join(parts).decode(errors="replace"))

    async def _tried(self, send: Callable[[Server], Awaitable[T]]) -> T:
        """What `send` returns, by one server or another."""
        begun, failures = 0.0, 0
        server: Server | None = None
        while True:
            async with self._balance.turn(failed=server) as server:
                sent = time.monotonic()
                begun = begun or sent
                self._watch(sent)
                try:
                    answer = await self._in_time(send(server))
                except Fault as caught:
                    fault = caught
                    if fault.server_wide:
                        server.troubled(sent, fault.pause, self.patience.first_pause)
                except RequestFailed:
                    self._heard()
                    server.answered()
                    raise
                except (ServerLost, UserError) as error:
                    self._balance.stop(error)
                    raise
                else:
                    self._heard()
                    self._answered_at, self._in_vain = self._heard_at, 0
                    server.answered()
                    return answer
            if fault.status is not None:
                self._heard()
            # Overload ends by itself, and of a server that can't be reached others take over.
            if not fault.overload and not (fault.server_wide and self._balance.any_is_well):
                failures += 1
            pause = self._balance.pause if fault.server_wide else self._pause(failures)
            if pause > self.patience.longest_pause:
                raise self._lost(f"{server.host} {fault} and asks for {pause:,.0f} s: start again after that")
            if failures >= self.patience.attempts or time.monotonic() + pause > begun + self.patience.total:
                told = f"{server.host} {fault}, as before for {time.monotonic() - begun:,.0f} s"
                if fault.server_wide and self._answered_at < sent and not self._balance.any_is_well:
                    raise self._lost(f"{told}: check the server and start again")
                raise self._given_up(RequestFailed(f"{told}: check the server and start again", fault.status))
            # What concerns the whole server is waited for in line, where another server may be free before.
            await asyncio.sleep(0.0 if fault.server_wide else pause)

    async def _in_time(self, answer: Awaitable[T]) -> T:
        """The answer, if it comes in the time that a server has; else Fault."""
        import aiohttp

        try:
            async with asyncio.timeout(self.patience.answer):
                return await answer
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            raise Fault(f"can't be reached ({_named(error)})", server_wide=True) from None
        except TimeoutError:
            raise Fault(f"gave no answer in {self.patience.answer:.0f} s", server_wide=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Fault(f"broke off ({_named(error)})") from None

    def _pause(self, failures: int) -> float:
        return self.patience.first_pause * 2 ** (failures - 1) * random.uniform(0.75, 1.0)

    def _given_up(self, error: RequestFailed) -> RequestFailed | ServerLost:
        """One request is given up; all are after many in a row."""
        self._in_vain += 1
        if self._in_vain < self.patience.hopeless:
            return error
        return self._lost(f"{self.patience.hopeless} requests in a row got no answer, the last: {error}")

    def _lost(self, reason: str) -> ServerLost:
        error = ServerLost(reason)
        self._balance.stop(error)
        return error

    def _heard(self) -> None:
        self._heard_at, self._notices = time.monotonic(), 0

    def _watch(self, now: float) -> None:
        """A request was sent: see to it that a long silence is told."""
        if self._balance.in_flight == 1:
            self._heard_at, self._notices = now, 0
        if not self._watched:
            self._watched = True
            asyncio.get_running_loop().call_later(self.patience.notice, self._tell_silence)

    def _tell_silence(self) -> None:
        waiting = self._balance.in_flight
        if not waiting:
            self._watched = False
            return
        silent = time.monotonic() - self._heard_at
        if silent >= self.patience.notice * 2**self._notices:
            self._notices += 1
            requests = f"{waiting:,} request{'s' * (waiting > 1)}"
            print(
                f"No answer from {self.hosts} for {silent:.0f} s; {requests} in flight, each for at most "
                f"{self.patience.answer:.0f} s",
                file=sys.stderr,
            )
        due = self.patience.notice * 2**self._notices - (time.monotonic() - self._heard_at)
        asyncio.get_running_loop().call_later(max(due, 0.01), self._tell_silence)

    def _key(self) -> str:
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key and self.official:
            raise UserError(
                f"openai:{self.model} needs a server or a key: set OPENAI_BASE_URL (--base-url) or OPENAI_API_KEY"
            )
        if not (key.isascii() and key.isprintable()):
            raise UserError("OPENAI_API_KEY has characters that no key has: copy it once more")
        return key or "none"


def base_urls(stated: str | Sequence[str] | None) -> list[str]:
    """The URLs that were stated, else OPENAI_BASE_URL, else OpenAI's own; each once and without a slash at its end."""
    stated = stated or os.environ.get("OPENAI_BASE_URL") or f"https://{OFFICIAL}/v1"
    entries = [stated] if isinstance(stated, str) else stated
    urls = [url.strip().rstrip("/") for entry in entries for url in entry.split(",")]
    for url in urls:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise UserError(f"base URL {clean(url)!r}: not a server's URL; write one such as http://localhost:8000/v1")
    return list(dict.fromkeys(urls))


def _named(error: Exception) -> str:
    return clean(str(error)) or type(error).__name__
