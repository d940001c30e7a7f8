"""Errors that end a rehearsal with one line and an exit code."""


class UserError(Exception):
    """An error that the user can fix: one line on stderr, exit code 2, nothing created."""

    exit_code = 2


class RehearsalError(Exception):
    """A failure during a run: its text on stderr, exit code 1; the state stays usable."""

    exit_code = 1
