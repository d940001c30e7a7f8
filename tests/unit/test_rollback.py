"""A kept release serves again, on a fake server: with what it had then, and without its commands."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.archive import Archive
from tests.unit.machine.promises import only_slot
from tests.unit.machine.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def both(server: Server) -> tuple[Archive, Archive]:
    """Two releases, of which the second one serves."""
    old, new = server.archive(requirements="# 1\n"), server.archive(requirements="# 2\n")
    server.apply(old, {"KEY": "one"})
    server.apply(new, {"KEY": "two"})
    return old, new


def rows(server: Server) -> list[dict[str, Any]]:
    return list(json.loads(server.kept("list --json")))


def states(server: Server) -> dict[str, str]:
    return {row["id"]: row["state"] for row in rows(server)}


def test_a_rollback_brings_back_the_release_before_with_its_environment(
    server: Server, both: tuple[Archive, Archive]
) -> None:
    old, new = both
    output = server.kept("rollback")
    assert f"starting release {old.id} beside {new.id}" in output
    assert "virtual environment" not in output
    assert output.splitlines()[-1] == f"wsgi-ecs: release {old.id} serves"
    assert None not in server.served
    only_slot(server, old.id)
    assert json.loads(server.env_file.read_text()) == {"KEY": "one"}
    assert states(server) == {old.id: "serves", new.id: "kept"}
    assert rows(server)[0]["rolled_back_from"] == new.id
    assert f", rolled back from {new.id}\n" in server.run(server.root, "", verb="status")[1]
    secrets = server.site / "releases" / old.id / "secrets.json"
    assert secrets.stat().st_mode & 0o777 == 0o600
    # The release before is now the one that was rolled back from.
    server.kept("rollback")
    only_slot(server, new.id)
    assert json.loads(server.env_file.read_text()) == {"KEY": "two"}
    assert rows(server)[0]["rolled_back_from"] is None


@pytest.mark.parametrize("what", ["release", "same", "rollback"])
def test_a_release_that_is_undone_as_it_was_to_be_noted_leaves_no_note(
    server: Server, both: tuple[Archive, Archive], what: str
) -> None:
    old, new = both

    def notes() -> dict[str, tuple[str, int]]:
        folders = [server.site / "releases" / archive.id for archive in both]
        return {
            str(path): (path.read_text(), path.stat().st_mtime_ns)
            for folder in folders
            for path in (folder / "secrets.json", folder / "served")
        }

    before = notes()
    # Its first state is that of the trial.
    server.faults("full-state.json-2")
    if what == "rollback":
        said = server.kept("rollback", wanted=1)
    else:
        said = server.apply(new if what == "same" else server.archive(requirements="# 3\n"), {"KEY": "3"}, wanted=1)
    server.faults()
    assert "release refused, the one before it still serves: [Errno 28] No space left on device" in said
    only_slot(server, new.id)
    assert {path: text for path, (text, _) in notes().items()} == {path: text for path, (text, _) in before.items()}
    assert [time for _, time in notes().values()][1::2] == pytest.approx([time for _, time in before.values()][1::2])
    assert [row["state"] for row in rows(server)] == ["serves", "kept", *(["refused"] if what == "release" else [])]
    assert rows(server)[1]["id"] == old.id


def test_a_release_that_is_noted_when_its_run_is_killed_serves(server: Server, both: tuple[Archive, Archive]) -> None:
    third = server.archive(requirements="# 3\n")
    server.faults("before-state.json-2")
    server.apply(third, {"KEY": "three"}, wanted=-signal.SIGKILL)
    server.faults()
    server.apply(server.archive("crash"), wanted=1)
    only_slot(server, third.id)
    assert rows(server)[0]["state"] == "serves"


def test_the_next_up_takes_the_place_of_a_rolled_back_release(server: Server, both: tuple[Archive, Archive]) -> None:
    old, new = both
    third = server.archive(requirements="# 3\n")
    server.kept("rollback")
    server.apply(third)
    only_slot(server, third.id)
    server.kept(f"rollback {old.id[:6]}")
    server.kept(f"rollback {new.id[:6]}")
    assert rows(server)[0]["rolled_back_from"] == third.id
    assert (server.root / f"srv/incoming/{third.id}.tar.gz").exists()
    assert "nothing to do" in server.apply(new, {"KEY": "two"})
    assert rows(server)[0]["rolled_back_from"] is None, "up wants what the rollback has brought"


def test_an_up_that_changes_nothing_of_the_site_does_not_undo_a_rollback(
    server: Server, both: tuple[Archive, Archive]
) -> None:
    old, new = both
    server.kept("rollback")
    folder = server.unpack(new)

    def apply(env: dict[str, str]) -> str:
        parts = {"env": env, "files": {}, "origin": {"by": "bob@example.com", "commit": "0" * 40, "clean": "yes"}}
        return server.run(folder, json.dumps(parts))[1]

    assert "was rolled back, and the one in its place goes on serving" in apply({"KEY": "two"})
    only_slot(server, old.id)
    assert rows(server)[0]["rolled_back_from"] == new.id
    assert {row["by"] for row in rows(server) if row["id"] == new.id} == {"bob@example.com"}
    # Back and forth again: what was applied last stays the same.
    server.kept("rollback")
    server.kept("rollback")
    apply({"KEY": "two"})
    only_slot(server, old.id)
    apply({"KEY": "three"})
    only_slot(server, new.id)
    assert rows(server)[0]["rolled_back_from"] is None


def test_the_archive_that_was_sent_last_stays_while_another_release_serves(
    server: Server, both: tuple[Archive, Archive]
) -> None:
    old, _ = both
    third = server.archive(requirements="# 3\n")
    pinned(server, third, old.id)
    archive = server.root / f"srv/incoming/{third.id}.tar.gz"
    for env in ({"KEY": "four"}, {"KEY": "five"}):
        for path in archive.parent.iterdir():
            os.utime(path, (1, 1))
        pinned(server, third, old.id, env)
        assert archive.exists()


def test_credentials_that_the_program_manages_stay_those_of_today() -> None:
    server = Server({"mysql": {"password": "of no matter"}, "serving": {"process_manager": "supervisor"}})
    try:
        old, new = server.archive(requirements="# 1\n"), server.archive(requirements="# 2\n")
        managed = json.loads((server.unpack(old) / "release.json").read_text())["managed"]
        name = managed[0]
        server.apply(old, {"KEY": "one", name: "before"})
        kept = json.loads((server.site / "releases" / old.id / "secrets.json").read_text())
        assert kept["env"] == {"KEY": "one"}, "a password has no second file"
        server.apply(new, {"KEY": "two", name: "today"})
        server.kept("rollback")
        only_slot(server, old.id)
        assert json.loads(server.env_file.read_text()) == {"KEY": "one", name: "today"}
    finally:
        server.close()


@pytest.mark.parametrize("by_older_tool", [True, False])
def test_commands_do_not_run_and_an_environment_that_is_there_is_not_built(server: Server, by_older_tool: bool) -> None:
    old = server.archive(requirements="# 1\n", before="touch before", after="touch after")
    server.apply(old, {"KEY": "one"})
    server.apply(server.archive(requirements="# 2\n"), {"KEY": "two"})
    folder = server.site / "releases" / old.id
    (folder / "app/before").unlink()
    (folder / "app/after").unlink(missing_ok=True)
    if by_older_tool:
        (folder / "secrets.json").unlink()
    else:
        shutil.rmtree((folder / "venv").resolve())
    output = server.kept("rollback")
    assert ("making a virtual environment" in output) is not by_older_tool
    only_slot(server, old.id)
    assert not (folder / "app/before").exists()
    assert json.loads(server.env_file.read_text()) == {"KEY": "two" if by_older_tool else "one"}


def test_a_rollback_that_is_not_healthy_leaves_the_release_serving(
    server: Server, both: tuple[Archive, Archive]
) -> None:
    old, new = both
    (server.site / "releases" / old.id / "app/behaviour").write_text("crash")
    output = server.kept("rollback", wanted=1)
    assert "release refused, the one before it still serves: the application does not start" in output
    assert set(server.served) == {new.id}
    only_slot(server, new.id)
    assert json.loads(server.env_file.read_text()) == {"KEY": "two"}


def test_an_id_that_is_not_kept_names_those_that_are(server: Server, both: tuple[Archive, Archive]) -> None:
    old, new = both
    bad = server.archive("crash")
    server.apply(bad, wanted=1)
    for words, wanted in (
        ("rollback zz", f"site app: no release zz is kept; kept: {new.id}, {old.id}"),
        (f"rollback {bad.id}", f"site app: release {bad.id} was refused when it came; kept: {new.id}, {old.id}"),
        ("rollback --site shop", "no site shop; allowed: app"),
        ("rollback a b", "unrecognized arguments: b; wsgi-ecs-release --help says more"),
    ):
        assert server.kept(words, wanted=2) == f"wsgi-ecs: {wanted}\n"
        assert server.commands == []
    assert f"release {new.id} serves already: nothing to do" in server.kept(f"rollback {new.id}")
    assert states(server) == {new.id: "serves", old.id: "kept", bad.id: "refused"}
    shutil.rmtree(server.site / "releases" / old.id)
    assert server.kept("rollback", wanted=2) == "wsgi-ecs: site app keeps no release that served before this one\n"


def test_a_beginning_that_several_ids_have_names_them(server: Server, both: tuple[Archive, Archive]) -> None:
    old, _ = both
    releases = server.site / "releases"
    twin = old.id[:4] + "00000000"
    shutil.copytree(releases / old.id, releases / twin, symlinks=True)
    assert f"several kept releases begin with {old.id[:4]}: " in server.kept(f"rollback {old.id[:4]}", wanted=2)


def test_a_rollback_behind_an_irreversible_release_wants_force(server: Server) -> None:
    first, second, third = (
        server.archive(requirements=f"# {number}\n", irreversible=number == 1) for number in range(3)
    )
    for archive in (first, second, third):
        server.apply(archive)
    server.kept("rollback")
    only_slot(server, second.id)
    refusal = server.kept(f"rollback {first.id}", wanted=2)
    assert f"the database may be too new for release {first.id}, because {second.id} after it is" in refusal
    assert refusal.endswith("allowed: --force, if you know that it is not\n")
    server.kept(f"rollback --force {first.id}")
    only_slot(server, first.id)
    server.kept(f"rollback {third.id}")
    only_slot(server, third.id)


def test_a_server_without_a_release_has_nothing_to_roll_back(server: Server) -> None:
    assert server.kept("rollback", wanted=2) == "wsgi-ecs: site app waits for its first release\n"
    assert server.kept("list") == "site app waits for its first release\n"


def test_the_list_says_what_serves_and_since_when(server: Server, both: tuple[Archive, Archive]) -> None:
    old, new = both
    server.kept("rollback")
    first, *others = server.kept("list").splitlines()
    assert first.split() == ["RELEASE", "SINCE", "STATE", "BY", "COMMIT", "SIZE"]
    assert [line.split()[0] for line in others] == [old.id, new.id]
    assert f"serves, rolled back from {new.id}" in others[0]
    assert others[0].endswith(" KiB")


def pinned(server: Server, archive: Archive, pin: str, env: dict[str, str] | None = None, wanted: int = 0) -> str:
    """Apply an archive of the sources with release.pin. Returns what the tool printed."""
    parts = {"env": env or {}, "files": {}, "pin": pin, "origin": {"by": "ann@laptop"}}
    return server.run(server.unpack(archive), json.dumps(parts), wanted=wanted)[1]


def test_a_pinned_release_serves_in_place_of_the_sources(server: Server, both: tuple[Archive, Archive]) -> None:
    old, new = both
    third = server.archive(requirements="# 3\n")
    assert f"starting release {old.id} beside {new.id}" in pinned(server, third, old.id, {"KEY": "three"})
    only_slot(server, old.id)
    assert json.loads(server.env_file.read_text()) == {"KEY": "one"}
    assert not (server.site / "releases" / third.id).exists()
    assert "ann@laptop" not in {row["by"] for row in rows(server)}, "whose content the sources are says nothing of it"
    assert "serves already" in pinned(server, server.archive(requirements="# 4\n"), old.id, {"KEY": "four"})
    assert rows(server)[0]["rolled_back_from"] is None
    server.apply(third, {"KEY": "three"})
    only_slot(server, third.id)
    server.kept(f"rollback {old.id}")
    assert "serves already" in pinned(server, third, old.id, {"KEY": "three"})
    assert rows(server)[0]["rolled_back_from"] is None, "up wants it"


def test_a_pin_that_is_not_kept_is_refused_with_those_that_are(server: Server, both: tuple[Archive, Archive]) -> None:
    old, new = both
    output = pinned(server, new, "0123456789ab", wanted=1)
    assert output == (
        "wsgi-ecs: release refused, the one before it still serves: "
        f"site app: no release 0123456789ab is kept; kept: {new.id}, {old.id}\n"
        "wsgi-ecs: next: set release.pin to one that is kept, or remove it, and run up again\n"
    )
    only_slot(server, new.id)
    assert "not JSON as" in pinned(server, new, "../x", wanted=1)


def test_a_pin_behind_an_irreversible_release_is_a_warning(server: Server) -> None:
    first, second = (server.archive(requirements=f"# {number}\n", irreversible=number == 1) for number in range(2))
    server.apply(first)
    server.apply(second)
    output = pinned(server, second, first.id)
    assert f"wsgi-ecs: warning: site app: release.pin: {first.id} is older than {second.id}, which is" in output
    only_slot(server, first.id)


def test_an_app_server_knows_a_release_by_the_name_that_the_front_has(server: Server) -> None:
    old, new = server.archive(requirements="# 1\n"), server.archive(requirements="# 2\n")
    for archive, front in ((old, "aaaaaaaaaaaa"), (new, "bbbbbbbbbbbb"), (new, "cccccccccccc")):
        origin = {"by": "ann@laptop", "front": front}
        server.run(server.unpack(archive), json.dumps({"env": {}, "files": {}, "origin": origin}))
    for name in ("bbbb", "cccc", new.id):
        assert "serves already" in server.kept(f"rollback {name}")
    assert "kept: cccccccccccc, aaaaaaaaaaaa" in server.kept("rollback dddd", wanted=2)
    server.kept("rollback aaaa")
    only_slot(server, old.id)


def audited(server: Server) -> list[dict[str, Any]]:
    log = server.root / "log/audit.log"
    assert log.stat().st_mode & 0o777 == 0o640
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_each_run_has_a_line_in_the_audit_log(server: Server, both: tuple[Archive, Archive]) -> None:
    old, new = both
    bad = server.archive("crash")
    server.apply(bad, {"SECRET": "of-nobodys-concern"}, wanted=1)
    server.kept("rollback")
    pinned(server, new, new.id)
    server.prepare()
    lines = audited(server)
    assert [(line["what"], line.get("site"), line.get("release"), line["outcome"]) for line in lines] == [
        ("apply", "app", old.id, "done"),
        ("apply", "app", new.id, "done"),
        ("apply", "app", bad.id, "refused"),
        ("rollback", "app", old.id, "done"),
        ("apply", "app", new.id, "done"),
        ("prepare", None, None, "done"),
    ]
    assert {line["who"].rpartition("@")[2] for line in lines} == {os.uname().nodename}
    assert all(line["seconds"] >= 0 and line["when"].endswith("Z") for line in lines)
    assert "nobodys" not in (server.root / "log/audit.log").read_text()
    server.kept("list")
    server.kept("rollback zz", wanted=2)
    assert len(audited(server)) == len(lines), "what changes nothing has no line"


HANG = """
import fcntl, json, signal, sys, time
with open(sys.argv[1], "a+") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    import os
    lock.write(json.dumps({"until": time.monotonic() + float(sys.argv[2]), "since": 0, "pid": os.getpid(),
        "what": "apply of site app", "who": "ann@laptop from 192.0.2.1"}))
    lock.flush()
    print("has it", flush=True)
    time.sleep(20)
"""


def hanging(server: Server, seconds: float) -> "subprocess.Popen[str]":
    """A run that has the lock and does nothing. seconds: that it says that it may take."""
    words = [sys.executable, "-c", HANG, str(server.root / "lock"), str(seconds)]
    run = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert run.stdout
    assert run.stdout.readline() == "has it\n"
    return run


def test_a_run_that_waits_says_for_whom_and_unlock_ends_a_run_that_hangs(
    server: Server, both: tuple[Archive, Archive]
) -> None:
    old, _ = both
    with hanging(server, 0) as run:
        output = server.apply(old, wanted=1)
        who = f"apply of site app by ann@laptop from 192.0.2.1, since 1970-01-01 00:00:00, process {run.pid}"
        assert f"waiting for the release that is being applied: {who}" in output.replace("08:00:00", "00:00:00")
        assert f"another release is being applied on this machine: {who}" in output.replace("08:00:00", "00:00:00")
        assert "another run has the lock of this machine: apply of site app by ann@laptop" in server.kept(
            "unlock", wanted=1
        )
        assert run.poll() is None
        output = server.kept("unlock --force")
        assert f"ending process {run.pid} (SIGTERM)" in output
        assert "the next run undoes or ends what it left" in output
        assert run.wait() == -signal.SIGTERM
    assert "no run has the lock" in server.kept("unlock")
    server.apply(old, {"KEY": "one"})


@pytest.mark.parametrize("seconds", [-1, 0.8])
def test_a_rollback_with_force_ends_a_run_that_is_overdue_and_waits_for_any_other(
    server: Server, both: tuple[Archive, Archive], seconds: float
) -> None:
    old, new = both
    with hanging(server, seconds) as run:
        output = server.kept("rollback --force", wanted=1 if seconds > 0 else 0)
        assert ("ending process" in output) is (seconds < 0)
        assert ("another release is being applied" in output) is (seconds > 0)
        run.kill()
    only_slot(server, new.id if seconds > 0 else old.id)


def test_a_process_that_only_has_the_number_of_the_one_that_had_the_lock_is_left_alone(server: Server) -> None:
    lock = server.root / "lock"
    with subprocess.Popen(["sleep", "10"]) as other, lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"until": time.monotonic(), "since": 0, "pid": other.pid, "what": "x", "who": "y"}, file)
        file.flush()
        assert "its process is not known here" in server.kept("unlock --force", wanted=1)
        assert other.poll() is None
        other.kill()
    assert Path(lock).exists()
