"""Security updates that a server installs at night (machine/updates.py).

https://wiki.debian.org/UnattendedUpgrades and
https://dnf.readthedocs.io/en/latest/command_ref.html#upgrade-command
"""

from contract.codec import encode
from contract.updates import UPDATES_FILE, Updates
from kinds.systems import Apt
from serving import packages
from settings import StackSettings
from templates import render

# Their packages restart what they run as they are upgraded: supervisor all programs of all sites, MariaDB the database.
# unattended-upgrades reads regular expressions that match at the beginning, dnf reads globs.
_LEFT_OUT_BY_APT = ("supervisor$", "mariadb-")
_LEFT_OUT_BY_DNF = ("supervisor", "mariadb*")


def host_files(stack: StackSettings, folder: str) -> dict[str, str]:
    """File name → text. folder: that holds the release tool's folder on the server."""
    window, packaging = stack.server.updates_window, stack.system.packaging
    if isinstance(packaging, Apt):
        apt = render(
            "templates/updates/apt.conf.j2", window=window, suite=packaging.suites[0], left_out=_LEFT_OUT_BY_APT
        )
        updates = Updates(packages.document(stack, ("unattended-upgrades",)), apt=apt)
    else:
        updates = Updates(packages.document(stack, ()), left_out=[*_LEFT_OUT_BY_DNF])
    if window:
        start, minutes = _start_and_minutes(window)
        updates = updates._replace(
            timer=render("templates/updates/updates.timer.j2", start=start, minutes=minutes),
            service=render("templates/updates/updates.service.j2", tool=f"{folder}/tool/release.py"),
        )
    return {UPDATES_FILE: encode(updates)}


def _start_and_minutes(window: str) -> tuple[str, int]:
    """The start of a window such as 23:00-02:00, and its length in minutes."""
    start, end = window.split("-")
    first, last = (int(time[:2]) * 60 + int(time[3:]) for time in (start, end))
    return start, (last - first) % (24 * 60)
