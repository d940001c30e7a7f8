"""An application whose answers show what nginx does with them. Runs on Python 3.6 and later, on its own."""

import itertools
import json
import socket
import time
import urllib.parse

_COUNT = itertools.count()
# Marks of the big answers that somebody has taken.
_DONE = []


def application(environ, start_response):
    path = environ["PATH_INFO"]
    words = path.strip("/").split("/")
    query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")))
    status, headers, body = "200 OK", [("Content-Type", "text/html; charset=utf-8")], [b"fine"]
    if words[0] == "seen":
        names = ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR", "REQUEST_METHOD", "wsgi.url_scheme")
        names += ("HTTP_X_FORWARDED_PROTO", "REQUEST_SCHEME", "HTTPS")
        body = [json.dumps({name: environ.get(name) for name in names}).encode()]
    elif words[0] == "count":
        headers += [("Set-Cookie", "a=b")] if words[1:] == ["cookie"] else []
        body = [str(next(_COUNT)).encode()]
    elif words[0] == "big":
        body = big(int(query["kilo"]), query.get("mark"))
    elif words[0] == "done":
        body = [" ".join(_DONE).encode()]
    elif words[0] == "status":
        status, body = words[1] + " Of the application", [b"of the application"]
    elif words[0] == "own":
        headers += [("X-Frame-Options", "DENY"), ("X-Powered-By", "curiosity"), ("Server", "own")]
    elif words[0] == "machine":
        body = [socket.gethostname().encode()]
    elif words[0] == "sleep":
        time.sleep(float(words[1]))
    elif words[0] == "upload":
        began, left, read = time.monotonic(), int(environ.get("CONTENT_LENGTH") or 0), 0
        while read < left:
            part = environ["wsgi.input"].read(min(1000, left - read))
            if not part:
                break
            read += len(part)
        body = [json.dumps({"bytes": read, "seconds": time.monotonic() - began}).encode()]
    elif words[0] not in ("", "healthz"):
        status, body = "404 Not Found", [b"of the application"]
    start_response(status, headers)
    return body


def big(kilo, mark):
    for _ in range(kilo):
        yield b"x" * 1000
    _DONE.append(str(mark))
