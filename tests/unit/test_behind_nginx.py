"""The modules that import an application behind nginx: what the application is told of its client."""

import asyncio
import runpy
from pathlib import Path
from typing import Any

import pytest

from kinds.behind_nginx import ASGI_WRAPPED, WRAPPED, importing
from schema.app import App

WSGI = "def application(environ, start_response):\n    return environ\n"
ASGI = "async def application(scope, receive, send):\n    send(scope)\n"


def loaded(tmp_path: Path, app: App, text: str) -> Any:
    """The application that a generated module imports."""
    (tmp_path / "generated.py").write_text((importing(app) + text).replace("@@release_dir@@", str(tmp_path)))
    return runpy.run_path(str(tmp_path / "generated.py"))["app"]


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
    (tmp_path / "behind_it.py").write_text(ASGI)
    monkeypatch.syspath_prepend(str(tmp_path))
    app = loaded(tmp_path, App(module="behind_it", callable="application"), ASGI_WRAPPED)
    sent = {**headers, "x-forwarded-for": "203.0.113.9"}
    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in sent.items()]}
    found: list[dict[str, Any]] = []
    asyncio.run(app(scope, None, found.append))
    assert [found[0][key] for key in ("client", "scheme", "server")] == [("203.0.113.9", 0), scheme, server]
    lifespan = {"type": "lifespan"}
    asyncio.run(app(lifespan, None, found.append))
    assert found[-1] == {"type": "lifespan"}
