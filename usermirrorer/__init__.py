"""Simulated users: language models that see a profile, a history and a list of items, think, and pick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from usermirrorer.errors import StepFailed, UserError
    from usermirrorer.simulate.choice import Choice
    from usermirrorer.simulate.outside import Person
    from usermirrorer.simulate.requests import Request
    from usermirrorer.simulate.simulator import Simulator

__all__ = ["Choice", "Person", "Request", "Simulator", "StepFailed", "UserError", "__version__"]
__version__ = "0.1.0"

_HOMES = {
    "Choice": "usermirrorer.simulate.choice",
    "Person": "usermirrorer.simulate.outside",
    "Request": "usermirrorer.simulate.requests",
    "Simulator": "usermirrorer.simulate.simulator",
    "StepFailed": "usermirrorer.errors",
    "UserError": "usermirrorer.errors",
}


def __getattr__(name: str) -> Any:
    # Deferred, so that `import usermirrorer` and `usermirrorer --help` stay fast.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'usermirrorer' has no attribute {name!r}")
