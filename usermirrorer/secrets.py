"""What counts as a secret, for everything that is written down or published: logs, manifests, cards, wandb."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any


_NAME = re.compile(
    r"token(?!s|i[sz])|secret|passw|passphrase|_pwd$|credential|api_?key|(^|_)key(_|$)|connection_string|(^|_)dsn$",
    re.IGNORECASE,
)
_PUBLIC = {"eos_token", "pad_token"}  # settings with "token" in their names that hold no secret
_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
_TOKEN = re.compile(r"(?<![A-Za-z0-9])(hf_[A-Za-z0-9]{30}|sk-[\w-]{20}|gh[pousr]_[A-Za-z0-9]{36})")
_SHORTEST = 8
"""Characters: a shorter value would match ordinary text."""


def is_secret(name: str) -> bool:
    """Whether a setting or environment variable of this name holds a token, key or password."""
    return bool(_NAME.search(name)) and name not in _PUBLIC


def redact(value: Any) -> Any:
    """The same value without secret settings, with *** for secrets of the environment and of URLs in its texts."""
    if isinstance(value, Mapping):
        return {key: redact(item) for key, item in value.items() if not is_secret(str(key))}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    if isinstance(value, str):
        for secret in _environment().values():
            value = value.replace(secret, "***")
        value = without_passwords(value)
    return value


def without_passwords(text: str) -> str:
    """The text with *** for the password of every URL."""
    return _PASSWORD.sub(r"\1:***@", text)


def leaked_variable(text: str) -> str | None:
    """The environment variable whose secret value appears in the text, if any."""
    return next((name for name, secret in _environment().items() if secret in text), None)


def leak(text: str) -> str | None:
    """The first secret in a text, in words: a variable's value, a token or the password of a URL."""
    if name := leaked_variable(text):
        return f"the value of {name}"
    if found := _TOKEN.search(text):
        return f"a token ({found[1][:5]}…)"
    return "the password of a URL" if _PASSWORD.search(text) else None


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if is_secret(name) and len(value) >= _SHORTEST}
