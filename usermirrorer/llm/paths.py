"""Where a model's files are, and their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from usermirrorer.errors import UserError


WHOLE_FILE_BYTES, TAIL_BYTES = 64_000_000, 1_000_000

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


def model_digest(spec: str) -> str:
    """Digest (16 hex digits) of a local `vllm:` model's files, '' for any other: a retrained model is another model.

    Of a file over 64 MB only the size and the last megabyte count.
    """
    kind, _, name = spec.partition(":")
    if kind != "vllm" or not Path(model_path(name)).is_dir():
        return ""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(entry for entry in Path(model_path(name)).iterdir() if entry.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}\x1f{size}\x1f".encode())
        with open(path, "rb") as file:
            file.seek(0 if size <= WHOLE_FILE_BYTES else size - TAIL_BYTES)
            digest.update(file.read())
    return digest.hexdigest()
