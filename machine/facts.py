"""What only the running machine knows. Python 3.6, standard library only."""

import os
import socket
from typing import Collection, Dict, Iterable, Optional

from commands import ReleaseError
from contract import placeholders

CGROUP = "/sys/fs/cgroup"
MEMINFO = "/proc/meminfo"
SOMAXCONN = "/proc/sys/net/core/somaxconn"


def _number(path: str) -> Optional[int]:
    try:
        with open(path) as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def cpus() -> int:
    """CPUs that this machine may use: its affinity, capped by the cgroup's quota (v2, then v1)."""
    count = len(os.sched_getaffinity(0))
    quota: Optional[float] = None
    try:
        with open(CGROUP + "/cpu.max") as file:
            words = file.read().split()
            quota = None if words[0] == "max" else int(words[0]) / int(words[1])
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        limit = _number(CGROUP + "/cpu/cpu.cfs_quota_us")
        period = _number(CGROUP + "/cpu/cpu.cfs_period_us")
        if limit and period and limit > 0:
            quota = limit / period
    return count if quota is None else max(1, min(count, int(quota)))


def of_programs() -> Dict[str, str]:
    """Fact → value of what a site's programs are sized by."""
    return {"cpus": str(cpus()), "workers": str(2 * cpus() + 1), "somaxconn": str(somaxconn())}


def memory() -> int:
    """MiB of memory that this machine has."""
    return _meminfo("MemTotal:") // 1024


def free_memory() -> int:
    """Bytes of memory that programs can have without swapping."""
    return _meminfo("MemAvailable:") * 1024


def _meminfo(name: str) -> int:
    """KiB of a line of the kernel's summary: https://man7.org/linux/man-pages/man5/proc_meminfo.5.html"""
    with open(MEMINFO) as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


def somaxconn() -> int:
    """Longest listen queue that the kernel allows; uWSGI refuses to start above it."""
    return _number(SOMAXCONN) or 128


def free_port(candidates: Iterable[int], others: Collection[int] = ()) -> int:
    """The first of the loopback ports that nobody listens on and that is not among `others`.

    Raises OSError when all are taken.
    """
    for port in candidates:
        if port in others:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("all of the ports {} are in use".format(", ".join(map(str, candidates))))


def fill(text: str, known: Dict[str, str]) -> str:
    """A text of a release with this machine's facts in place of its placeholders. Raises ReleaseError."""
    try:
        return placeholders.fill(text, known)
    except placeholders.UnfilledError as error:
        what = "the release names a fact that this machine does not have"
        raise ReleaseError(what, "\n".join(error.lines)) from None
