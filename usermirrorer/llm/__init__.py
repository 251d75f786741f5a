"""The only package that talks to a language model: vLLM or transformers in process, a server, scripted writers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from importlib.util import find_spec

from usermirrorer.errors import UserError, closest
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.steps import MODEL_FORMS, EngineSettings


KINDS = ("vllm", "transformers", "openai", "scripted")


def load_model(
    spec: str,
    *,
    base_url: str | Sequence[str] | None = None,
    concurrency: int | None = None,
    engine: EngineSettings | None = None,
) -> LanguageModel:
    """The model of a SPEC: one of `MODEL_FORMS`, with `openai:MODEL` at `base_url` or OPENAI_BASE_URL.

    Servers at several URLs share the work; at most `concurrency` requests are in flight at each. `engine` says how a
    model runs that runs here; transformers knows no more than its `dtype` and `max_model_len`.
    `vllm:MODEL` runs under transformers, and says so, where vLLM is not installed. Loads nothing until the first
    request. Raises UserError if `spec` has another form.
    """
    kind, _, name = spec.partition(":")
    if not name or kind not in KINDS:
        nearest = closest(kind, KINDS, "") if name else ""
        raise UserError("; ".join(filter(None, [f"'{spec}' is not a model: write {MODEL_FORMS}", nearest])))
    for option, given in (("--base-url", base_url), ("--concurrency", concurrency)):
        if given not in (None, []) and kind != "openai":
            raise UserError(f"{option} is for openai:MODEL, not for '{spec}': leave it out or name the server's model")
    engine = engine or EngineSettings()
    engine.check()
    if kind == "vllm" and _has_vllm():
        from usermirrorer.llm.engines.vllm import VLLMModel

        return VLLMModel(name, engine)
    known = ("dtype", "max_model_len") if kind in ("vllm", "transformers") else ()
    for field in fields(engine):
        if field.name not in known and getattr(engine, field.name) != field.default:
            option = f"--{field.name.replace('_', '-')}"
            raise UserError(f"{option} is for vllm:MODEL, not for '{spec}': leave it out")
    if kind in ("vllm", "transformers"):
        from usermirrorer.llm.engines.transformers import TransformersModel

        return TransformersModel(name, engine)
    if kind == "openai":
        from usermirrorer.llm.servers.openai import OpenAIModel

        return OpenAIModel(name, base_url=base_url, concurrency=concurrency)
    from usermirrorer.llm.scripted import load_scripted

    return load_scripted(name)


def as_spec(model: str) -> str:
    """The SPEC of a model that may be given as a directory or Hub id, which then runs on this machine."""
    return model if model.startswith(tuple(f"{kind}:" for kind in KINDS)) else f"vllm:{model}"


@cache
def _has_vllm() -> bool:
    """Whether vLLM is installed; says once what is used in its place."""
    found = find_spec("vllm") is not None
    if not found:
        print("vLLM is not installed: models run under transformers", file=sys.stderr)
    return found
