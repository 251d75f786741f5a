"""What it means that a server does not answer: whether another attempt may fare better, and one sentence on it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from math import isfinite

from usermirrorer.errors import StepFailed, UserError, shorten
from usermirrorer.secrets import without_passwords


OVERLOADED = (429, 503, 529)

PASSING = (408, 409, 425)
"""Refusals, besides 5xx, that another attempt may not meet."""

NO_CREDIT = "insufficient_quota"
"""How OpenAI's 429 for an empty account differs from that for too many requests."""


class RequestFailed(StepFailed):
    """One request got no answer. `status` is that of the server's last reply, None if none came."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ServerLost(StepFailed):
    """No request can be answered at present."""


class Fault(Exception):
    """An attempt came to nothing; another may not.

    `server_wide` says that other requests would have fared the same. `pause` is what the server asks for, in seconds.
    """

    def __init__(
        self, reason: str, status: int | None = None, server_wide: bool = False, pause: float | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.server_wide = server_wide
        self.pause = pause

    @property
    def overload(self) -> bool:
        return self.status in OVERLOADED


def check_status(status: int, headers: Mapping[str, str], text: str, host: str, model: str, optional: bool) -> None:
    """Raise what a reply other than 2xx means; see `Servers.ask`."""
    if 200 <= status < 300:
        return
    told = explanation(text)
    if status in (401, 403):
        raise UserError(f"The server at {host} refuses the key ({status}): set OPENAI_API_KEY")
    if status == 402 or NO_CREDIT in text:
        raise ServerLost(f"{host} wants payment ({status}{told}): pay or use another key, then start again")
    if status in OVERLOADED:
        raise Fault(f"refuses requests ({status}{told})", status, server_wide=True, pause=retry_after(headers))
    if status in PASSING or status >= 500 and status != 501:
        raise Fault(f"failed ({status}{told})", status)
    if status == 404 and not optional:
        raise UserError(f"The server at {host} has no '{model}' (404): check --base-url and the model")
    raise RequestFailed(f"{host} refuses a request ({status}{told}): change what it names", status)


def explanation(text: str) -> str:
    """`: ` and the words of a refusal, empty if it has none."""
    told: object = text
    with suppress(ValueError):
        told = json.loads(text)
    for key in ("error", "message", "detail"):
        if isinstance(told, dict) and told.get(key):
            told = told[key]
    return f": {clean(str(told))}" if told else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, None if it does not say: `retry-after-ms`, or `Retry-After` as RFC 9110."""
    with suppress(ValueError):
        return _seconds(float(headers.get("retry-after-ms", "")) / 1000)
    stated = headers.get("retry-after", "")
    with suppress(ValueError):
        return _seconds(float(stated))
    with suppress(ValueError, TypeError, OverflowError):
        return _seconds(parsedate_to_datetime(stated).timestamp() - time.time())
    return None


def _seconds(stated: float) -> float:
    if not isfinite(stated):
        raise ValueError(f"{stated} seconds")
    return max(0.0, stated)


def clean(text: str) -> str:
    """A server's words on one line of at most 200 characters, without control characters, key and passwords."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    text = text.replace(key, "***") if key else text
    text = without_passwords(" ".join(text.split()))
    return shorten("".join(character for character in text if character.isprintable()), 200)
