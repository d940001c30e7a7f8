"""An application that answers what it sees of a request; a function makes it, and it starts a thread at import."""

import asyncio
import json
import threading
import time

from beside import NAME

_SEEN = type("Seen", (), {"ticks": 0})


def _tick():
    while True:
        _SEEN.ticks += 1
        time.sleep(0.1)


threading.Thread(target=_tick, daemon=True).start()


def create_app():
    return application


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/ws/echo":
        return _echo(environ, start_response)
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no")])
        return _events()
    if path == "/print":
        print("printed for " + environ["QUERY_STRING"])
    seen = {name: value for name, value in environ.items() if isinstance(value, str)}
    seen.update(ticks=_SEEN.ticks, name=NAME, zone=time.strftime("%Z"))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]


async def asgi(scope, receive, send):
    """The same application by ASGI: the environ is what the scope says."""
    if scope["type"] != "http":
        return
    answer = []
    body = application(_environ(scope), lambda status, headers: answer.append((int(status[:3]), headers)))
    status, headers = answer[0]
    headers = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for part in body:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


def _environ(scope):
    found = {f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode() for name, value in scope["headers"]}
    found.update(PATH_INFO=scope["path"], QUERY_STRING=scope["query_string"].decode())
    found.update(REMOTE_ADDR=scope["client"][0], SERVER_NAME=scope["server"][0], SERVER_PORT=str(scope["server"][1]))
    found["wsgi.url_scheme"] = scope["scheme"]
    if scope["scheme"] == "https":
        found["HTTPS"] = "on"
    return found


def _events():
    for number in range(3):
        yield b"data: %d\n\n" % number
        time.sleep(1)


def _echo(environ, start_response):
    import simple_websocket

    client = simple_websocket.Server(environ)
    client.send("hello " + client.receive())
    client.close()
    start_response("200 OK", [])
    return []
