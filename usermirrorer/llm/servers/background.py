"""One event loop in a thread of its own and one HTTP client in it, for all requests of this process to servers.

A notebook already runs an event loop in its own thread, and a client that stays keeps its connections open.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar


if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

Ask = Callable[[], Coroutine[Any, Any, T]]
"""Asks for something when it is run in the background."""

CONNECT_SECONDS = 10.0
"""A server that does not accept a connection within this time is as good as gone."""

KEPT_SECONDS = 4.0
"""How long an idle connection is kept: shorter than servers do, so that none breaks off as a request is sent."""


def start(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Run `work` in the background. Cancelling the future drops the connection on which it waits."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


def wait(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; interrupted, it is dropped."""
    future = start(work)
    try:
        return future.result()
    finally:
        future.cancel()


@cache
def client() -> aiohttp.ClientSession:
    """The one client; only for use in the background. How long to wait for an answer is up to the caller."""
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        trust_env=True,
    )


@cache
def _loop() -> asyncio.AbstractEventLoop:
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        stopped = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stopped))
        await stopped.wait()
        unanswered = asyncio.all_tasks() - {asyncio.current_task()}
        for task in unanswered:
            task.cancel()
        await asyncio.gather(*unanswered, return_exceptions=True)
        if client.cache_info().currsize:
            await client().close()

    def serve() -> None:
        # `asyncio.run` ends by starting a thread, which CPython 3.12 refuses once the interpreter is ending.
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(run())
        finally:
            loop.close()

    # A daemon: what a command leaves unanswered must not keep it from ending.
    thread = threading.Thread(target=serve, name="requests to servers", daemon=True)
    thread.start()
    loop, stopped = started.result()

    def stop() -> None:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(timeout=1)

    atexit.register(stop)
    return loop
