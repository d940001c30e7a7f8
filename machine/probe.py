"""The request that decides whether a release is good: straight to uWSGI, then through nginx.

Python 3.6, standard library only.
"""

import socket
import struct
import time


class Answer:
    """An HTTP answer: `status` (int) and the first bytes of its body as text."""

    def __init__(self, status, body):
        self.status = status
        self.body = body.decode("utf-8", "replace").strip()

    @property
    def good(self):
        return 200 <= self.status < 300

    def __str__(self):
        return "status {}: {}".format(self.status, " ".join(self.body.split())[:300])


def through_uwsgi(path, host, url, timeout=10.0):
    """Ask a uWSGI on the unix socket `path`. Raises OSError when nothing answers within `timeout` seconds.

    The protocol: https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html
    """
    route, _, query = url.partition("?")
    variables = {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": url,
        "PATH_INFO": route,
        "QUERY_STRING": query,
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": host,
        "SERVER_PORT": "80",
        "HTTP_HOST": host,
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": "",
        "CONTENT_TYPE": "",
        "UWSGI_SCHEME": "http",
    }
    packet = b"".join(
        struct.pack("<H", len(part)) + part for item in variables.items() for part in (text.encode() for text in item)
    )
    with socket.socket(socket.AF_UNIX) as client:
        return _ask(client, path, struct.pack("<BHB", 0, len(packet), 0) + packet, timeout)


def through_entrance(port, host, url, timeout=10.0):
    """Ask the site on this machine, as the world does. Raises OSError when nothing answers within `timeout` seconds."""
    request = "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: wsgi-ecs-probe\r\n\r\n".format(url, host)
    with socket.socket(socket.AF_INET) as client:
        return _ask(client, ("127.0.0.1", port), request.encode(), timeout)


def _ask(client, address, request, timeout):
    deadline = time.monotonic() + timeout
    client.settimeout(timeout)
    client.connect(address)
    client.sendall(request)
    data = b""
    while len(data) < 65536:
        # For the whole answer: one that comes drop by drop must not hold the release for ever.
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
    return Answer(int(words[1]), body)
