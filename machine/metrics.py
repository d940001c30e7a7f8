"""Answers GET /metrics, once a run: systemd accepts the connection, and starts this tool with it as standard input.

    release.py metrics

Python 3.6, standard library only.
"""

import os
import signal
import socket
import sys
import time
from typing import Callable, List, Mapping, Optional, Tuple

import drop_ins
import files
import metrics_text
import status
from commands import ReleaseError, Say, describe, run, say
from contract import paths
from contract.documents import CONFIG_FOLDER
from unpacked import Unpacked

_SOCKET = paths.METRICS_UNIT + ".socket"
_UNITS = (paths.METRICS_UNIT + "@.service", _SOCKET)
# Bytes and seconds of a request without its body, and seconds of the whole run.
_LONGEST = 8192
_PATIENCE = 5.0
_SECONDS = 20
_METHODS = ("GET", "HEAD")
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}


def place(unpacked: Unpacked, say: Say) -> List[str]:
    """Have systemd listen if the release says so, or end that. Returns the paths of the units.

    Raises ReleaseError with the units as they were.
    """
    names = [name for name in _UNITS if CONFIG_FOLDER + name in unpacked.files]
    if not names:
        _remove(say)
        return []
    new = {_path(name): unpacked.text(CONFIG_FOLDER + name) for name in names}
    old = {path: files.text(path) for path in new}
    _write(new)
    try:
        # A run that was killed may have written the units of another port, so the socket starts anew in any case.
        run("systemctl", "restart", _SOCKET)
    except ReleaseError as error:
        said = run("journalctl", "-u", _SOCKET, "-n", "5", "-o", "cat", check=False)
        _write(old)
        run("systemctl", "restart" if all(old.values()) else "reset-failed", _SOCKET, check=False)
        raise ReleaseError(
            "systemd does not start {}, which answers with metrics".format(_SOCKET),
            said.strip() or error.lines,
            "set another metrics.port if the port is taken, and run up again",
        ) from None
    run("systemctl", "enable", "-q", _SOCKET)
    return sorted(new)


def _write(units: Mapping[str, Optional[str]]) -> None:
    """Have systemd read new units. units: path → text, None for no unit."""
    for path, text in units.items():
        if text is None:
            files.remove(path)
        else:
            files.write(path, text, 0o644)
    run("systemctl", "daemon-reload")


def _remove(say: Say) -> None:
    """End the answers on a machine whose stack has no metrics any more."""
    if not os.path.exists(_path(_SOCKET)):
        return
    run("systemctl", "disable", "-q", _SOCKET, check=False)
    run("systemctl", "stop", _SOCKET)
    # The socket goes last, so that a run that was killed before begins again.
    _write({_path(name): None for name in _UNITS})
    run("systemctl", "reset-failed", _SOCKET, check=False)
    say("nothing answers with metrics any more")


def _path(unit: str) -> str:
    return os.path.join(drop_ins.UNITS, unit)


def command() -> int:
    """Answer the request on standard input. Returns the exit status."""
    # Whatever hangs ends with this process, and systemd ends what it has started.
    signal.alarm(_SECONDS)
    try:
        with socket.fromfd(0, socket.AF_INET, socket.SOCK_STREAM) as connection:
            answer(connection, lambda: metrics_text.text(status.of_machine(finds_edits=False)))
    except OSError:
        # The client has hung up.
        return 1
    return 0


def answer(connection: socket.socket, text: Callable[[], str]) -> None:
    """Read a request, and send its answer. Raises OSError. text: makes the metrics."""
    code, method = _request(connection)
    body = _REASONS[code] + "\n"
    if code == 200:
        try:
            body = text()
        except Exception as error:
            say("no metrics: {}".format(describe(error)), sys.stderr)
            code, body = 500, "{}\n".format(_REASONS[500])
    payload = body.encode("utf-8")
    head = ["HTTP/1.1 {} {}".format(code, _REASONS[code])]
    head += ["Content-Type: " + (metrics_text.TYPE if code == 200 else "text/plain")]
    head += ["Content-Length: {}".format(len(payload)), "Connection: close"]
    head += ["Allow: " + ", ".join(_METHODS)] if code == 405 else []
    connection.sendall("\r\n".join(head + ["", ""]).encode("ascii") + (b"" if method == "HEAD" else payload))
    connection.shutdown(socket.SHUT_WR)


def _request(connection: socket.socket) -> Tuple[int, str]:
    """Status of the answer to a request, and the request's method. Raises OSError for one that does not come."""
    deadline, head = time.monotonic() + _PATIENCE, b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        found = connection.recv(_LONGEST)
        head += found
        if not found or len(head) > _LONGEST:
            return 400, ""
    # The answer has as much time again.
    connection.settimeout(_PATIENCE)
    words = head.split(b"\n", 1)[0].decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return 400, ""
    if words[1].partition("?")[0] != "/metrics":
        return 404, words[0]
    return (200 if words[0] in _METHODS else 405), words[0]
