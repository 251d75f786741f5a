"""What libraries say of themselves while they load: silenced at its source, unless --verbose asks for it."""

from __future__ import annotations

import logging
import os

from usermirrorer.console import verbose


ENVIRONMENT = {
    # Which memory nodes the CPU engine is bound to; what errors say is kept.
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""Read when the libraries are imported, so to be set before; what the user has set stays."""

LOGGERS = ("torch._library.triton",)
"""Loggers that warn of what a machine without a GPU lacks."""


def quiet_libraries() -> None:
    """Silence the libraries, in this process and those that it starts. Call it before they are imported."""
    if verbose():
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
