"""Simulated users: language models that see a profile, a history and a list of items, think, and pick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from usermirrorer.simulate.simulator import Simulator

__all__ = ["Simulator", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Deferred, so that `import usermirrorer` and `usermirrorer --help` stay fast.
    if name == "Simulator":
        from usermirrorer.simulate.simulator import Simulator

        return Simulator
    raise AttributeError(f"module 'usermirrorer' has no attribute {name!r}")
