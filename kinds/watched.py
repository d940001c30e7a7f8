"""What ends a request that hangs, and skips one whose client has gone: texts of the modules beside an application.

A request hangs if it gives no sign of life for some seconds: no part of its answer, no part of a body that its client
still sends. So a long download, a stream and a slow upload are not cut. uWSGI and gunicorn's sync workers end a worker
that hangs themselves. In a worker with threads a thread of its own looks after the requests. Each ends its worker,
because Python cannot end a thread, and each writes first where the request hangs. The texts are Python 3.6.
"""

_GONE = """
import select

# select.POLLRDHUP is missing in Python 3.6.
_POLLRDHUP = 0x2000


def _is_gone(environ, connection):
    \"\"\"Whether nginx has closed the connection, because its client has gone. A POST runs all the same.\"\"\"
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return False
    poll = select.poll()
    poll.register(connection, _POLLRDHUP)
    return bool(poll.poll(0))
"""
_PARTS = """

class _Parts:
    \"\"\"The parts of an answer, each of which is a sign of life. A client may take its time to read one.\"\"\"

    def __init__(self, parts, sign, rest):
        self.parts, self.sign, self.rest = parts, sign, rest
        self.following = iter(parts)

    def __iter__(self):
        return self

    def __next__(self):
        self.sign()
        try:
            return next(self.following)
        finally:
            self.rest()

    def close(self):
        self.sign()
        try:
            if hasattr(self.parts, "close"):
                self.parts.close()
        finally:
            self.rest()
"""
_BODY = """

class _Body:
    \"\"\"A body that its client may still be sending: each part that arrives is a sign of life.\"\"\"

    def __init__(self, body, sign):
        self.body, self.sign = body, sign

    def read(self, size=-1):
        left, found = float("inf") if size is None or size < 0 else size, []
        while left > 0:
            self.sign()
            part = self.body.read(int(min(left, 65536)))
            if not part:
                break
            found.append(part)
            left -= len(part)
        return b"".join(found)

    def readline(self, *size):
        self.sign()
        return self.body.readline(*size)

    def readlines(self, hint=None):
        return list(self)

    def __iter__(self):
        return iter(self.readline, b"")

    def __getattr__(self, name):
        return getattr(self.body, name)
"""
_SKIPS = """        if _is_gone(environ, {connection}):
            start_response("499 Client Closed Request", [])
            return []
"""
_READS = '        environ["wsgi.input"] = _Body(environ["wsgi.input"], sign)\n'

_UWSGI = """
import faulthandler
import signal

import uwsgi


def watched(application):
    \"\"\"Have uWSGI end the worker of a request that hangs, which writes first where that is.\"\"\"
    is_ready = False

    def with_watch(environ, start_response):
        nonlocal is_ready
        if not is_ready:
            # A worker sets its signals after its fork, so this is done at its first request. uWSGI sends the signal to
            # a worker a second before it kills it.
            faulthandler.register(signal.SIGUSR2, 2)
            is_ready = True
{skips}{answer}
    return with_watch


app = watched(app)
"""
# What uWSGI counts itself is all of a request.
_WHOLE = "        return application(environ, start_response)\n"
_SIGNED = """
        def sign():
            uwsgi.set_user_harakiri({seconds})

        def rest():
            uwsgi.set_user_harakiri(0)

        sign()
{reads}        parts = application(environ, start_response)
        rest()
        # uWSGI sends a file without asking for its parts.
        return parts if isinstance(parts, (list, tuple)) or hasattr(parts, "read") else _Parts(parts, sign, rest)
"""
_SYNC = """

def watched(application, worker):
    \"\"\"Skip a request whose client has gone. Each part of an answer tells gunicorn that the worker is alive.\"\"\"

    def with_watch(environ, start_response):
{skips}        parts = application(environ, start_response)
        if isinstance(parts, (list, tuple, environ["wsgi.file_wrapper"])):
            return parts
        return _Parts(parts, worker.notify, worker.notify)

    return with_watch
"""
_THREADS = """
import faulthandler
import os
import threading
import time
import urllib.parse

# What runs in this worker: a key of its own → when it gave the last sign of life, and its method and path.
_running = {{}}


def _watch(stop):
    late = []
    while not late:
        time.sleep(1)
        late = [request for since, request in list(_running.values()) if time.monotonic() - since > {seconds}]
    for method, path in late:
        shown = method + " " + urllib.parse.quote(path, encoding="latin-1")
        # The application may have put something else in the place of sys.stderr.
        os.write(2, ("HARAKIRI: " + shown + " gives no sign of life for {seconds} s: its worker ends\\n").encode())
    faulthandler.dump_traceback(2)
    stop()
    # Requests of other threads have five seconds to finish.
    for _ in range(50):
        if all(time.monotonic() - since > {seconds} for since, _ in list(_running.values())):
            break
        time.sleep(0.1)
    os._exit(1)


def _ending(application, stop):
    \"\"\"End this worker when one of its requests gives no sign of life. stop: ends its taking of new requests.\"\"\"
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()

    def with_watch(environ, start_response):
{skips}{silent}        key = object()
        request = environ["REQUEST_METHOD"], environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")

        def sign():
            _running[key] = (time.monotonic(), request)

        def rest():
            _running.pop(key, None)

        sign()
{reads}        try:
            parts = application(environ, start_response)
        finally:
            rest()
        if isinstance(parts, (list, tuple, environ.get("wsgi.file_wrapper", tuple))):
            return parts
        return _Parts(parts, sign, rest)

    return with_watch
"""
# A WebSocket, and what stands in nginx.websocket, may be silent for an hour.
_SILENT = """        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if "HTTP_UPGRADE" in environ or path.startswith({paths}):
            return application(environ, start_response)
"""
_GTHREAD = """

def watched(application, worker):
    def stop():
        worker.alive = False

    return _ending(application, stop)
"""
_GRANIAN = """
import signal


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


app = _ending(app, stop)
"""


def in_uwsgi(seconds: int | None, notices_gone: bool, reads_slowly: bool) -> str:
    """Text that watches `app` in uWSGI. seconds: without a sign of life, None if uWSGI alone counts them.

    notices_gone: nginx closes the connection of a client that has gone. reads_slowly: a body arrives while the
    application reads it.
    """
    skips = _SKIPS.format(connection="uwsgi.connection_fd()") if notices_gone else ""
    text = _GONE if notices_gone else ""
    if seconds is None:
        return text + _UWSGI.format(skips=skips, answer=_WHOLE)
    text += _PARTS + (_BODY if reads_slowly else "")
    answer = _SIGNED.format(seconds=seconds, reads=_READS if reads_slowly else "")
    return text + _UWSGI.format(skips=skips, answer=answer)


def in_sync_worker(notices_gone: bool) -> str:
    """Text of `watched` for gunicorn's sync workers, whose master ends those that hang."""
    return _gunicorn_gone(notices_gone) + _PARTS + _SYNC.format(skips=_gunicorn_skips(notices_gone))


def in_threads(seconds: int, notices_gone: bool, reads_slowly: bool, silent_paths: tuple[str, ...]) -> str:
    """Text of `watched` for gunicorn's gthread workers. silent_paths: URL paths that may be silent."""
    text = _gunicorn_gone(notices_gone) + _PARTS + (_BODY if reads_slowly else "")
    text += _THREADS.format(
        seconds=seconds,
        skips=_gunicorn_skips(notices_gone),
        reads=_READS if reads_slowly else "",
        silent=_SILENT.format(paths=repr(silent_paths)),
    )
    return text + _GTHREAD


def in_granian(seconds: int, reads_slowly: bool) -> str:
    """Text that watches `app` in Granian's WSGI workers, which tell nothing of their connections."""
    text = _PARTS + (_BODY if reads_slowly else "")
    reads = _READS if reads_slowly else ""
    return text + _THREADS.format(seconds=seconds, skips="", reads=reads, silent="") + _GRANIAN


def _gunicorn_gone(notices_gone: bool) -> str:
    return _GONE if notices_gone else ""


def _gunicorn_skips(notices_gone: bool) -> str:
    return _SKIPS.format(connection='environ["gunicorn.socket"]') if notices_gone else ""
