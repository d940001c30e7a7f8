"""`./rehearse run`: a command as a site runs, and the machine's side of it."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from contract import paths
from rehearsal import cli
from rehearsal.cloud import tokens
from rehearsal.commands import run
from rehearsal.engine.errors import UserError
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
    site_command.main(["app", "python", "-c", "é"])
    folder, user, (program, command, environment) = done
    assert (folder, user) == (str(server.site / "releases" / archive.id / "app"), "wsgi-app")
    assert (program, command) == (b"python", [b"python", b"-c", "é".encode()])
    assert environment[b"TOKEN"] == b"s3cr3t"
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


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of ssh, for a stack with sites blog and shop on two app servers."""
    found: list[list[str]] = []
    records = {tokens.COMMAND: [SimpleNamespace(name=f"wsgi-ecs-dev-site-{name}-apply") for name in ("shop", "blog")]}
    state = SimpleNamespace(records=lambda type_: records.get(type_, []))
    monkeypatch.setattr(run, "existing_state", lambda _: state)
    monkeypatch.setattr(run, "machines", lambda _: ["front", "app-1", "app-2"])
    monkeypatch.setattr(run, "machine_name", lambda _, record: record)
    monkeypatch.setattr(run, "ssh_command", lambda *arguments: ["ssh", str(arguments[-1])])
    monkeypatch.setattr(os, "execvp", lambda _, words: found.append(words))
    return found


def test_it_goes_to_the_sites_machine(started: list[list[str]]) -> None:
    run.run(Path(), "dev", "shop", None, ("python", "-c", "print(1)"))
    run.run(Path(), "dev", "blog", "app-2", ("env",))
    tool = "/usr/bin/python3 -B /srv/wsgi-ecs/host/current/tool/site_command.py"
    assert started == [
        ["ssh", "app-1", "--", f"{tool} shop python -c 'print(1)'"],
        ["ssh", "app-2", "--", f"{tool} blog env"],
    ]
    for site, said in ((None, "several sites; allowed: --site with one of blog, shop"), ("x", "allowed: blog, shop")):
        with pytest.raises(UserError, match=said):
            run.run(Path(), "dev", site, None, ("env",))


def test_without_a_command_it_is_one_line() -> None:
    done = CliRunner().invoke(cli.main, ["run"])
    assert done.exit_code == 2
    assert done.output.startswith("rehearse: no command; allowed: a program and its arguments")
