"""Projects as they run on a laptop, served with what `./rehearse doctor --write` wrote and with their secrets alone."""

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from rehearsal.commands.passphrase import VARIABLE
from tests.builders.encrypted import PASSPHRASE
from tests.builders.stack import PROJECT
from tests.rehearsal.builders.stack import Done, Stack, new_stack, until


class Written(Stack):
    """A stack whose file `doctor` writes."""

    def write(self) -> None:
        """Leave the file as it is."""

    def environment(self, command: str) -> dict[str, str]:
        return {**os.environ, VARIABLE: PASSPHRASE}

    def given(self, value: str, *arguments: str) -> None:
        """Run a command that reads a value from standard input."""
        line = [sys.executable, "-m", "rehearsal", *arguments, "--stack", self.name]
        subprocess.run(line, cwd=self.folder, env=self.environment(""), input=value, text=True, check=True)


@dataclass
class Project:
    """A project that is served. doctored: what doctor printed."""

    stack: Written
    folder: Path
    address: str
    doctored: Done

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"http://{self.address}{path}", trust_env=False, timeout=10, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(f"http://{self.address}{path}", trust_env=False, timeout=20, **options)


def served(name: str, project_copy: Path) -> Iterator[Project]:
    made = new_stack(project_copy, name)
    stack = Written(made.folder, made.name)
    folder = stack.folder.parent / f"{name}-of-a-laptop"
    shutil.copytree(PROJECT / "tests/rehearsal/projects" / name, folder)
    doctored = stack.run("doctor", str(folder), "--write")
    assert doctored.code == 0, doctored.text
    assert "not written" not in doctored.text
    for line in doctored.out.splitlines():
        if line.startswith("  ./rehearse secret set "):
            stack.given("a secret of 1\n", "secret", "set", line.split()[3])
    try:
        yield Project(stack, folder, stack.up().output("address"), doctored)
    finally:
        stack.run("destroy")


@pytest.fixture(scope="module")
def chat(project_copy: Path) -> Iterator[Project]:
    yield from served("chat", project_copy)


def said(address: str, path: str, text: str) -> bytes:
    """What a websocket answers to a text."""
    with socket.create_connection((address, 80), timeout=10) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        stream = connection.makefile("rb")
        assert b" 101 " in stream.readline()
        while stream.readline() not in (b"\r\n", b""):
            pass
        # A client's frame is masked; a mask of zeros leaves the text as it is.
        connection.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode())
        first, length = stream.read(2)
        assert first == 0x81
        return stream.read(length)


def test_fastapi_is_served_with_its_websocket(chat: Project) -> None:
    assert "<h1>Chat</h1>" in chat.get("/").text
    answer = chat.get("/api/status", headers={"X-Forwarded-For": "192.0.2.1"}).json()
    assert answer["scheme"] == "http"
    assert answer["client"] not in ("", "192.0.2.1", "127.0.0.1"), "nginx names the visitor"
    assert said(chat.address, "/ws/ada", "hello") == b"ada, you said hello"


def test_a_release_of_fastapi_loses_no_page(chat: Project) -> None:
    file = chat.folder / "chat/main.py"
    file.write_text(file.read_text().replace("<h1>Chat</h1>", "<h1>Talk</h1>"))
    chat.stack.up()
    until(lambda: "<h1>Talk</h1>" in chat.get("/").text)
    assert said(chat.address, "/ws/ada", "again") == b"ada, you said again"


@pytest.fixture(scope="module")
def gallery(project_copy: Path) -> Iterator[Project]:
    yield from served("gallery", project_copy)


@pytest.fixture(scope="module")
def press(project_copy: Path) -> Iterator[Project]:
    yield from served("press", project_copy)


def test_flask_with_migrations_uploads_and_a_worker(gallery: Project) -> None:
    assert "<h1>Gallery</h1>" in gallery.get("/").text
    assert gallery.get("/static/gallery.css").status_code == 200
    picture = os.urandom(1000)
    assert gallery.post("/pictures", files={"file": ("sky.png", picture)}).status_code == 302
    until(lambda: hashlib.sha256(picture).hexdigest() in gallery.get("/").text)
    assert gallery.get("/uploads/1-sky.png").content == picture


def test_a_release_of_flask_keeps_rows_and_uploads(gallery: Project) -> None:
    file = gallery.folder / "gallery/templates/index.html"
    file.write_text(file.read_text().replace("<h1>Gallery</h1>", "<h1>Pictures</h1>"))
    gallery.stack.up()
    until(lambda: "<h1>Pictures</h1>" in gallery.get("/").text)
    assert "sky.png" in gallery.get("/").text
    assert len(gallery.get("/uploads/1-sky.png").content) == 1000


def test_django_with_mysql_media_and_a_command_at_night(press: Project) -> None:
    assert press.get("/ping/").text == "0 articles\n"
    assert "color: darkred" in press.get("/static/articles/press.css").text
    assert press.get("/static/admin/css/base.css").status_code == 200
    assert (
        press.post("/articles/new", data={"title": "Sky"}, files={"picture": ("sky.png", b"blue")}).status_code == 302
    )
    assert press.post("/articles/new", data={"title": "Sea", "draft": "1"}).status_code == 302
    answer = press.get("/media/pictures/sky.png")
    assert (answer.content, answer.headers["x-content-type-options"]) == (b"blue", "nosniff")
    assert "expire-drafts" in press.stack.shell("systemctl list-timers --all")


def test_an_administrator_who_is_made_by_hand_logs_in(press: Project) -> None:
    person = ["--noinput", "--username", "ada", "--email", "ada@example.com"]
    command = ["env", "DJANGO_SUPERUSER_PASSWORD=of-a-test", "python", "manage.py", "createsuperuser", *person]
    done = press.stack.run("run", *command)
    assert (done.code, "Superuser created" in done.text) == (0, True)
    with httpx.Client(base_url=f"http://{press.address}", trust_env=False, timeout=20) as browser:
        browser.get("/admin/login/")
        form = {"username": "ada", "password": "of-a-test", "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        assert browser.post("/admin/login/?next=/admin/", data=form).headers["location"] == "/admin/"
        assert "Site administration" in browser.get("/admin/").text
    seen = press.stack.run("run", "python", "-c", "import os; print(os.getuid() > 0, os.environ['MYSQL_HOST'])")
    assert seen.out.strip() == "True db"
    assert press.stack.run("run", "false").code == 1
