"""Small JSON files that one command writes and another reads: sealed with their own digest, so that damage shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usermirrorer.errors import UserError


DIGEST = "digest"
"""Key of the digest of all other keys and their values."""


def sealed(record: Mapping[str, Any]) -> bytes:
    """A record as JSON, its digest at its end."""
    plain: dict[str, Any] = json.loads(json.dumps(record, ensure_ascii=False, default=str))
    return (json.dumps({**plain, DIGEST: _digest(plain)}, indent=1, ensure_ascii=False) + "\n").encode()


def read_record(path: Path, remedy: str) -> dict[str, Any]:
    """The record in a file, without its digest; other people's files need not have one.

    Raises UserError, with the `remedy`, for a file that can't be read or is no JSON object, and for a sealed record
    that has changed since.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it is not an object")
        digest = record.pop(DIGEST, None)
        now = _digest(record)
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}); {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON of ours ({error}); {remedy}") from None
    if digest is not None and digest != now:
        raise UserError(f"{path} is not as it was written (changed or damaged); {remedy}")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    """16 hex digits."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
