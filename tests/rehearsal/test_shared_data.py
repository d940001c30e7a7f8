"""Two app servers with one file system: what one of them writes, both have, and it outlives them.

The tests of a stack run in this order.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.rehearsal.builders.stack import Stack, new_stack, until

APPLICATION = """
import os
import socket

from flask import Flask, request

app = Flask(__name__)
MEDIA = os.path.join(os.environ["DATA_DIR"], "media")
os.makedirs(MEDIA, exist_ok=True)


@app.post("/upload/<name>")
def upload(name):
    with open(os.path.join(MEDIA, name), "ab") as file:
        file.write(request.get_data())
    return socket.gethostname()


@app.get("/media/<name>")
def media(name):
    with open(os.path.join(MEDIA, name), "rb") as file:
        return file.read(), 200, {"X-Machine": socket.gethostname()}


@app.get("/healthz")
def healthz():
    return "ok"
"""
DATA = "/srv/wsgi-ecs/sites/app/data"


class Shared:
    """nginx's machine and two app servers."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.address = stack.up().output("address")

    def ask(self, method: str, path: str, content: bytes = b"") -> httpx.Response:
        return httpx.request(method, f"http://{self.address}{path}", content=content, trust_env=False, timeout=60)

    def on(self, machine: str, *command: str) -> str:
        done = self.stack.run("ssh", "--machine", machine, "--", *command)
        assert done.code == 0, done.text
        return done.out.strip()

    def machines_that_serve(self, name: str, content: bytes) -> set[str]:
        answers = [self.ask("GET", f"/media/{name}") for _ in range(8)]
        assert [(answer.status_code, answer.content) for answer in answers] == [(200, content)] * 8
        return {answer.headers["X-Machine"] for answer in answers}


@pytest.fixture(scope="module")
def shared(project_copy: Path) -> Iterator[Shared]:
    stack = new_stack(project_copy, "shared-data")
    (stack.folder / "own").mkdir()
    (stack.folder / "own/app.py").write_text(APPLICATION)
    (stack.folder / "own/requirements.txt").write_text((stack.folder / "app/requirements.txt").read_text())
    stack.settings = {"app": {"source": "own"}, "topology": {"app_servers": 2}, "data": {"shared": True}}
    try:
        yield Shared(stack)
    finally:
        stack.run("destroy", "--force")


def test_what_one_machine_takes_both_serve_and_both_change(shared: Shared) -> None:
    writers = {shared.ask("POST", "/upload/a.txt", b"x").text for _ in range(8)}
    assert len(writers) == 2
    assert shared.machines_that_serve("a.txt", b"x" * 8) == writers
    owners = [shared.on(name, "stat", "-c", "%u:%g", f"{DATA}/media/a.txt") for name in ("app-1", "app-2")]
    assert len(set(owners)) == 1
    assert shared.on("app-2", "id", "-u", "wsgi-app") == owners[0].partition(":")[0]
    assert shared.on("app-1", "readlink", "-f", DATA) == "/srv/data/sites/app"
    assert "shared data: mounted" in shared.stack.run("status").text
    assert " unchanged" in shared.stack.up().out


def test_systemd_takes_the_units_and_a_reboot_keeps_the_data(shared: Shared) -> None:
    units = ["/etc/systemd/system/srv-data.mount", "/etc/systemd/system/wsgi-ecs-data.service"]
    shared.on("app-1", "systemd-analyze", "verify", *units)
    assert shared.on("app-1", "systemctl", "is-enabled", "srv-data.mount") == "enabled"
    started = shared.on("app-1", "stat", "-c", "%Y", "/proc/1")
    shared.stack.run("ssh", "--machine", "app-1", "--", "reboot")

    def is_back() -> bool:
        done = shared.stack.run("ssh", "--machine", "app-1", "--", "stat", "-c", "%Y", "/proc/1")
        return done.code == 0 and done.out.strip() != started

    until(is_back, 120)
    until(lambda: len(shared.machines_that_serve("a.txt", b"x" * 8)) == 2, 120)


def test_new_servers_find_the_data_of_the_old_ones(shared: Shared) -> None:
    before = shared.machines_that_serve("a.txt", b"x" * 8)
    shared.stack.settings = {**shared.stack.settings, "server": {"image": "m-other", "os": "debian12"}}
    assert " takes the data" not in shared.stack.run("preview").text
    shared.address = shared.stack.up().output("address")
    assert not shared.machines_that_serve("a.txt", b"x" * 8) & before


def test_protected_data_are_not_destroyed(shared: Shared) -> None:
    done = shared.stack.run("destroy")
    assert done.code == 1
    assert "protected" in done.text
    assert len(shared.machines_that_serve("a.txt", b"x" * 8)) == 2
