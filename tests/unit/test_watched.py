"""The texts that watch the requests of a worker, run as a server runs them. tests/rehearsal/test_hangs.py: servers."""

import ast
import io
import itertools
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kinds import watched

# An application in threads, as gunicorn's gthread worker calls it. The paths say what it does.
IN_THREADS = """
import sys
import threading
import time
import types


def application(environ, start_response):
    if environ["PATH_INFO"] == "/hangs":
        time.sleep(30)
    if environ["PATH_INFO"] in ("/waits", "/chat"):
        # Longer than two looks.
        time.sleep(3)
    if environ["PATH_INFO"] == "/streams":
        return parts()
    return [environ["PATH_INFO"].encode()]


def parts():
    for part in (b"1", b"2", b"3", b"4"):
        time.sleep(0.7)
        yield part


class FileWrapper:
    pass


worker = types.SimpleNamespace(alive=True)
app = watched(application, worker)


def ask(path, **more):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.file_wrapper": FileWrapper, **more}
    answer = app(environ, None)
    print(path, b"".join(answer).decode(), flush=True)
    getattr(answer, "close", lambda: None)()


for path in sys.argv[1:]:
    threading.Thread(target=ask, args=(path,), kwargs={"HTTP_UPGRADE": "websocket"} if path == "/chat" else {}).start()
    time.sleep(0.1)
for thread in threading.enumerate():
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join()
time.sleep(2.5)
print("all have ended", flush=True)
"""


def in_threads(tmp_path: Path, *paths: str) -> tuple[int, str, str]:
    """Exit code, output and messages of a worker that may be silent for a second."""
    text = watched.in_threads(1, notices_gone=False, reads_slowly=False, silent_paths=("/waits",))
    (tmp_path / "worker.py").write_text(text + IN_THREADS)
    command = [sys.executable, str(tmp_path / "worker.py"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_worker_whose_request_hangs_says_where_and_ends_when_its_other_requests_have(tmp_path: Path) -> None:
    code, out, told = in_threads(tmp_path, "/hangs", "/streams")
    assert code == 1
    assert out == "/streams 1234\n"
    assert "HARAKIRI: GET /hangs gives no sign of life for 1 s: its worker ends\n" in told
    assert told.count("HARAKIRI") == 1
    # The line of the application, as a traceback has it.
    assert 'worker.py", line' in told
    assert "in application\n" in told


def test_streams_and_what_may_be_silent_and_what_has_ended_end_no_worker(tmp_path: Path) -> None:
    code, out, told = in_threads(tmp_path, "/quick", "/streams", "/waits", "/chat")
    assert (code, told) == (0, "")
    assert sorted(out.splitlines()) == sorted(
        ["/quick /quick", "/streams 1234", "/waits /waits", "/chat /chat", "all have ended"]
    )


def loaded(text: str, **names: Any) -> dict[str, Any]:
    found = dict(names)
    exec(compile(text, "watched", "exec"), found)  # noqa: S102
    return found


class Answer:
    """An answer that knows whether it has been closed, as Werkzeug's and Django's are."""

    closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"a", b"b"])

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def harakiri(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What a worker of uWSGI has been told of its harakiri, with a connection that is open."""
    told: list[int] = []
    ours, theirs = socket.socketpair()
    module = types.ModuleType("uwsgi")
    vars(module).update(set_user_harakiri=told.append, connection_fd=ours.fileno, kept=(ours, theirs))
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    return told


def test_each_part_of_an_answer_gives_uwsgis_worker_its_seconds_anew(harakiri: list[int]) -> None:
    answer = Answer()
    app = loaded(watched.in_uwsgi(7, True, False), app=lambda environ, start: answer)["app"]
    found = app({"REQUEST_METHOD": "GET"}, None)
    assert b"".join(found) == b"ab"
    # The call, each part, and the end of the parts. Nothing is counted while the client reads.
    assert harakiri == [7, 0] * 4
    found.close()
    assert answer.closed == 1
    assert harakiri == [7, 0] * 5


def test_a_list_stays_what_it_is_and_a_file_that_uwsgi_sends_is_not_watched(harakiri: list[int]) -> None:
    for body in ([b"x"], (b"x",), io.BytesIO(b"x")):
        harakiri.clear()
        app = loaded(watched.in_uwsgi(7, True, False), app=lambda environ, start, body=body: body)["app"]
        assert app({"REQUEST_METHOD": "GET"}, None) is body
        assert harakiri == [7, 0]


@pytest.mark.parametrize("seconds", [7, None])
def test_a_page_whose_reader_has_gone_is_skipped_and_data_are_taken(harakiri: list[int], seconds: int | None) -> None:
    asked: list[str] = []
    said: list[str] = []

    def application(environ: dict[str, Any], start: object) -> list[bytes]:
        asked.append(environ["REQUEST_METHOD"])
        return [b"x"]

    app = loaded(watched.in_uwsgi(seconds, True, False), app=application)["app"]
    assert app({"REQUEST_METHOD": "GET"}, None) == [b"x"]
    sys.modules["uwsgi"].kept[1].close()
    harakiri.clear()
    assert app({"REQUEST_METHOD": "GET"}, lambda status, headers: said.append(status)) == []
    assert said == ["499 Client Closed Request"]
    assert harakiri == []
    assert app({"REQUEST_METHOD": "POST"}, None) == [b"x"]
    assert asked == ["GET", "POST"]


class Slow(io.BytesIO):
    """A body of which one read has at most so much."""

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert 0 <= size <= 65536
        return super().read(size)


def test_a_body_that_is_still_arriving_is_read_in_parts_each_of_which_is_a_sign_of_life(harakiri: list[int]) -> None:
    text = b"first\nsecond\n" + b"x" * 200_000
    seen: list[Any] = []

    def application(environ: dict[str, Any], start: object) -> list[bytes]:
        body = environ["wsgi.input"]
        seen.extend([body.readline(), body.read(7), len(body.read()), body.read(), body.getbuffer().nbytes])
        return []

    app = loaded(watched.in_uwsgi(7, False, True), app=application)["app"]
    app({"REQUEST_METHOD": "POST", "wsgi.input": Slow(text)}, None)
    assert seen == [b"first\n", b"second\n", 200_000, b"", len(text)]
    assert len(harakiri) > 6
    app = loaded(watched.in_uwsgi(7, False, True), app=lambda environ, start: list(environ["wsgi.input"]))["app"]
    assert app({"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"a\nb\n")}, None) == [b"a\n", b"b\n"]


def test_each_text_is_python_3_6() -> None:
    switches: list[tuple[bool, bool]] = list(itertools.product((True, False), (True, False)))
    texts = [
        *(watched.in_uwsgi(seconds, gone, slowly) for gone, slowly in switches for seconds in (9, None)),
        *(watched.in_threads(9, gone, slowly, ("/a",)) for gone, slowly in switches),
        *(watched.in_sync_worker(one) for one in (True, False)),
        *(watched.in_granian(9, one) for one in (True, False)),
    ]
    for text in texts:
        ast.parse(text, feature_version=(3, 6))
