"""Errors that end a rehearsal with one line and an exit code."""


class UserError(Exception):
    """Something the user can put right: one line on stderr, exit code 2, nothing created."""

    exit_code = 2


class RehearsalError(Exception):
    """Something that failed on the way: its text on stderr, exit code 1, the state stays usable."""

    exit_code = 1
