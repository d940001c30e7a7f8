"""The modules that import an application behind nginx: what the application is told of its client."""

import asyncio
import io
import runpy
from pathlib import Path
from typing import Any

import pytest

from kinds.behind_nginx import ASGI_READING_BODIES, ASGI_WRAPPED, READING_BODIES, WRAPPED, importing
from schema.app import App

WSGI = "def application(environ, start_response):\n    return environ\n"
ASGI = "async def application(scope, receive, send):\n    send(scope)\n"


def loaded(tmp_path: Path, app: App, text: str) -> Any:
    """The application that a generated module imports."""
    (tmp_path / "generated.py").write_text((importing(app) + text).replace("@@release_dir@@", str(tmp_path)))
    return runpy.run_path(str(tmp_path / "generated.py"))["app"]


def asgi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, wrapped: str) -> Any:
    """The application that a generated module imports from a module of this name and text."""
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return loaded(tmp_path, App(module=name, callable="application"), wrapped)


def test_a_file_of_any_name_is_imported_and_told_of_its_client(tmp_path: Path) -> None:
    (tmp_path / "app/web").mkdir(parents=True)
    (tmp_path / "app/web/site.wsgi").write_text(WSGI)
    app = loaded(tmp_path, App(wsgi_file="web/site.wsgi", callable="application"), WRAPPED)
    environ = app({"HTTP_X_FORWARDED_FOR": "203.0.113.9", "HTTP_HOST": "a.example", "REMOTE_PORT": "1"}, None)
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == (
        "203.0.113.9",
        "a.example",
        "80",
    )
    assert "REMOTE_PORT" not in environ


@pytest.mark.parametrize(
    ("kind", "headers", "scheme", "server"),
    [
        ("http", {"host": "a.example"}, "http", ("a.example", 80)),
        ("http", {"host": "a.example:8443", "x-forwarded-proto": "https"}, "https", ("a.example", 443)),
        (
            "http",
            {"host": "a.example", "x-forwarded-proto": "https", "x-forwarded-port": "8443"},
            "https",
            ("a.example", 8443),
        ),
        ("websocket", {"host": "[::1]", "x-forwarded-proto": "https"}, "wss", ("[::1]", 443)),
        ("websocket", {"host": "a.example"}, "ws", ("a.example", 80)),
    ],
)
def test_an_asgi_application_finds_its_client_in_the_scope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, headers: dict[str, str], scheme: str, server: Any
) -> None:
    app = asgi(tmp_path, monkeypatch, "behind_it", ASGI, ASGI_WRAPPED)
    sent = {**headers, "x-forwarded-for": "203.0.113.9"}
    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in sent.items()]}
    found: list[dict[str, Any]] = []
    asyncio.run(app(scope, None, found.append))
    assert [found[0][key] for key in ("client", "scheme", "server")] == [("203.0.113.9", 0), scheme, server]
    lifespan = {"type": "lifespan"}
    asyncio.run(app(lifespan, None, found.append))
    assert found[-1] == {"type": "lifespan"}


def test_a_wsgi_application_gets_a_body_of_which_nothing_is_left_on_the_connection(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/site.wsgi").write_text(WSGI)
    app = loaded(tmp_path, App(wsgi_file="site.wsgi", callable="application"), READING_BODIES)
    for size in (0, 70_000):
        connection = io.BytesIO(b"x" * size)
        environ = app({"CONTENT_LENGTH": str(size), "wsgi.input": connection}, None)
        assert connection.read() == b""
        assert environ["wsgi.input"].read() == b"x" * size


def test_an_asgi_application_leaves_nothing_of_a_body_when_its_answer_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "async def application(scope, receive, send):\n"
        "    await send({'type': 'http.response.start'})\n"
        "    await receive()\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    app = asgi(tmp_path, monkeypatch, "answers_at_once", text, ASGI_READING_BODIES)
    events: list[str] = []
    left = [True, True, False]

    async def receive() -> dict[str, Any]:
        events.append("read")
        return {"type": "http.request", "more_body": left.pop(0)}

    async def send(message: dict[str, Any]) -> None:
        events.append(message["type"])

    asyncio.run(app({"type": "http"}, receive, send))
    assert events == ["http.response.start", "read", "read", "read", "http.response.body"]


def test_an_asgi_application_that_waits_for_its_clients_end_meanwhile_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import asyncio\n\n\n"
        "async def application(scope, receive, send):\n"
        "    async def until_end():\n"
        "        while (await receive())['type'] != 'http.disconnect':\n"
        "            pass\n"
        "    waits = asyncio.ensure_future(until_end())\n"
        "    await asyncio.sleep(0)\n"
        "    await send({'type': 'http.response.start'})\n"
        "    await send({'type': 'http.response.body'})\n"
        "    await waits\n"
    )
    app = asgi(tmp_path, monkeypatch, "streams", text, ASGI_READING_BODIES)
    parts = [False]
    sent: list[str] = []

    async def serve() -> None:
        answered = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.01)
            if parts:
                return {"type": "http.request", "more_body": parts.pop(0)}
            # As from a server: the client's end comes after the answer.
            await answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["type"])
            if message["type"] == "http.response.body":
                answered.set()

        await asyncio.wait_for(app({"type": "http"}, receive, send), 10)

    asyncio.run(serve())
    assert sent == ["http.response.start", "http.response.body"]
