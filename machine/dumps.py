"""The nightly dumps of this machine's database: the timer that makes them, and what is there.

    /srv/data/dumps/<database>-20260131T033000Z.sql.gz     (root 0600, in a folder of root's)

paths.DATABASE_COMMAND writes them, and removes the oldest. Python 3.6, standard library only.
"""

import os
import re
from typing import Any, Dict, List

import timers
from commands import run
from contract import paths
from contract.documents import CONFIG_FOLDER
from unpacked import Unpacked

_NAME = re.compile(r"[A-Za-z0-9_]+-\d{8}T\d{6}Z\.sql\.gz\Z")
SERVICE, TIMER = paths.DUMP_UNIT + ".service", paths.DUMP_UNIT + ".timer"


def place(unpacked: Unpacked) -> List[str]:
    """Bring the timer to what the release says. Returns the paths of its files. Raises ReleaseError or OSError."""
    names = [name for name in (SERVICE, TIMER) if CONFIG_FOLDER + name in unpacked.files]
    if not names:
        return []
    return timers.place(TIMER, SERVICE, {name: unpacked.text(CONFIG_FOLDER + name) for name in names})


def end_unwanted(unpacked: Unpacked) -> None:
    """End the timer of a release that has none. The dumps stay."""
    if CONFIG_FOLDER + TIMER not in unpacked.files:
        timers.remove(TIMER, SERVICE)


def kept() -> List[Dict[str, Any]]:
    """Name, time in seconds since 1970, and size in bytes of each nightly dump, the newest first."""
    folder = paths.database_dumps()
    names = filter(_NAME.match, os.listdir(folder)) if os.path.isdir(folder) else []
    found = []
    for name in names:
        try:
            status = os.stat(os.path.join(folder, name))
        except FileNotFoundError:
            # The timer has removed it since.
            continue
        found.append({"name": name, "time": int(status.st_mtime), "size": status.st_size})
    return sorted(found, key=lambda dump: dump["time"], reverse=True)


def has_failed() -> bool:
    """Whether the last nightly dump failed."""
    return run("systemctl", "is-failed", SERVICE, check=False).strip() == "failed"
