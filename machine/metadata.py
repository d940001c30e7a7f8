"""Keeps the metadata of the cloud from all users of this machine but root, unless the release says otherwise.

    /etc/systemd/system/wsgi-ecs-metadata.service, /etc/wsgi-ecs/metadata.sh

Python 3.6, standard library only.
"""

import os
from typing import List

import drop_ins
import files
from commands import ReleaseError, Say, run
from contract import paths
from contract.documents import CONFIG_FOLDER, METADATA_SCRIPT, METADATA_UNIT
from unpacked import Unpacked


def place(unpacked: Unpacked, say: Say) -> List[str]:
    """Bring the unit to what the release says. Returns the paths of its files."""
    unit, script = os.path.join(drop_ins.UNITS, METADATA_UNIT), os.path.join(paths.ETC, METADATA_SCRIPT)
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
        # A killed run may have written the files. A reload leaves no moment in which the way is open.
        run("systemctl", "reload-or-restart", METADATA_UNIT)
    except ReleaseError as error:
        # A server without `ip` or iptables, or a kernel without their rules, is no reason to refuse a release.
        text = "warning: applications can reach the metadata of the cloud, because {} does not start: {}"
        say(text.format(METADATA_UNIT, error))
    return [unit, script]
