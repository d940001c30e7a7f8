"""Applications of threads: each listens where its config says and answers as its file `behaviour` says.

ok, crash (never listens), silent (runs, never listens), 400, 404 (but / is good), 500, 503, redirect, or nginx (good in
itself, 500 through nginx).
"""

import contextlib
import re
import socket
import struct
import threading
from pathlib import Path


class Application(threading.Thread):
    """Answers uWSGI's protocol or HTTP, on a unix socket or a port.

    protocol, address: as in machine/probe.py. env: text of the environment's file at its start.
    found: what an earlier program had left of the slot's pidfile and socket.
    """

    def __init__(
        self,
        release: str,
        behaviour: str,
        protocol: str,
        address: str,
        env: str = "",
        slot: str = "a",
        shares_port: bool = False,
    ) -> None:
        super().__init__(daemon=True)
        self.release, self.behaviour, self.protocol, self.env, self.slot = release, behaviour, protocol, env, slot
        self.address, self.shares_port = address, shares_port
        self.asked: list[dict[str, str]] = []
        self.found: set[str] = set()
        self.listens = False
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            self.found = {left.name for left in (path, path.with_suffix(".pid")) if left.exists()}
            self.listener = socket.socket(socket.AF_UNIX)
            self._where: str | tuple[str, int] = str(path)
        else:
            host, _, port = address.rpartition(":")
            self.listener = socket.socket()
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._where = (host, int(port))
        if behaviour not in ("crash", "silent"):
            self._listen()

    def _listen(self) -> None:
        if isinstance(self._where, str):
            Path(self._where).unlink(missing_ok=True)
        try:
            self.listener.bind(self._where)
        except OSError:
            # As both servers do when another one has the port.
            self.behaviour = "crash"
            return
        self.listener.listen()
        self.listens = True
        self.start()

    @property
    def status(self) -> int:
        if self.behaviour == "404" and self.asked[-1]["PATH_INFO"] != "/":
            return 404
        return {"503": 503, "500": 500, "400": 400, "redirect": 302}.get(self.behaviour, 200)

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                with client, contextlib.suppress(OSError):
                    self.asked.append(_uwsgi(client) if self.protocol == "uwsgi" else _http(client))
                    to = "Location: https://example.com/login" if self.behaviour == "redirect" else "X: y"
                    client.sendall(f"HTTP/1.1 {self.status} Some\r\n{to}\r\n\r\nthe answer".encode())

    def stop(self) -> None:
        self.listens = False
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        if self.ident:
            self.join(2)


def _uwsgi(client: socket.socket) -> dict[str, str]:
    """The variables of a uWSGI packet: https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html"""
    packet = client.recv(struct.unpack("<BHB", client.recv(4))[1])
    texts = []
    while packet:
        (size,) = struct.unpack("<H", packet[:2])
        texts.append(packet[2 : 2 + size].decode())
        packet = packet[2 + size :]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _http(client: socket.socket) -> dict[str, str]:
    """The same variables of an HTTP request."""
    lines = client.recv(65536).decode().split("\r\n")
    method, path, _ = lines[0].split(" ")
    route, _, query = path.partition("?")
    headers = dict(re.findall("(?m)^([^:\r\n]+): ([^\r\n]*)$", "\n".join(lines[1:])))
    return {
        "REQUEST_METHOD": method,
        "REQUEST_URI": path,
        "PATH_INFO": route,
        "QUERY_STRING": query,
        "HTTP_HOST": headers["Host"],
    }
