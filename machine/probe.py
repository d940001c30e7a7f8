"""The request that decides whether a release is good: straight to the app server, then through the entrance.

Python 3.6, standard library only.
"""

import re
import socket
import ssl
import struct
import time
from typing import Any

from contract.documents import Endpoint, Probe

_LOCATION = re.compile(rb"(?im)^location:([^\r\n]*)")
# What of a page is no text for a reader. The beginning of a page may end in the middle of it.
_TAGS = re.compile(r"(?is)<(style|script)\b.*?(?:</\1\s*>|$)|<[/!a-z][^>]*(?:>|$)")


class Answer:
    """An HTTP answer: `status`, where it redirects to, "" for nowhere, and the beginning of its body as text."""

    def __init__(self, status: int, body: bytes, location: str = "") -> None:
        self.status = status
        self.location = location
        self.body = body.decode("utf-8", "replace").strip()

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    def __str__(self) -> str:
        status = "status {}".format(self.status)
        if self.location:
            status += " (Location: {})".format(self.location[:300])
        return "{}: {}".format(status, " ".join(_TAGS.sub(" ", self.body).split())[:300])


def describe(request: Probe) -> str:
    """What is asked, in words for the user."""
    return "GET {} (Host: {})".format(request.path, request.host)


def through_endpoint(endpoint: Endpoint, request: Probe, timeout: float = 10.0) -> Answer:
    """Ask an application server where it listens. Raises OSError when nothing answers within `timeout` seconds."""
    family: int
    address: Any
    if endpoint.address.startswith("unix:"):
        family, address = socket.AF_UNIX, endpoint.address[len("unix:") :]
    else:
        host, _, port = endpoint.address.rpartition(":")
        family, address = socket.AF_INET, ("127.0.0.1" if host.startswith("0.") else host, int(port))
    data = _uwsgi(request) if endpoint.protocol == "uwsgi" else _http(request)
    with socket.socket(family) as client:
        return _ask(client, address, data, timeout)


def through_entrance(request: Probe, timeout: float = 10.0) -> Answer:
    """Ask the site on this machine, as the world does. Raises OSError when nothing answers within `timeout` seconds."""
    with socket.socket(socket.AF_INET) as client:
        if not request.tls:
            return _ask(client, ("127.0.0.1", request.port), _http(request), timeout)
        # The connection stays on this machine, so the certificate, which may still be self-signed, is not checked.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(client, server_hostname=request.host) as secured:
            return _ask(secured, ("127.0.0.1", request.port), _http(request), timeout)


def _http(request: Probe) -> bytes:
    # nginx sends both, and some application servers believe the scheme only beside a client's address.
    text = (
        "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: wsgi-ecs-probe\r\n"
        "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: {}\r\n\r\n"
    )
    return text.format(request.path, request.host, _scheme(request)).encode()


def _scheme(request: Probe) -> str:
    """The scheme of the site's URL: an application may redirect HTTP to HTTPS itself."""
    return "https" if _is_secure(request) else "http"


def _is_secure(request: Probe) -> bool:
    return request.tls or request.https


def _uwsgi(request: Probe) -> bytes:
    """https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html"""
    route, _, query = request.path.partition("?")
    variables = {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": request.path,
        "PATH_INFO": route,
        "QUERY_STRING": query,
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": request.host,
        "SERVER_PORT": "443" if _is_secure(request) else "80",
        "HTTP_HOST": request.host,
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": "",
        "CONTENT_TYPE": "",
        "REQUEST_SCHEME": _scheme(request),
        "UWSGI_SCHEME": _scheme(request),
    }
    if _is_secure(request):
        variables["HTTPS"] = "on"
    variables.update(request.uwsgi_params)
    packet = b"".join(
        struct.pack("<H", len(part)) + part for item in variables.items() for part in (text.encode() for text in item)
    )
    return struct.pack("<BHB", 0, len(packet), 0) + packet


def _ask(client: socket.socket, address: Any, request: bytes, timeout: float) -> Answer:
    deadline = time.monotonic() + timeout
    client.settimeout(timeout)
    client.connect(address)
    client.sendall(request)
    data = b""
    while len(data) < 65536:
        # The timeout is for the whole answer: an answer that trickles in must not hold up the release.
        left = deadline - time.monotonic()
        if left <= 0:
            raise OSError("no whole answer within {:.0f} seconds".format(timeout))
        client.settimeout(left)
        part = client.recv(65536)
        if not part:
            break
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        raise OSError("the connection was closed without an answer")
    location = _LOCATION.search(head)
    return Answer(int(words[1]), body, location.group(1).decode("utf-8", "replace").strip() if location else "")
