"""Releases and rollbacks that are killed with -9, at each command and wherever they replace a file or a link: the next
run completes them.
"""

import itertools
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from components.archive import Archive
from kinds.app_servers import APP_SERVERS
from kinds.process_managers import PROCESS_MANAGERS
from tests.unit.machine.promises import only_slot
from tests.unit.machine.server import Server

Turns = list[tuple[Archive, dict[str, str]]]


def kinds() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each application server under each process manager that can run it, with and without nginx."""
    direct = {"uwsgi": "http", "gunicorn": "bind", "granian": "bind"}
    for server, manager, front in itertools.product(APP_SERVERS, PROCESS_MANAGERS, ("nginx", "none")):
        if manager == "emperor" and server != "uwsgi":
            continue
        own: dict[str, Any] = {"serving": {"app_server": server, "process_manager": manager, "front": front}}
        if front == "none":
            own[server] = {direct[server]: "0.0.0.0:PORT"}
        elif server == "gunicorn":
            # The port is part of nginx's texts, so that nginx is reloaded.
            own[server] = {"bind": "127.0.0.1:PORT"}
        yield f"{server}-{manager}-{front}", own


KINDS = dict(kinds())
# The server decides little of what a run that ends in the middle leaves.
WHOLE = [kind for kind in KINDS if kind.startswith("uwsgi")]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str) -> Iterator[Server]:
    server = Server(KINDS[kind])
    yield server
    server.close()


@pytest.fixture
def turns(server: Server) -> Turns:
    """Two releases with their environments, of which the second one serves."""
    found = [
        (server.archive(requirements=f"# {key}\n", before="true", after="true"), {"KEY": key}) for key in ("one", "two")
    ]
    for archive, env in found:
        server.apply(archive, env)
    return found


def fault(at: int) -> str:
    """Killed before an odd rename and after an even one."""
    return f"{'before' if at % 2 else 'after'}-{at}"


def points(kind: str, count: int, shift: int = 0) -> range:
    """At which of `count` points a kind is killed: every third one, or each of WHOLE with `make test KINDS=all`.

    shift: so that the tests of a kind have different ones, as its neighbours have.
    """
    is_whole = kind in WHOLE and os.environ.get("KINDS") == "all"
    return range(count) if is_whole else range((list(KINDS).index(kind) + shift) % 3, count, 3)


def renames(server: Server) -> int:
    return int((server.root / "renames").read_text())


@pytest.mark.parametrize("is_rollback", [False, True], ids=["release", "rollback"])
def test_killed_where_it_replaces_a_file(kind: str, server: Server, turns: Turns, is_rollback: bool) -> None:
    def run(archive: Archive, env: dict[str, str], wanted: int = 0) -> str:
        if is_rollback:
            return server.kept(f"rollback {archive.id}", wanted=wanted)
        return server.apply(archive, env, wanted=wanted)

    run(*turns[0])
    count = renames(server)
    assert count > 8
    turns.reverse()
    for at in (point + 1 for point in points(kind, count, int(is_rollback))):
        (archive, env), (old, _) = turns
        server.faults(fault(at))
        run(archive, env, wanted=-signal.SIGKILL)
        server.faults()
        assert server.serving in (archive.id, old.id) or server.alone, at
        run(archive, env)
        assert server.alone or None not in server.served, at
        only_slot(server, archive.id)
        assert json.loads(server.env_file.read_text()) == env, at
        assert {row["state"] for row in json.loads(server.kept("list --json"))} == {"serves", "kept"}, at
        turns.reverse()


def test_killed_at_a_command(kind: str, server: Server, turns: Turns) -> None:
    # What only asks leaves the machine as the command before it did; a link alone moves the emperor.
    commands = [
        (at, command)
        for at, command in enumerate(server.commands)
        if "show" not in command and ("status" not in command or "emperor" in command)
    ]
    assert len(commands) > 4
    for at, command in (commands[point] for point in points(kind, len(commands), 2)):
        (archive, env), (old, _) = turns
        server.signal_at = (at, signal.SIGKILL, "start" in command or "add" in command or "emperor" in command)
        server.apply(archive, env, wanted=-signal.SIGKILL)
        server.signal_at = None
        assert server.serving in (archive.id, old.id) or server.alone, command
        server.apply(archive, env)
        assert server.alone or None not in server.served, command
        only_slot(server, archive.id)
        turns.reverse()


@pytest.mark.parametrize("kind", ["gunicorn-supervisor-none", "granian-systemd-none"], indirect=True)
def test_two_programs_that_share_a_port_are_one_again_and_the_next_run_says_so(server: Server, turns: Turns) -> None:
    (first, env), (second, _) = turns
    stops = [at for at, command in enumerate(server.commands) if " stop " in command]
    server.signal_at = (stops[-1], signal.SIGKILL, False)
    server.apply(first, env, wanted=-signal.SIGKILL)
    server.signal_at = None
    assert {program.release for program in server.programs.values()} == {first.id, second.id}
    text = f"interrupted: ending what it has left of release {second.id}, while release {first.id} serves"
    # Another release that does not come ends it, too.
    assert text in server.apply(server.archive("crash"), wanted=1)
    only_slot(server, first.id)
    assert "interrupted" not in server.apply(first, env)


@pytest.mark.parametrize("kind", WHOLE, indirect=True)
def test_a_release_that_is_refused_after_it_leaves_what_served(server: Server, turns: Turns) -> None:
    """The run after a killed rollback brings a release that does not start."""
    (old, _), (new, _) = turns
    bad = server.archive("crash")
    server.kept(f"rollback {old.id}")
    count = renames(server)
    server.kept(f"rollback {new.id}")
    for at in range(1, count + 1, 3):
        server.faults(fault(at))
        server.kept(f"rollback {old.id}", wanted=-signal.SIGKILL)
        server.faults()
        server.apply(bad, wanted=1)
        assert server.serving in (old.id, new.id), at
        only_slot(server, str(server.serving))
        server.kept(f"rollback {new.id}")
