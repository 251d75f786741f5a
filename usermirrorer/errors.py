"""The two ways in which a command ends early, the nearest of the right names, and the length of what is quoted."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong use or bad input: one sentence with the value, the place and the remedy. Exit status 2."""


class StepFailed(Exception):
    """A step that was used correctly but could not finish. Exit status 1."""


def closest(name: str, known: Iterable[str], otherwise: str) -> str:
    """The remedy for an unknown name: `did you mean NEAREST?`, or `otherwise` if nothing comes near."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not `known`: the names there are, and the nearest. `what` says where it stands."""
    names = list(known)
    choose = f"choose {' or '.join(names) if len(names) < 3 else 'one of ' + ', '.join(names)}"
    return UserError("; ".join(filter(None, [f"{what} {name!r}: {choose}", closest(name, names, "")])))


def shorten(text: str, width: int = 60) -> str:
    """At most `width` characters, for error messages."""
    return text if len(text) <= width else text[: width - 1] + "…"
