"""Files sent to the Hub in one commit. A lost connection is tried again; a refusal is explained in one sentence."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from usermirrorer.console import say
from usermirrorer.console.tables import show_table
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.wording import format_bytes


ATTEMPTS = 4
WAIT_SECONDS = 1.0
"""Before the second attempt; each later wait is twice as long."""

Files = Mapping[str, Path | bytes]
"""Name in the repository -> the file, or its content."""


def check_repo_id(repo_id: str, what: str) -> None:
    """Raise UserError unless `repo_id` can name a repository; `what` says what it holds."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo_id):
        raise UserError(f"{repo_id} is not the name of a {what}: write OWNER/NAME")


def token_of(variable: str) -> str | None:
    """The token in an environment variable; None for HF_TOKEN unset, when the Hub's client has its own.

    Raises UserError if any other variable is not set.
    """
    token = os.environ.get(variable) or None
    if token is None and variable != "HF_TOKEN":
        raise UserError(f"--token-env {variable}: this environment variable is not set; set it or use HF_TOKEN")
    return token


def sizes(files: Files) -> dict[str, int]:
    """Bytes of each file."""
    return {name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in files.items()}


def show_files(files: Files, repo_id: str) -> None:
    """Print what a dry run would send."""
    found = sizes(files)
    rows = [(name, format_bytes(size)) for name, size in found.items()]
    show_table(
        ("", "size"), [*rows, None, ("all", format_bytes(sum(found.values())))], title=f"Would be sent to {repo_id}"
    )


def send(
    files: Files,
    repo_id: str,
    kind: Literal["dataset", "model"],
    private: bool,
    token: str | None,
    is_ours: Callable[[str], bool],
) -> str:
    """Send the files in one commit, which also deletes those that `is_ours` knows and `files` lacks; returns the URL.

    Raises StepFailed if the Hub refuses, if it can't be reached in `ATTEMPTS` attempts, or if the repository is
    public and should be `private`. The repository is then as it was.
    """
    import httpx

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _commit(files, repo_id, kind, private, token, is_ours)
        except (httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
            if attempt == ATTEMPTS or not _passes(error):
                raise StepFailed(f"{repo_id} could not be published: {_explained(error, repo_id)}") from None
            wait = WAIT_SECONDS * 2 ** (attempt - 1)
            say(f"  {_short(error)}; attempt {attempt + 1} of {ATTEMPTS} in {wait:g} s")
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _commit(
    files: Files,
    repo_id: str,
    kind: Literal["dataset", "model"],
    private: bool,
    token: str | None,
    is_ours: Callable[[str], bool],
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token)
    url = api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True)
    if private and not api.repo_info(repo_id, repo_type=kind).private:
        raise StepFailed(f"{repo_id} already exists and is public, so nothing was sent; name another")
    present = api.list_repo_files(repo_id, repo_type=kind)
    stale = [name for name in present if is_ours(name) and name not in files]
    changes: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in stale]
    changes += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
    api.create_commit(repo_id, changes, repo_type=kind, commit_message="Published by usermirrorer")
    return str(url)


def _status(error: Exception) -> int | None:
    """The HTTP status that an error of the Hub's client comes from, if any."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _passes(error: Exception) -> bool:
    """Whether the next attempt may succeed."""
    import httpx

    status = _status(error)
    return isinstance(error, httpx.TransportError) or (status is not None and (status == 429 or status >= 500))


def _explained(error: Exception, repo_id: str) -> str:
    """Why nothing was published, and what to do."""
    import httpx
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = _status(error)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it and push again"
    if isinstance(error, httpx.TransportError):
        return (
            f"no connection to {constants.ENDPOINT} in {ATTEMPTS} attempts ({_short(error)}); check the network, or "
            "HF_ENDPOINT, and push again"
        )
    if status == 401:
        return (
            "the Hub knows no such token (401); set HF_TOKEN, or the variable of --token-env, to one that may write, "
            "or run `hf auth login`"
        )
    if status == 403:
        return f"the token may not write to {repo_id.partition('/')[0]} (403); use one that may, or another owner"
    return f"{_short(error)}; push again"


def _short(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
