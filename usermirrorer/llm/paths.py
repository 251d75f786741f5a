"""Where a model's files are, what they say of its training, and their digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from usermirrorer.errors import UserError
from usermirrorer.records import read_record


WHOLE_FILE_BYTES, TAIL_BYTES = 64_000_000, 1_000_000

RECORD = "usermirrorer.json"
"""What a model that was trained here says of itself."""

TINY_BASE = Path(__file__).parent.parent / "tiny_base"


def model_path(name: str) -> str:
    """What to load for a model's name: the packaged directory for `tiny-base`, else the directory or Hub id as given.

    Raises UserError if the name can only be a path (it starts with `.`, `/` or `~`, or has two slashes) and that path
    does not exist.
    """
    if name == "tiny-base":
        name = str(TINY_BASE)
    path = Path(name).expanduser()
    if path.exists():
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"There is no model at '{name}': give a directory that exists, a Hub id or tiny-base")
    return name


def model_directory(spec: str) -> Path | None:
    """The directory of a model that runs here, with or without `vllm:` or `transformers:`; None for any other."""
    if spec.startswith(("openai:", "scripted:")):
        return None
    path = Path(model_path(spec.removeprefix("vllm:").removeprefix("transformers:")))
    return path if path.is_dir() else None


def training_record(spec: str) -> dict[str, Any] | None:
    """What `usermirrorer.json` says of a model that was trained here: its prompt, its bases; None without one.

    Raises UserError if it is damaged.
    """
    directory = model_directory(spec)
    return record_in(directory) if directory else None


def record_in(directory: Path) -> dict[str, Any] | None:
    """The same, of the model in a directory."""
    path = directory / RECORD
    if not os.path.lexists(path):
        return None
    record = read_record(path, "copy the model's directory again")
    bases, data, prompt = record.get("bases", []), record.get("data") or {}, record.get("prompt")
    named = isinstance(bases, list) and all(isinstance(base, str) for base in bases)
    if not (named and isinstance(data, dict) and isinstance(prompt, str | None)) or (
        not isinstance(data.get("evidence"), bool | None)
    ):
        raise UserError(f"{path} is not a model's record; copy the model's directory again")
    return record


def model_digest(spec: str) -> str:
    """Digest (16 hex digits) of the files of a model that runs here, '' for any other: a retrained one is another.

    Of a file over 64 MB only the size and the last megabyte count.
    """
    directory = model_directory(spec)
    if directory is None:
        return ""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(entry for entry in directory.iterdir() if entry.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}\x1f{size}\x1f".encode())
        with open(path, "rb") as file:
            file.seek(0 if size <= WHOLE_FILE_BYTES else size - TAIL_BYTES)
            digest.update(file.read())
    return digest.hexdigest()
