"""Timers of systemd, each with the service that it starts. Python 3.6, standard library only."""

import os
from typing import Dict, List

import drop_ins
import files
from commands import run


def place(timer: str, service: str, texts: Dict[str, str]) -> List[str]:
    """Have a timer run as its two units say. texts: unit → text. Returns their paths.

    A run that is killed at any point here leaves what the next run finds and ends.
    """
    changed = [name for name in texts if files.text(path(name)) != texts[name]]
    for name in changed:
        files.write(path(name), texts[name], 0o644)
    outdated = [name for name in (timer, service) if name in changed or _is_outdated(name)]
    if timer in outdated:
        # A timer that runs keeps its old times until it is started again, which is below in any case.
        run("systemctl", "stop", timer, check=False)
    if outdated:
        run("systemctl", "daemon-reload")
    run("systemctl", "enable", "-q", timer)
    run("systemctl", "start", timer)
    return sorted(map(path, texts))


def _is_outdated(unit: str) -> bool:
    """Whether systemd has read another file than the one that is there, which a killed run may have written."""
    return "=yes" in run("systemctl", "show", "-p", "NeedDaemonReload", unit, check=False)


def remove(timer: str, service: str) -> bool:
    """End a timer; its service ends by itself. Returns whether there was a timer."""
    if not os.path.exists(path(timer)):
        return False
    run("systemctl", "disable", "-q", timer, check=False)
    run("systemctl", "stop", timer)
    # The timer goes last, so that a run that was killed before begins again.
    for name in (service, timer):
        files.remove(path(name))
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", service, check=False)
    return True


def path(unit: str) -> str:
    return os.path.join(drop_ins.UNITS, unit)
