"""The two ways in which a command ends early, and the length of what they quote."""


class UserError(Exception):
    """Wrong use or bad input: one sentence with the value, the place and the remedy. Exit status 2."""


class StepFailed(Exception):
    """A step that was used correctly but could not finish. Exit status 1."""


def shorten(text: str, width: int = 60) -> str:
    """At most `width` characters, for error messages."""
    return text if len(text) <= width else text[: width - 1] + "…"
