"""The two ways in which a command ends early."""


class UserError(Exception):
    """Wrong use or bad input: one sentence with the value, the place and the remedy. Exit status 2."""


class StepFailed(Exception):
    """A step that was used correctly but could not finish. Exit status 1."""
