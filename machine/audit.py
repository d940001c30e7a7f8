"""The audit log of this machine: a JSON line for each run that changes something or wanted to.

{"when": "2026-01-31T12:00:00Z", "what": "apply", "site": "app", "release": "0123456789ab", "who": "root@server
from 192.0.2.1", "by": "ann@example.com", "outcome": "done", "seconds": 2.5}

A line has no message, because a message may repeat what a program printed. Python 3.6, standard library only.
"""

import contextlib
import json
import os
import time
from typing import Iterator

import lock
from commands import Interrupted, ReleaseError, say
from contract import paths

LOG = "audit.log"


class Entry:
    """A run. site, release, by: the release's id and whose content it is, "" for what is not known."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.site = self.release = self.by = ""
        self.outcome = "done"


@contextlib.contextmanager
def logged(what: str) -> Iterator[Entry]:
    """Write a line when the run has ended, whatever its outcome is. what: its verb."""
    entry, began = Entry(what), time.monotonic()
    try:
        yield entry
    except BaseException as error:
        entry.outcome = _outcome(error)
        raise
    finally:
        _write(entry, time.monotonic() - began)


def _outcome(error: BaseException) -> str:
    if isinstance(error, Interrupted):
        return "interrupted"
    if isinstance(error, (ReleaseError, OSError, ValueError)):
        return "refused" if getattr(error, "was_rolled_back", True) else "failed"
    return "failed"


def _write(entry: Entry, seconds: float) -> None:
    values = [
        ("when", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())),
        ("what", entry.what),
        ("site", entry.site),
        ("release", entry.release),
        ("who", lock.who()),
        ("by", entry.by),
        ("outcome", entry.outcome),
        ("seconds", round(seconds, 1)),
    ]
    line = json.dumps({name: value for name, value in values if value != ""}) + "\n"
    try:
        descriptor = os.open(os.path.join(paths.LOG, LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        # A full disk must not refuse a release.
        say("the audit log cannot be written: {}".format(error.strerror))
