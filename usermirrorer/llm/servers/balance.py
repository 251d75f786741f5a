"""Which server gets the next request, and when: as many at a time as each takes, none while it wants a pause.

A server that refuses (429, 503), does not answer in time or can't be reached gets half as many requests at a time,
after a pause first one alone; every round of answers adds one, up to the most that were allowed. Others go on
meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit


STOPPED_SECONDS = 5.0
"""How long nothing is sent after `Balance.stop`: all that is in hand fails at once, and a later call tries anew."""


@dataclass
class Server:
    """One base URL, and what its answers so far say of it."""

    url: str
    most: int
    """Requests at a time that are allowed"""
    room: float
    """Requests at a time that it seems to take"""
    in_flight: int = 0
    troubles: int = 0
    """Troubles since its last answer"""
    troubled_at: float = 0.0
    ready_at: float = 0.0
    """When its pause ends, in seconds of `time.monotonic`"""

    @property
    def host(self) -> str:
        # A URL may carry a user and a password.
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def has_room(self) -> bool:
        return self.in_flight < (1 if self.troubles else int(self.room))

    def answered(self) -> None:
        self.troubles = 0
        self.room = min(self.most, self.room + 1 / self.room)

    def troubled(self, sent: float, pause: float | None, first_pause: float) -> None:
        """A request that was `sent` then came to nothing: wait for `pause` seconds, or for longer each time."""
        now = time.monotonic()
        # Requests that were already under way at the last trouble are part of it.
        if sent >= self.troubled_at:
            self.troubles += 1
            self.troubled_at = now
            self.room = max(1.0, self.room / 2)
        if pause is None:
            pause = first_pause * 2 ** min(self.troubles - 1, 6)
        self.ready_at = max(self.ready_at, now + pause)


class Balance:
    """Hands every request a server. For use in one event loop."""

    def __init__(self, urls: Sequence[str], most: int) -> None:
        self.servers = [Server(url, most, most) for url in urls]
        # Those who wait, each with the server that it would rather not have.
        self._line: deque[tuple[asyncio.Future[Server], Server | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped: Exception | None = None
        self._stopped_until = 0.0

    @property
    def in_flight(self) -> int:
        """Requests that wait for an answer now."""
        return sum(server.in_flight for server in self.servers)

    @property
    def pause(self) -> float:
        """Seconds until the first server is ready, 0 if one is."""
        return max(0.0, min(server.ready_at for server in self.servers) - time.monotonic())

    @property
    def any_is_well(self) -> bool:
        """Whether a server has no trouble."""
        return any(not server.troubles for server in self.servers)

    def stop(self, error: Exception) -> None:
        """Raise `error` for all that wait, and for all that come in the next seconds or before a server is ready."""
        self._stopped, self._stopped_until = error, time.monotonic() + max(STOPPED_SECONDS, self.pause)
        while self._line:
            waiting, _ = self._line.popleft()
            if not waiting.done():
                waiting.set_exception(error)

    @asynccontextmanager
    async def turn(self, failed: Server | None = None) -> AsyncIterator[Server]:
        """The least busy server, once one has room.

        A request that has `failed` at a server goes before the others, and to another server if it can.
        """
        if self._stopped is not None and time.monotonic() < self._stopped_until:
            raise self._stopped
        waiting: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        (self._line.appendleft if failed else self._line.append)((waiting, failed))
        self._hand_out()
        try:
            server = await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._release(waiting.result())
            raise
        try:
            yield server
        finally:
            self._release(server)

    def _release(self, server: Server) -> None:
        server.in_flight -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        """Give servers with room to those who wait; come back when the next pause ends."""
        while self._line:
            now = time.monotonic()
            ready = [server for server in self.servers if server.ready_at <= now and server.has_room]
            if not ready:
                break
            waiting, failed = self._line.popleft()
            if not waiting.done():
                server = min(ready, key=lambda server: (server is failed, server.in_flight))
                server.in_flight += 1
                waiting.set_result(server)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        paused = [server.ready_at for server in self.servers if server.ready_at > time.monotonic()]
        if self._line and paused:
            # A hair later, so that the pause is over by the clock that is then read.
            delay = min(paused) - time.monotonic() + 0.001
            self._timer = asyncio.get_running_loop().call_later(delay, self._hand_out)
