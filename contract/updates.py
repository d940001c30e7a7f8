"""The tool reads here which security updates a machine installs, and writes what became of them."""

from typing import List, NamedTuple

from contract.service_documents import Packages

UPDATES_FILE = "updates.json"


class Updates(NamedTuple):
    """updates.json: the security updates that a machine installs.

    packages: what installs them. timer, service: units of systemd, "" without automatic updates. apt: configuration of
    apt, "" where another package manager is. left_out: patterns of packages for dnf.
    """

    packages: Packages
    timer: str = ""
    service: str = ""
    apt: str = ""
    left_out: List[str] = []


class UpdatesState(NamedTuple):
    """A run of security updates has come to this. time: seconds since 1970. installed, waiting: names of packages.

    failed: why the run failed, "" if it did not. ended: whether the run has ended; until then `time` is its start.
    """

    time: int
    installed: List[str]
    waiting: List[str]
    failed: str = ""
    ended: bool = True
