"""Which entries of the logs a user asks for."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from operations.errors import UserError
from schema.base import printable

# The lines of each log that are shown if no time is given.
LINES = 40
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Choice:
    """since: seconds since 1970. lines: of each log, None for all since then. statuses: such as 404 or 5xx."""

    site: str | None = None
    process: str | None = None
    grep: str | None = None
    statuses: tuple[str, ...] = ()
    since: float | None = None
    lines: int | None = LINES
    follow: bool = False

    @property
    def request(self) -> dict[str, Any]:
        """What the reader on a server is asked for."""
        return {**vars(self)}


def parse_since(text: str, now: datetime) -> float:
    """Seconds since 1970 of a time such as 10m, or one of ISO 8601, which is local without an offset.

    Raises UserError.
    """
    allowed = "allowed: 30s, 10m, 2h, 3d, or a time such as 2026-01-31T08:30 (local) or 2026-01-31T08:30+08:00"
    try:
        if ago := re.fullmatch(r"(\d{1,6})([smhdw])", text):
            return (now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UserError(f"--since {printable(text)}: no time; {allowed}") from None


def statuses(text: str) -> tuple[str, ...]:
    """Statuses of HTTP, such as 404,5xx. Raises UserError."""
    found = tuple(each.strip().lower() for each in text.split(","))
    if not all(re.fullmatch(r"[1-5](xx|\d\d)", each) for each in found):
        raise UserError(f"--status {printable(text)}: allowed: statuses such as 404 or 5xx, with commas between them")
    return found


def check_pattern(text: str) -> None:
    """Raise UserError for what is no regular expression."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"--grep {printable(text)}: {error}; allowed: a regular expression of Python") from None


def check_process(text: str) -> None:
    """Raise UserError for what cannot be the name of a process."""
    if not re.fullmatch("[A-Za-z0-9_-]+", text):
        raise UserError(f"--process {printable(text)}: allowed: a name of processes in the stack's settings")


def choice_of(
    follow: bool,
    since: str | None,
    lines: int | None,
    site: str | None,
    process: str | None,
    grep: str | None,
    status: str | None,
) -> Choice:
    """The choice that a command line makes. Raises UserError."""
    if grep is not None:
        check_pattern(grep)
    if process is not None:
        check_process(process)
    if since is not None and lines is not None:
        raise UserError("--lines with --since; allowed: one of them")
    start = parse_since(since, datetime.now()) if since is not None else None
    number = lines or (LINES if start is None else None)
    return Choice(site, process, grep, statuses(status) if status is not None else (), start, number, follow)
