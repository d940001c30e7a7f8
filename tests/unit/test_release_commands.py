"""release.before and release.after on the fake server: what they see, when they run, and what a failure leaves."""

import json
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.machine import module
from tests.unit.machine.promises import only_slot
from tests.unit.machine.server import Server

MANAGERS = ("supervisor", "systemd", "emperor")
SECRET = "hunter2-геслo"
ENV = {"TOKEN": SECRET, "URL": "mysql://app:s3cr3t-pass@db/x", "DEBUG": "1", "DATA_DIR": "/srv/wsgi-ecs/sites/app/data"}


@pytest.fixture(params=MANAGERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server({"serving": {"process_manager": request.param}})
    yield server
    server.close()


@pytest.fixture
def plain() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def ran(server: Server) -> list[str]:
    """Words that the commands of a test have written into a file beside the site's folders."""
    path = server.root / "ran"
    return path.read_text().split() if path.exists() else []


def runs(server: Server, file: str) -> bool:
    """Whether a process runs whose number a test's command has written; one that has ended has no command line."""
    path = Path("/proc", (server.root / file).read_text().strip(), "cmdline")
    try:
        return path.read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def note(server: Server, word: str, more: str = "") -> list[str]:
    return ["sh", "-c", f"echo {word} >> {server.root}/ran{more}"]


def folder(server: Server, release: str) -> Path:
    return server.site / "releases" / release / "app"


def test_they_run_once_for_each_release_before_and_after_the_switch(server: Server) -> None:
    current = f" && readlink {server.site}/current >> {server.root}/ran"
    archive = server.archive(
        before=[note(server, "one", current), note(server, "two")], after=[note(server, "after", current)]
    )
    output = server.apply(archive, ENV)
    assert ran(server) == ["one", "slots/a", "two", "after", "slots/b"]
    assert output.index("release.before: sh -c") < output.index("starting release") < output.index("release.after: sh")
    only_slot(server, archive.id)
    # Neither the same release nor new secrets run them again.
    server.apply(archive, ENV)
    server.apply(archive, {**ENV, "TOKEN": "another one"})
    other = server.archive(requirements="# 2\n")
    server.apply(other)
    server.apply(archive, ENV)
    assert ran(server) == ["one", "slots/a", "two", "after", "slots/b"]
    only_slot(server, archive.id)
    # A raised generation does.
    server.apply(server.archive(before=[note(server, "three")], generation=1), ENV)
    assert ran(server)[-1] == "three"


def test_they_see_the_applications_environment_and_folder_and_no_secret_is_shown(server: Server) -> None:
    seen = "env; pwd; printf '%s\\n' half \"$URL\"; tr '\\0' ' ' < /proc/self/cmdline"
    archive = server.archive(before=[["sh", "-c", seen]])
    output = server.apply(archive, ENV)
    assert f"| APP_RELEASE={archive.id}\n" in output
    assert f"| PATH={server.root}/srv/venvs/" in output
    assert f"| {folder(server, archive.id)}\n" in output
    assert "| DEBUG=1\n" in output
    assert "| DATA_DIR=/srv/wsgi-ecs/sites/app/data\n" in output
    assert "| TOKEN=***\n" in output
    assert SECRET not in output
    assert "s3cr3t-pass" not in output


def test_one_that_may_not_write_is_told_where_it_may(plain: Server) -> None:
    plain.apply(plain.archive())
    fails = ["sh", "-c", "echo 'sqlite3.OperationalError: unable to open database file'; exit 1"]
    output = plain.apply(plain.archive(before=[fails]), ENV, wanted=1)
    assert "next: a release is read-only: have the application write to DATA_DIR" in output.splitlines()[-1]
    output = plain.apply(plain.archive(after=[fails]), ENV)
    assert "wsgi-ecs: next: a release is read-only" in output


def test_one_that_fills_the_disk_is_told_what_takes_the_place(plain: Server) -> None:
    plain.apply(plain.archive())
    (plain.site / "data").mkdir(exist_ok=True)
    (plain.site / "data/large").write_bytes(bytes(3 << 20))
    fails = ["sh", "-c", "echo 'OSError: [Errno 28] No space left on device'; exit 1"]
    *lines, last = plain.apply(plain.archive(before=[fails]), ENV, wanted=1).splitlines()
    assert any(line.startswith("the server's disk has ") for line in lines)
    assert any(line.split() == ["3.0", "MiB", "data", "of", "site", "app", f"({plain.site}/data)"] for line in lines)
    assert last == ("wsgi-ecs: next: free space on the server's disk, or raise server.disk_gib, and run up again")


def test_a_failure_refuses_the_release_and_the_next_run_begins_with_it(server: Server) -> None:
    good = server.archive()
    server.apply(good, {"KEY": "one"})
    fails = f"echo so it is {SECRET}; test -e {server.root}/mended"
    archive = server.archive(before=[note(server, "one"), ["sh", "-c", fails], note(server, "two")])
    output = server.apply(archive, ENV, wanted=1)
    assert "wsgi-ecs: release refused, the one before it still serves: release.before: sh -c" in output
    assert "ended with 1\nso it is ***\n" in output
    assert output.splitlines()[-1].startswith("wsgi-ecs: next: fix the command or what it needs (release.before)")
    assert SECRET not in output
    only_slot(server, good.id)
    assert set(server.served) <= {good.id}
    assert json.loads(server.env_file.read_text()) == {"KEY": "one"}
    (server.root / "mended").touch()
    server.apply(archive, ENV)
    assert ran(server) == ["one", "two"]
    only_slot(server, archive.id)


def test_a_first_release_that_is_refused_says_what_the_site_waits_for(plain: Server) -> None:
    plain.prepare()
    config = {"sites": {"shop": {"app": {"module": "shop"}}}}
    plain.run(plain.unpack(plain.host(config)), json.dumps({"hosts": {}, "tls": {}}), verb="prepare")
    archive = plain.archive(config=config, site="shop", before=["false"])
    assert "release refused, the site waits for its first one: release.before: false ended with 1" in plain.apply(
        archive, wanted=1
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["no-such-program"], "release.before: no-such-program cannot start: No such file or directory"),
        (["./behaviour"], "cannot start: Permission denied"),
        (["sh", "-c", "kill -9 $$"], "was ended by signal 9"),
    ],
)
def test_what_cannot_run_is_refused(plain: Server, command: list[str], reason: str) -> None:
    assert reason in plain.apply(plain.archive(before=[command]), wanted=1)


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(server: Server) -> None:
    command = f"trap '' TERM; setsid sleep 600 & echo $! > {server.root}/pid; echo begun; sleep 600"
    output = server.apply(server.archive(before=[["sh", "-c", command]], before_seconds=1), wanted=1)
    assert "took longer than 1 seconds" in output
    assert "raise release.before_seconds" in output.splitlines()[-1]
    assert "begun" in output
    assert not runs(server, "pid")


def test_a_failure_after_the_switch_is_a_warning(server: Server) -> None:
    archive = server.archive(after=[["sh", "-c", "echo why; exit 3"], note(server, "next")])
    output = server.apply(archive, ENV)
    assert "| why\n" in output
    assert (
        "wsgi-ecs: warning: site app: release.after: sh -c 'echo why; exit 3' ended with 3; the release serves"
        in output
    )
    assert ran(server) == ["next"]
    only_slot(server, archive.id)


def test_a_machine_that_follows_runs_none(plain: Server) -> None:
    archive = plain.archive(before=[note(plain, "one")], after=[note(plain, "two")])
    plain.run(plain.unpack(archive), json.dumps({"env": {}, "files": {}}), verb="follow")
    only_slot(plain, archive.id)
    assert ran(plain) == []


def test_a_run_killed_in_a_command_is_completed_by_the_next(server: Server) -> None:
    good = server.archive()
    server.apply(good, ENV)
    kill = f"test -e {server.root}/killed || {{ echo $$ > {server.root}/killed; kill -9 $PPID; sleep 600; }}"
    archive = server.archive(before=[note(server, "one"), ["sh", "-c", kill]], after=[note(server, "after")])
    server.apply(archive, ENV, wanted=-signal.SIGKILL)
    assert server.serving == good.id
    assert runs(server, "killed")
    server.apply(archive, ENV)
    assert not runs(server, "killed")
    assert ran(server) == ["one", "after"]
    only_slot(server, archive.id)


def test_a_run_that_is_told_to_end_ends_its_command(server: Server) -> None:
    command = f"echo $$ > {server.root}/pid; kill -TERM $PPID; sleep 600"
    output = server.apply(server.archive(before=[["sh", "-c", command]]), wanted=1)
    assert "ended by signal 15" in output
    assert not runs(server, "pid")


def test_no_command_runs_any_more_once_the_run_is_told_to_end(server: Server) -> None:
    command = f"echo $$ > {server.root}/pid; kill -TERM $PPID; sleep 600"
    archive = server.archive(after=[["sh", "-c", command], note(server, "next")])
    output = server.apply(archive, ENV, wanted=1)
    assert "wsgi-ecs: the release serves, but its run was cut short: ended by signal 15\n" in output
    assert "warning" not in output
    assert not runs(server, "pid")
    assert ran(server) == []
    only_slot(server, archive.id)
    # The next run begins after the one that was cut short.
    server.apply(archive, ENV)
    assert ran(server) == ["next"]


def test_what_commands_make_is_not_edited_by_hand(plain: Server) -> None:
    make = "mkdir -p static/ü && echo 1 > static/ü/a.css && echo more >> behaviour.txt && rm run.sh && ln -s ü static/v"
    archive = plain.archive(before=[["sh", "-c", make]])
    plain.prepare()
    plain.apply(archive)
    said = plain.run(Path(), "", verb="status")[1]
    assert said.startswith(f"site app: release {archive.id} since ")
    assert "edited by hand" not in said
    made = folder(plain, archive.id) / "static/ü/a.css"
    made.write_text("by hand")
    assert f"edited by hand: {made} (changed)" in plain.run(Path(), "", verb="status", wanted=1)[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_the_user_exchanges_meanwhile_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handover = module("handover")
    app, secret, owner = tmp_path / "app", tmp_path / "secret", pwd.getpwnam("nobody").pw_uid
    for folder in (app / "outer/inner", app / "other", secret / "inner"):
        folder.mkdir(parents=True)
    for path in (app / "outer/inner/f", app / "other/f", secret / "f", secret / "inner/f", secret / "page"):
        path.write_text("x")
    os.link(secret / "page", app / "page")

    def and_attack(real: Callable[..., None]) -> Callable[..., None]:
        def act(*arguments: Any, **options: Any) -> None:
            real(*arguments, **options)
            for here in [app, *app.rglob("*")]:
                if here.is_dir() and not here.is_symlink() and here.stat().st_uid == owner:
                    for found in [path for path in here.iterdir() if path.is_dir() and not path.is_symlink()]:
                        found.rename(tmp_path / f"moved-{found.name}")
                        found.symlink_to(secret)

        return act

    for name in ("chown", "fchown"):
        monkeypatch.setattr(os, name, and_attack(getattr(os, name)))
    handover.give(str(app), "nobody")
    assert app.stat().st_uid == (tmp_path / "moved-outer").stat().st_uid == owner
    assert {path.stat().st_uid for path in (secret, *secret.rglob("*"))} == {0}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_folder_is_given_and_taken_back_without_following_a_link(tmp_path: Path) -> None:
    handover = module("handover")
    app, secret = tmp_path / "app", tmp_path / "secret"
    (app / "inner").mkdir(parents=True)
    (app / "inner/page").write_text("x")
    secret.write_text("s")
    secret.chmod(0o600)
    (app / "tool").symlink_to(secret)
    nobody = pwd.getpwnam("nobody")
    handover.give(str(app), "nobody")
    assert {path.lstat().st_uid for path in (app, app / "inner", app / "inner/page")} == {nobody.pw_uid}
    assert (app / "tool").lstat().st_uid == secret.stat().st_uid == 0
    # What the user may make of it.
    (app / "inner/page").chmod(0o4777)
    (app / "inner").chmod(0o777)
    (app / "evil").symlink_to(secret)
    (app / "good").symlink_to("inner/page")
    os.mkfifo(app / "pipe")
    os.link(secret, app / "second")
    for name in ("evil", "good", "pipe"):
        os.chown(app / name, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    assert handover.take_back(str(app), "root") == ["evil leads out of the application's folder"]
    assert sorted(path.name for path in app.iterdir()) == ["good", "inner", "tool"]
    assert {path.lstat().st_uid for path in app.rglob("*")} == {0}
    assert (app / "inner/page").stat().st_mode & 0o7777 == 0o750
    assert (app / "inner").stat().st_mode & 0o7777 == 0o750
    assert secret.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_folders_that_are_too_deep_are_removed_and_said(tmp_path: Path) -> None:
    handover, files = module("handover"), module("files")
    app = tmp_path / "app"
    (app / "kept").mkdir(parents=True)
    (app / "kept/page").write_text("x")
    # Each is longer than a path may be, or than Python and Linux follow.
    subprocess.run(["mkdir", "-p", f"{app}/{'/'.join('a' * 1100)}", f"{app}/{'/'.join('b' * 1100)}"], check=True)
    for number in range(1100):
        (app / f"link{number}").symlink_to(f"link{number + 1}")
        os.chown(app / f"link{number}", 1, 1, follow_symlinks=False)
    removed = handover.take_back(str(app), "root")
    assert sorted(removed)[:2] == [
        f"{'/'.join(letter * 40)}/… has more than 200 folders in one another" for letter in "ab"
    ]
    assert all(sentence.endswith("leads out of the application's folder") for sentence in sorted(removed)[2:])
    assert (app / "kept/page").stat().st_uid == 0
    assert (app / "/".join("a" * 200)).is_dir()
    assert len([*os.walk(app)]) == 2 + 2 * 200
    assert handover.take_back(str(app), "root") == []
    # As a release is removed that an older version of this tool has left.
    subprocess.run(["mkdir", "-p", f"{app}/{'/'.join('a' * 1100)}"], check=True)
    files.remove(str(app))
    assert not app.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_where_a_link_leads_is_asked_when_nobody_can_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handover = module("handover")
    app, owner = tmp_path / "app", pwd.getpwnam("nobody").pw_uid
    (app / "inner/deep").mkdir(parents=True)
    (app / "other").mkdir()
    (app / "way").symlink_to("inner/deep/../../page")
    handover.give(str(app), "nobody")
    os.chown(app / "way", owner, -1, follow_symlinks=False)
    chown, listdir = os.chown, os.listdir

    def and_attack(*arguments: Any, **options: Any) -> None:
        chown(*arguments, **options)
        if (app / "inner").stat().st_uid == owner and not (app / "inner/deep").is_symlink():
            (app / "inner/deep").rmdir()
            (app / "inner/deep").symlink_to("../other")

    monkeypatch.setattr(os, "chown", and_attack)
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=True))
    handover.take_back(str(app), "root")
    (tmp_path / "page").write_text("another site's")
    assert not (app / "way").exists()


def test_a_release_that_cannot_be_taken_back_is_discarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, documents = module("release_commands"), module("contract.documents")
    for name, is_open in (("good", False), ("broken", True), ("broken.old", True)):
        (tmp_path / name / "app").mkdir(parents=True)
        state = documents.CommandsState(is_open=is_open)
        (tmp_path / name / "commands.json").write_text(module("contract.codec").encode(state))

    def refuse(folder: str, group: str) -> list[str]:
        raise OSError(75, "Value too large", folder)

    monkeypatch.setattr(tool.handover, "take_back", refuse)
    monkeypatch.setattr(tool, "_end_marked", lambda release: None)
    said: list[str] = []
    tool.recover(SimpleNamespace(web_group="root"), str(tmp_path), said.append)
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    (line,) = said
    assert line.startswith("discarding release broken, whose commands were cut short: [Errno 75]")


def test_a_folder_is_noted_as_open_before_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed between the two would leave a folder that nobody takes back."""
    tool, files = module("release_commands"), module("files")
    monkeypatch.setattr(files, "own", lambda *_: None)
    seen: list[bool] = []
    monkeypatch.setattr(
        tool.handover, "give", lambda folder, user: seen.append(files.commands_state(str(tmp_path)).is_open)
    )
    monkeypatch.setattr(tool.handover, "take_back", lambda folder, group: [])
    monkeypatch.setattr(tool.Commands, "_run", lambda *_: None)
    commands = tool.Commands.__new__(tool.Commands)
    commands.release = SimpleNamespace(before=["true"], before_seconds=1, user="app", web_group="app", front="nginx")
    commands.unpacked = SimpleNamespace(files={})
    commands.target, commands.folder = str(tmp_path), str(tmp_path / "app")
    commands.run_before(print)
    assert seen == [True]
    assert not files.commands_state(str(tmp_path)).is_open
