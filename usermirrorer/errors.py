"""The two ways in which a command ends early, what is told of others, the nearest of the right names, and quotes."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


LONGEST = 1000
"""Characters of a message."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""No room is left, or the disk fails: what was asked for is right."""


class _Told(Exception):
    """An error whose message is what a person is told: on one line, whatever file it quotes."""

    def __init__(self, sentence: str) -> None:
        letters = (
            one if one.isprintable() else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in sentence
        )
        super().__init__(shorten("".join(letters), LONGEST))


class UserError(_Told):
    """Wrong use or bad input: one sentence with the value, the place and the remedy. Exit status 2."""


class StepFailed(_Told):
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


def told(error: Exception) -> UserError | StepFailed | None:
    """What a person is told, at the edge of a command, of an error of the system or of a file's reader.

    None for any other error: a mistake of this package, whose traceback is wanted.
    """
    if isinstance(error, UserError | StepFailed):
        return error
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        if error.errno in _FULL:
            return StepFailed(f"{place}{error.strerror}; make room and run the command again")
        return UserError(f"{place}{error.strerror}; pass a path that can be read and written")
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's word for ELOOP
        return UserError(f"{error}; pass a path that can be read and written")
    if type(error) is OSError or type(error).__module__.partition(".")[0] in ("pyarrow", "polars"):
        reason = shorten(" ".join(str(error).split()), 300)
        return UserError(f"a file can't be read ({reason}); `usermirrorer validate` says which is damaged")
    return None
