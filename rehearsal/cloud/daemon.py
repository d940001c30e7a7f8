"""LXD and Incus: what differs between them, and which of them holds the rehearsals of this host.

Both have the same REST API and the same commands, because Incus began as a copy of LXD:
https://linuxcontainers.org/incus/docs/main/
"""

import errno
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# Debian's Incus has its daemon in a folder that is in nobody's PATH.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/libexec/incus"
# The storage pool of rehearsed machines and their data disks.
POOL = "wsgi-ecs"


@dataclass(frozen=True)
class Daemon:
    """A program that runs system containers.

    name: in messages. client: its command line tool. program: its executable. service: its systemd unit. restart: how
    a user restarts it. group: whose members may use its socket. variable: tells its client where its folder is.
    folders: where its folder may be. logs: the folder with a folder for each machine's logs. header: how its HTTP
    headers begin. packages: package → a program that it contains; the first of these that apt has is installed.
    """

    name: str
    client: str
    program: str
    service: str
    restart: str
    group: str
    variable: str
    folders: tuple[str, ...]
    logs: str
    header: str
    packages: tuple[Mapping[str, str], ...]

    @property
    def folder(self) -> Path:
        """Where it keeps its socket, images and machines, or will keep them once it is installed."""
        if os.environ.get(self.variable):
            return Path(os.environ[self.variable])
        found = (folder for folder in self.folders if _exists(Path(folder, "unix.socket")))
        return Path(next(found, self.folders[0]))

    @property
    def socket(self) -> Path:
        return self.folder / "unix.socket"

    @property
    def is_installed(self) -> bool:
        """Whether its package has made its folder. Ubuntu has an `lxd` that only offers to install LXD."""
        return _exists(self.folder) and self._is_there

    @property
    def is_chosen(self) -> bool:
        return bool(os.environ.get(self.variable))

    @property
    def has_rehearsals(self) -> bool:
        """Whether a rehearsal has made its storage pool. The folder is there, too, while the daemon does not run."""
        return _exists(self.folder / "storage-pools" / POOL) and self._is_there

    @property
    def runs(self) -> bool:
        """Whether it accepts a connection of this user."""
        return self._connected() == 0

    @property
    def _is_there(self) -> bool:
        """Whether its program is there, or a snap's daemon runs, even if this user may not use it.

        The folder and the file of its socket stay when its package is removed.
        """
        return bool(shutil.which(self.program, path=PATH)) or self._connected() in (0, errno.EACCES)

    def _connected(self) -> int:
        """0 or the error number of a connection to its socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            return connection.connect_ex(str(self.socket))


def _exists(path: Path) -> bool:
    """Whether a path exists; False where this user may not look, for which Path.exists would raise an error."""
    return os.path.exists(path)  # noqa: PTH110


LXD = Daemon(
    name="LXD",
    client="lxc",
    program="lxd",
    service="lxd",
    restart="systemctl restart lxd, or snap restart lxd.daemon",
    group="lxd",
    variable="LXD_DIR",
    folders=("/var/lib/lxd", "/var/snap/lxd/common/lxd"),
    logs="/var/log/lxd",
    header="X-LXD-",
    packages=({"lxd": "lxd", "lxd-client": "lxc"},),
)
INCUS = Daemon(
    name="Incus",
    client="incus",
    program="incusd",
    service="incus",
    restart="systemctl restart incus",
    group="incus-admin",
    variable="INCUS_DIR",
    folders=("/var/lib/incus",),
    logs="/var/log/incus",
    header="X-Incus-",
    # Before 6.0.3-3, which Ubuntu 24.04 is, there was no incus-base; since then incus adds virtual machines to it.
    packages=({"incus-base": "incusd", "incus-client": "incus"}, {"incus": "incusd", "incus-client": "incus"}),
)
_ALL = (LXD, INCUS)
# What decides if a host has both, the first of them first.
_SIGNS: tuple[Callable[[Daemon], bool], ...] = (
    lambda daemon: daemon.is_chosen,
    lambda daemon: daemon.has_rehearsals,
    lambda daemon: daemon.runs,
    lambda daemon: daemon.is_installed,
)


def installed() -> Daemon | None:
    """The daemon that rehearsals use: the one that LXD_DIR or INCUS_DIR names, that has the rehearsals, that runs, or
    that is installed, in this order; LXD if that does not decide. None on a host with neither."""
    return next((daemon for sign in _SIGNS for daemon in _ALL if sign(daemon)), None)


def current() -> Daemon:
    """As `installed`; LXD on a host with neither."""
    return installed() or _ALL[0]


def other_choice() -> str:
    """How a user makes rehearsals use the daemon that they do not use."""
    other = next(daemon for daemon in _ALL if daemon.name != current().name)
    return f"{other.variable}={other.folder} in the environment chooses {other.name}"


def name() -> str:
    """How messages name the daemon of this host."""
    found = installed()
    return found.name if found else "LXD or Incus"
