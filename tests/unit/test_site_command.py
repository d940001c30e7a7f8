"""The machine's side of `run`: a command as a site runs."""

import os
import pwd
from collections.abc import Iterator
from typing import Any

import pytest

from contract import paths
from tests.unit.machine import module
from tests.unit.machine.server import Server

ENV = {"TOKEN": "s3cr3t", "DATA_DIR": "/srv/wsgi-ecs/sites/app/data"}
site_command = module("site_command")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setattr(paths, "ROOT", f"{server.root}/srv")
    monkeypatch.setattr(paths, "ETC", f"{server.root}/etc")
    yield server
    server.close()


def test_a_command_has_what_release_before_has(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = server.archive()
    server.apply(archive, ENV)
    done: list[Any] = []
    monkeypatch.setattr(pwd, "getpwnam", lambda name: name)
    monkeypatch.setattr(site_command.release_commands, "become_user", done.append)
    monkeypatch.setattr(os, "chdir", done.append)
    monkeypatch.setattr(os, "execvpe", lambda *arguments: done.append(arguments))
    monkeypatch.setenv("TERM", "vt100")
    site_command.main(["app", "python", "-c", "é"])
    folder, user, (program, command, environment) = done
    assert (folder, user) == (str(server.site / "releases" / archive.id / "app"), "wsgi-app")
    assert (program, command) == (b"python", [b"python", b"-c", "é".encode()])
    assert environment[b"TOKEN"] == b"s3cr3t"
    assert environment[b"TERM"] == b"vt100"
    assert environment[b"PATH"].startswith(f"{server.root}/srv/venvs/".encode())
    # A release ends what has its own commands' mark.
    assert module("release_commands").MARK.encode() not in environment


def test_a_command_that_cannot_start_is_one_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["shop", "ls"], "ls as site shop cannot start: no such site; allowed: app"),
        (["app", "ls"], "ls as site app cannot start: no release of the site serves here yet"),
    ):
        assert site_command.main(arguments) == 1
        assert capsys.readouterr().err == f"wsgi-ecs: {said}\n"
    assert site_command.main(["app"]) == 2
