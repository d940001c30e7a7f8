"""The request that decides whether a release is good: straight to uWSGI, then through nginx.

Python 3.6, standard library only.
"""

import http.client
import socket
import struct


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
        client.settimeout(timeout)
        client.connect(path)
        client.sendall(struct.pack("<BHB", 0, len(packet), 0) + packet)
        data = b""
        while len(data) < 65536:
            part = client.recv(65536)
            if not part:
                break
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        raise OSError("uWSGI closed the connection without an answer")
    return Answer(int(words[1]), body)


def through_entrance(port, host, url, timeout=10.0):
    """Ask the site on this machine, as the world does. Raises OSError when nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", url, headers={"Host": host, "User-Agent": "wsgi-ecs-probe"})
        response = connection.getresponse()
        return Answer(response.status, response.read(65536))
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from error
    finally:
        connection.close()
