"""Keeps the metadata of the cloud from all users of this machine but root, unless the release says otherwise.

    /etc/systemd/system/wsgi-ecs-metadata.service, /etc/wsgi-ecs/metadata.sh

Python 3.6, standard library only.
"""

import os
from typing import List

import drop_ins
import files
from commands import ReleaseError, Say, describe, run
from contract import paths
from contract.documents import CONFIG_FOLDER, METADATA_SCRIPT, METADATA_UNIT
from unpacked import Unpacked


def place(unpacked: Unpacked, say: Say) -> List[str]:
    """Bring the unit to what the release says. Returns the paths of its files."""
    unit, script = os.path.join(drop_ins.UNITS, METADATA_UNIT), _script()
    if CONFIG_FOLDER + METADATA_UNIT not in unpacked.files:
        if os.path.lexists(unit):
            # Its end opens the way.
            run("systemctl", "disable", "-q", METADATA_UNIT, check=False)
            run("systemctl", "stop", METADATA_UNIT, check=False)
            files.remove(script)
            files.remove(unit)
            run("systemctl", "daemon-reload")
        return []
    files.write(script, unpacked.text(CONFIG_FOLDER + METADATA_SCRIPT), 0o755)
    files.write(unit, unpacked.text(CONFIG_FOLDER + METADATA_UNIT), 0o644)
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "-q", METADATA_UNIT, check=False)
    try:
        # A killed run may have written the files.
        run("systemctl", "reload-or-restart", METADATA_UNIT)
    except ReleaseError as error:
        # A server without `ip` or iptables, or a kernel without their rules, is no reason to refuse a release.
        text = "warning: applications can reach the metadata of the cloud, because {} does not start: {}"
        say(text.format(METADATA_UNIT, error))
    return [unit, script]


def keep(say: Say) -> None:
    """Close the way again, if something has opened it: a firewall that was started anew has rules of its own alone."""
    if not os.path.exists(_script()):
        return
    try:
        addresses = run("/bin/sh", _script(), "keep").split()
    except ReleaseError as error:
        say("warning: applications can reach the metadata of the cloud: {}".format(describe(error)))
        return
    if addresses:
        say("closed again to applications: {}".format(" ".join(addresses)))


def _script() -> str:
    return os.path.join(paths.ETC, METADATA_SCRIPT)
