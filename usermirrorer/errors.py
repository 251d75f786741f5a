"""The two ways in which a command ends early."""


class UserError(Exception):
    """Wrong use or bad input: one sentence with the value, the place and the way out. Exit status 2."""


class StepFailed(Exception):
    """A step that could not be finished although it was asked for rightly. Exit status 1."""
