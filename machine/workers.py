"""What the application server of a site does just now: its workers, its listen queue and its memory.

uWSGI says it itself on its statistics socket: https://uwsgi-docs.readthedocs.io/en/latest/StatsServer.html
For gunicorn and Granian, the kernel's tables of sockets do. Python 3.6, standard library only.
"""

import contextlib
import json
import os
import re
import socket
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import connections
import shared_port
from commands import run
from contract import paths
from contract.documents import SlotState
from contract.placeholders import STATS_PORT

# Seconds for the first byte of uWSGI's answer, seconds for all of it, and its most bytes. The socket is in a folder of
# the site's, so somebody else may answer there.
_PATIENCE = 1.0
_SECONDS = 3.0
_MOST = 16 << 20
_ESTABLISHED, _LISTEN = "01", "0A"


class Workers(NamedTuple):
    """processes: that run the application. busy: requests in work. queue: connections that no worker has accepted.

    idle: what could take a request now, None where the server does not say. memory: bytes of all its processes.
    """

    processes: int
    busy: int
    idle: Optional[int]
    queue: int
    memory: int


def of(state: SlotState) -> Optional[Workers]:
    """The workers of a slot, None where no application server runs."""
    if state.endpoint is None:
        return None
    queue, accepted = _sockets(state.endpoint.address)
    stats = _stats(state)
    try:
        workers = [worker for worker in stats.get("workers", []) if worker.get("pid")]
        cores = [core for worker in workers for core in worker.get("cores", [])]
        busy = sum(bool(core.get("in_request")) for core in cores)
        if stats:
            return Workers(len(workers), busy, len(cores) - busy, queue, _memory(int(stats["pid"])))
    except (AttributeError, KeyError, TypeError, ValueError):
        # This is no uWSGI.
        pass
    main = _main_pid(state)
    if main is None:
        return None
    return Workers(len(_children().get(main, [])), accepted, None, queue, _memory(main))


def _stats(state: SlotState) -> Dict[str, Any]:
    """Return uWSGI's statistics, empty if uWSGI says nothing or the server is another one."""
    deadline = time.monotonic() + _SECONDS
    try:
        with contextlib.closing(_connect(state)) as client:
            parts, length = [], 0
            try:
                parts.append(client.recv(65536))
            except socket.timeout:
                # With uwsgi.stats_http it waits for a request; otherwise a request would have cut its answer.
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            for part in iter(lambda: client.recv(65536), b""):
                parts.append(part)
                length += len(part)
                if length > _MOST or time.monotonic() > deadline:
                    return {}
        text = b"".join(parts)
        found = json.loads(text[text.index(b"{") :].decode("utf-8", "replace"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _connect(state: SlotState) -> socket.socket:
    """A connection to a uWSGI's statistics. Raises OSError."""
    if STATS_PORT in state.facts:
        return socket.create_connection(("127.0.0.1", int(state.facts[STATS_PORT])), timeout=_PATIENCE)
    client = socket.socket(socket.AF_UNIX)
    try:
        client.settimeout(_PATIENCE)
        client.connect(paths.stats(state.site, state.slot))
    except OSError:
        client.close()
        raise
    return client


def _sockets(address: str) -> Tuple[int, int]:
    """Connections to where a server listens: those that wait to be accepted, and those that were accepted."""
    if address.startswith("unix:"):
        return connections.waiting(address[len("unix:") :])
    port = "{:04X}".format(int(address.rpartition(":")[2]))
    queue = established = 0
    try:
        for local, state, waiting, _ in shared_port.rows():
            if local.endswith(":" + port):
                established += state == _ESTABLISHED
                queue += waiting if state == _LISTEN else 0
    except OSError:
        pass
    return queue, max(0, established - queue)


def _main_pid(state: SlotState) -> Optional[int]:
    """Process id of a slot's program, None when it does not run."""
    try:
        if state.manager == "systemd":
            words = run("systemctl", "show", "-p", "MainPID", state.program, check=False)
        elif state.manager == "supervisor":
            words = run("supervisorctl", "status", state.program, check=False)
        else:
            # The emperor's statistics come from the program itself.
            return None
    except OSError:
        return None
    found = re.search(r"(?:MainPID=|pid )([1-9][0-9]*)", words)
    return int(found.group(1)) if found else None


def _children() -> Dict[int, List[int]]:
    """Process id → those of its children."""
    found: Dict[int, List[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/{}/stat".format(name)) as file:
                # The command's name is in brackets and may hold spaces; the parent's id follows the state.
                found.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(int(name))
        except (OSError, IndexError):
            continue
    return found


def _memory(main: int) -> int:
    """Bytes that a process and all below it take; a page that several share counts once."""
    children, waiting, total = _children(), [main], 0
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        total += _proportional(process)
    return total


def _proportional(process: int) -> int:
    # CentOS 7's kernel has no smaps_rollup.
    for name in ("smaps_rollup", "smaps"):
        try:
            with open("/proc/{}/{}".format(process, name)) as file:
                return 1024 * sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (OSError, ValueError, IndexError):
            continue
    return 0
