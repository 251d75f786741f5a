"""Libraries that only some settings need: the package's extras."""

from __future__ import annotations

import importlib.util

from usermirrorer.errors import UserError


def need(module: str, extra: str, what: str) -> None:
    """Check that a library is installed. Raises UserError if not: `what` needs it, and `extra` installs it."""
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{what} needs {module}, which is not installed: pip install 'usermirrorer[{extra}]'")
