"""The only package that talks to a language model: vLLM in process, an OpenAI-compatible server, scripted writers."""

from __future__ import annotations

import hashlib
from pathlib import Path

from usermirrorer.errors import UserError
from usermirrorer.llm.protocol import LanguageModel


WHOLE_FILE_BYTES, TAIL_BYTES = 64_000_000, 1_000_000

TINY_BASE = Path(__file__).parent.parent / "tiny_base"


def load_model(spec: str, *, base_url: str | None = None) -> LanguageModel:
    """The model of a SPEC: `vllm:MODEL`, `openai:MODEL` (at `base_url` or OPENAI_BASE_URL) or `scripted:NAME`.

    Loads nothing until the first request. Raises UserError if `spec` has another form.
    """
    kind, _, name = spec.partition(":")
    if not name or kind not in ("vllm", "openai", "scripted"):
        raise UserError(f"'{spec}' is not a model: write vllm:MODEL, openai:MODEL or scripted:NAME")
    if base_url is not None and kind != "openai":
        raise UserError(f"--base-url is for openai:MODEL, not for '{spec}': leave it out or name the server's model")
    if kind == "vllm":
        from usermirrorer.llm.vllm import VLLMModel

        return VLLMModel(name)
    if kind == "openai":
        from usermirrorer.llm.openai import OpenAIModel

        return OpenAIModel(name, base_url=base_url)
    from usermirrorer.llm.scripted import load_scripted

    return load_scripted(name)


def as_spec(model: str) -> str:
    """The SPEC of a model that may be given as a directory or Hub id, which vLLM then serves."""
    return model if model.startswith(("vllm:", "openai:", "scripted:")) else f"vllm:{model}"


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
