"""Who is connected to a unix socket: https://man7.org/linux/man-pages/man5/proc_pid_net.5.html

Python 3.6, standard library only.
"""

import time
from typing import Iterator, Tuple

_SOCKETS = "/proc/net/unix"
# The flag of a socket that listens.
_LISTENS = 0x10000
_PAUSE = 0.05


def count(path: str) -> int:
    """Connections to the unix socket at `path`, those that the server has yet to accept among them.

    The kernel gives the server's end of each connection the path on which the server listens.
    """
    return sum(1 for _ in _inodes(path))


def waiting(path: str) -> Tuple[int, int]:
    """Connections to the unix socket at `path` that the server has yet to accept, and those that it has accepted."""
    inodes = list(_inodes(path))
    # The server's end has no inode until it is accepted.
    return inodes.count(0), len(inodes) - inodes.count(0)


def _inodes(path: str) -> Iterator[int]:
    """Yield the inode of the server's end of each connection."""
    with open(_SOCKETS, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            # Num RefCount Protocol Flags Type St Inode Path
            words = line.rstrip("\n").split(None, 7)
            if len(words) == 8 and words[7] == path and not int(words[3], 16) & _LISTENS:
                yield int(words[6])


def wait_for_end(path: str, deadline: float) -> None:
    """Wait until nobody is connected to the unix socket at `path`. deadline: of time.monotonic()."""
    while count(path) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
