"""Drop-ins that make the services of this machine come back by themselves, and others that confine them.

/etc/systemd/system/<unit>.d/wsgi-ecs-restart.conf   (an nginx from source has wsgi-ecs.conf beside it)
                             wsgi-ecs-confinement.conf

Python 3.6, standard library only.
"""

import contextlib
import glob
import os
import re
import time
from typing import Dict, Iterable, List

import files
from commands import Say, run
from contract import paths

UNITS = "/etc/systemd/system"
RESTART, CONFINEMENT = "wsgi-ecs-restart.conf", "wsgi-ecs-confinement.conf"
# Seconds that a process manager may take until it can be talked to.
_PATIENCE = 15.0
# A capability that no confined service keeps, as a bit's number: https://man7.org/linux/man-pages/man7/capabilities.7.html
_SYS_ADMIN = 21


def place(texts: Dict[str, str], name: str = RESTART) -> List[str]:
    """Write the drop-ins of a name, and remove those of other units. texts: unit → text. Returns the paths."""
    new = {_path(unit, name): text for unit, text in texts.items()}
    for path in glob.glob(_path("*", name)):
        if path not in new:
            files.remove(path)
            if not os.listdir(os.path.dirname(path)):
                os.rmdir(os.path.dirname(path))
    for path, text in new.items():
        if files.text(path) != text:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            files.write(path, text, 0o644)
    # systemd reads its units again even if no file has changed, because a killed run may have written the files.
    run("systemctl", "daemon-reload")
    return sorted(new)


def units(name: str = RESTART) -> List[str]:
    """The units that have a drop-in: those that must come back by themselves, or are to be confined."""
    return sorted(os.path.basename(os.path.dirname(path))[: -len(".d")] for path in glob.glob(_path("*", name)))


def unconfined() -> List[str]:
    """The units that were started before they had what confines them, and run without it until they start again."""
    found = []
    for unit in units(CONFINEMENT):
        pid = run("systemctl", "show", "-p", "MainPID", unit, check=False).rpartition("=")[2].strip()
        with contextlib.suppress(OSError), open("/proc/{}/status".format(pid)) as file:
            capabilities = re.search(r"^CapBnd:\s*(\w+)", file.read(), re.MULTILINE)
            if capabilities and int(capabilities.group(1), 16) >> _SYS_ADMIN & 1:
                found.append(unit)
    return found


def restart(units: Iterable[str], say: Say) -> None:
    """Start services anew, so that what confines them takes effect, and wait for their process managers."""
    for unit in sorted(units):
        say("restarting {}, which is confined from now on".format(unit))
        run("systemctl", "restart", unit, check=False)
        deadline = time.monotonic() + _PATIENCE
        while not _is_ready(unit) and time.monotonic() < deadline:
            time.sleep(0.2)


def _is_ready(unit: str) -> bool:
    if unit.startswith("supervisor"):
        return run("supervisorctl", "pid", check=False).strip().isdigit()
    return unit != "wsgi-emperor.service" or os.path.exists(paths.EMPEROR_STATS)


def _path(unit: str, name: str = RESTART) -> str:
    return os.path.join(UNITS, unit + ".d", name)
