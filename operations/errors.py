"""Errors that end a day-to-day command with one line and an exit code."""


class UserError(Exception):
    """An error that the user can fix: exit code 2."""

    exit_code = 2


class OperationError(Exception):
    """A failure of a command that has begun: exit code 1."""

    exit_code = 1
