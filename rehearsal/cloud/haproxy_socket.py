"""HAProxy's own socket: what it says of its servers, and how a server is taken out of use.

https://docs.haproxy.org/2.6/management.html#9.3
"""

import csv
import io
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rehearsal.cloud.context import CloudContext

SOCKET = "/run/haproxy.sock"
# Seconds for an answer.
_PATIENCE = 5
# Columns of `show servers state` by their places, and what a new server has in them: it is down until it passes its
# health checks, where HAProxy would take a new server for healthy.
_VERSION = "1"
_DOWN = "0 {backend} 0 {server} {address} 0 0 1 1 0 1 0 0 6 0 0 0 - {port} - 0 0 - - 0"
_BACKEND, _SERVER = 1, 3


@dataclass(frozen=True)
class Health:
    """What HAProxy has found of a server in one backend. seconds: since its last change. requests: under way."""

    backend: str
    status: str
    seconds: int
    requests: int

    @property
    def is_up(self) -> bool:
        return self.status.startswith("UP")

    @property
    def is_down(self) -> bool:
        return self.status.startswith("DOWN")


def ask(context: CloudContext, balancer: str, command: str) -> str:
    """What HAProxy answers to a command; "" if it is stopped. balancer: name of its machine."""
    # The socket is reached through the machine's root folder, because a command in the machine takes LXD longer.
    pid = context.lxd.get(f"/1.0/instances/{balancer}/state")["pid"]
    return ask_at(f"/proc/{pid}/root{SOCKET}", command) if pid > 0 else ""


def ask_at(path: str, command: str) -> str:
    """What HAProxy answers on a socket; "" if nothing listens there."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(path)
            connection.sendall(f"{command}\n".encode())
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
    except OSError:
        return ""
    return b"".join(parts).decode(errors="replace")


def healths(answer: str) -> dict[str, list[Health]]:
    """Server → its health in each backend. answer: to SHOW_HEALTH."""
    found: dict[str, list[Health]] = {}
    for row in csv.DictReader(io.StringIO(answer.removeprefix("# "))):
        health = Health(row["pxname"], row["status"], int(row["lastchg"] or 0), int(row["scur"] or 0))
        found.setdefault(row["svname"], []).append(health)
    return found


# Servers only: https://docs.haproxy.org/2.6/management.html#show%20stat
SHOW_HEALTH = "show stat -1 4 -1"
SHOW_STATES = "show servers state"


def out_of_use(backend: str, server: str) -> str:
    """The command by which a server gets no new request, while those under way end."""
    return f"set server {backend}/{server} state maint"


def states(answer: str, members: Mapping[str, Iterable[Mapping[str, object]]]) -> str:
    """The states that HAProxy starts with: those of the process before it, and of new members that they are down.

    answer: to SHOW_STATES, "" for none. members: backend → its servers that a scaling group has put there.
    """
    return "\n".join([_VERSION, *_states(answer, members)]) + "\n"


def _states(answer: str, members: Mapping[str, Iterable[Mapping[str, object]]]) -> Iterator[str]:
    known = set()
    for line in answer.splitlines():
        words = line.split(" ")
        if line.startswith("#"):
            yield line
        elif len(words) > _SERVER:
            known.add((words[_BACKEND], words[_SERVER]))
            yield line
    for backend, servers in members.items():
        for server in servers:
            if (backend, server["serverId"]) not in known:
                values = {"server": server["serverId"], "address": server["serverIp"], "port": server["port"]}
                yield _DOWN.format(backend=backend, **values)
