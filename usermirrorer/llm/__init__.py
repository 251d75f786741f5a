"""The only package that talks to a language model: vLLM in process, an OpenAI-compatible server, scripted writers."""

from __future__ import annotations

from usermirrorer.errors import UserError
from usermirrorer.llm.protocol import LanguageModel


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
