"""What only the running machine knows. Python 3.6, standard library only."""

import os
import socket

CGROUP = "/sys/fs/cgroup"
MEMINFO = "/proc/meminfo"
SOMAXCONN = "/proc/sys/net/core/somaxconn"


def _number(path):
    try:
        with open(path) as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def cpus():
    """CPUs that this machine may use: its affinity, capped by the cgroup's quota (v2, then v1)."""
    count = len(os.sched_getaffinity(0))
    quota = None
    try:
        with open(CGROUP + "/cpu.max") as file:
            limit, period = file.read().split()
            quota = None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        limit = _number(CGROUP + "/cpu/cpu.cfs_quota_us")
        period = _number(CGROUP + "/cpu/cpu.cfs_period_us")
        if limit and period and limit > 0:
            quota = limit / period
    return count if quota is None else max(1, min(count, int(quota)))


def of_programs():
    """What a site's programs are sized by, as texts."""
    return {"cpus": str(cpus()), "workers": str(2 * cpus() + 1), "somaxconn": str(somaxconn())}


def memory():
    """MiB of memory that this machine has."""
    with open(MEMINFO) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemTotal:")) // 1024


def somaxconn():
    """Longest listen queue that the kernel allows; uWSGI refuses to start above it."""
    return _number(SOMAXCONN) or 128


def free_port(candidates, others=()):
    """The first of the loopback ports that nobody listens on and that is not of `others`.

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
