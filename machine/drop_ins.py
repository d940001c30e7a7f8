"""Drop-ins that make the services of this machine come back by themselves. Python 3.6, standard library only.

/etc/systemd/system/<unit>.d/wsgi-ecs-restart.conf   (an nginx from source has wsgi-ecs.conf beside it)
"""

import glob
import os
from typing import Dict, List

import files
from commands import run

UNITS = "/etc/systemd/system"
_FILE = "wsgi-ecs-restart.conf"


def place(texts: Dict[str, str]) -> List[str]:
    """Write the drop-ins, and remove those of other units. texts: unit → text. Returns the paths."""
    new = {_path(unit): text for unit, text in texts.items()}
    for path in glob.glob(_path("*")):
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


def units() -> List[str]:
    """The units that have a drop-in."""
    return sorted(os.path.basename(os.path.dirname(path))[: -len(".d")] for path in glob.glob(_path("*")))


def _path(unit: str) -> str:
    return os.path.join(UNITS, unit + ".d", _FILE)
