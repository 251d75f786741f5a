"""Which keys are at hand, never what they are, and where models and data come from."""

from __future__ import annotations

import netrc
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from usermirrorer.secrets import redact


USES = {
    "HF_TOKEN": "gated models such as Llama, and `usermirrorer push`",
    "WANDB_API_KEY": "report_to: wandb, unless WANDB_MODE=offline",
    "OPENAI_API_KEY": "openai:MODEL, if the server asks for a key",
}
"""Keys -> what asks for them."""

SETTINGS = ("WANDB_MODE", "OPENAI_BASE_URL")
"""Environment variables that say which servers are asked, beside those of the Hub."""

WANDB_HOST = "api.wandb.ai"


def keys() -> dict[str, str | None]:
    """Where each key was found, None if it is not set."""
    from huggingface_hub import get_token

    found = {name: "in the environment" if os.environ.get(name) else None for name in USES}
    if found["HF_TOKEN"] is None and get_token():
        found["HF_TOKEN"] = "saved by `hf auth login`"
    if found["WANDB_API_KEY"] is None:
        with suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc().authenticators(WANDB_HOST):
                found["WANDB_API_KEY"] = "saved by `wandb login`"
    return found


def settings() -> dict[str, str]:
    """Those of SETTINGS that are set, without passwords."""
    return {name: redact(os.environ[name]) for name in SETTINGS if os.environ.get(name)}


def hub() -> dict[str, Any]:
    """Whether the Hub may be asked, at which address, and where its files are kept."""
    from huggingface_hub import constants

    endpoint = redact(constants.ENDPOINT)
    return {"offline": constants.is_offline_mode(), "endpoint": endpoint, "cache": Path(constants.HF_HUB_CACHE)}
