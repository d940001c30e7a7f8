"""The release tool on a fake server: whatever goes wrong, what served before serves on."""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.archive import Archive
from contract.documents import Probe
from serving import make_plan, release_files
from settings.loader import parse
from tests.unit.machine import module, python36
from tests.unit.machine.promises import only_slot
from tests.unit.machine.server import Server

SECRET = "pass-wörd-密码"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def good(server: Server) -> Archive:
    """A release that serves."""
    archive = server.archive()
    server.apply(archive, {"KEY": "one"})
    return archive


@pytest.fixture(scope="module")
def steady() -> Iterator[tuple[Server, Archive]]:
    """A server and the release that serves on it, for the tests that leave both as they are."""
    server = Server()
    archive = server.archive()
    server.apply(archive, {"KEY": "one"})
    yield server, archive
    server.close()


def test_a_first_release_takes_over_from_the_built_in_page(server: Server) -> None:
    archive = server.archive()
    output = server.apply(archive, {"KEY": "one"})
    assert output.splitlines()[-1] == f"wsgi-ecs: release {archive.id} serves"
    only_slot(server, archive.id)
    assert None not in server.served
    assert json.loads(server.programs["app-b"].env) == {"KEY": "one"}
    assert server.programs["app-b"].asked[0]["PATH_INFO"] == "/healthz"
    files = [path for path in (server.site / "slots/b").iterdir() if path.is_file() and not path.is_symlink()]
    assert "@@" not in "".join(path.read_text() for path in files)


def test_a_release_that_does_not_start_leaves_the_old_one_serving(steady: tuple[Server, Archive]) -> None:
    server, good = steady
    output = server.apply(server.archive("crash"), wanted=1)
    _, computed, refusal, line, last = output.splitlines()
    assert re.fullmatch(r"wsgi-ecs: app runs [0-9]+ processes: one per CPU", computed)
    assert refusal == (
        "wsgi-ecs: release refused, the one before it still serves: "
        "the application does not start (supervisor: BACKOFF Exited too quickly)"
    )
    assert line == "ImportError: crash – 没有这个模块"
    assert last.startswith("wsgi-ecs: next: fix the application")
    assert last.endswith(f"{server.root}/log/app/a.log")
    assert set(server.served) == {good.id}
    assert not any("reload" in command for command in server.commands)
    only_slot(server, good.id)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("500", "the application answers GET /healthz (Host: localhost) with status 500: the answer"),
        ("silent", "the application does not answer GET /healthz (Host: localhost) within "),
        ("nginx", "GET /healthz (Host: localhost) through nginx gives status 500"),
    ],
)
def test_a_release_that_is_not_healthy_leaves_the_old_one_serving(
    steady: tuple[Server, Archive], behaviour: str, reason: str
) -> None:
    server, good = steady
    output = server.apply(server.archive(behaviour), {"KEY": "two"}, wanted=1)
    assert f"still serves: {reason}" in output
    line = "KeyError: what it prints as nginx asks" if behaviour == "nginx" else f"ImportError: {behaviour}"
    assert line in output
    assert "wsgi-ecs: next: " in output.splitlines()[-1]
    assert None not in server.served
    only_slot(server, good.id)
    assert json.loads(server.env_file.read_text()) == {"KEY": "one"}


def test_a_health_path_that_is_not_there_gets_the_front_page_as_a_remedy_if_that_is_good(server: Server) -> None:
    output = server.apply(server.archive("404"), wanted=1)
    last = output.splitlines()[-1]
    assert last.startswith(
        "wsgi-ecs: next: set app.health to /, which answers 2xx, or add a page at /healthz that does, and run up again"
    )
    assert "app.health to /," not in server.apply(server.archive("500"), wanted=1)


def test_a_probe_has_the_address_of_the_server_until_the_site_has_a_domain(server: Server) -> None:
    archive = server.archive()
    server.apply(archive, address="198.51.100.7")
    assert server.programs["app-b"].asked[0]["HTTP_HOST"] == "198.51.100.7"
    assert "nothing to do" in server.run(server.unpack(archive), "")[1], "nothing is said of the address"
    assert "nothing to do" in server.apply(archive, address="198.51.100.7")
    assert "serves" in server.apply(archive, address="198.51.100.8").splitlines()[-1]
    assert server.programs["app-a"].asked[0]["HTTP_HOST"] == "198.51.100.8"
    assert "not JSON as" in server.apply(archive, address="example.com\r\nX: y", wanted=1)


@pytest.mark.parametrize(
    ("behaviour", "problem", "advice"),
    [
        ("redirect", "with status 302 (Location: https://example.com/login): ", "set app.health to a path that"),
        ("400", "with status 400: ", "allow 198.51.100.7 in it (Django: ALLOWED_HOSTS) or set site.server_name"),
        ("silent", " within 1 s: ", "raise app.start_seconds (60) if"),
    ],
)
def test_a_refusal_says_what_was_asked_and_what_to_do(
    server: Server, behaviour: str, problem: str, advice: str
) -> None:
    output = server.apply(server.archive(behaviour), address="198.51.100.7", wanted=1)
    assert "GET /healthz (Host: 198.51.100.7)" in output
    assert problem in output
    assert advice in output.splitlines()[-1]


@pytest.mark.parametrize("release", [{"behaviour": "crash"}, {"requirements": "no-such-package\n"}])
def test_a_first_release_that_is_refused_has_nothing_before_it(server: Server, release: dict[str, Any]) -> None:
    for _ in range(2):
        output = server.apply(server.archive(**release), wanted=1)
        assert "release refused, the site waits for its first one: " in output
    server.apply(server.archive())
    assert "release refused, the one before it still serves: " in server.apply(server.archive(**release), wanted=1)


def test_a_first_release_that_fails_leaves_the_built_in_page(server: Server) -> None:
    server.apply(server.archive("nginx"), wanted=1)
    assert server.serving == server.state()["release"] == "bootstrap"
    assert set(server.programs) == {"app-a"}
    assert None not in server.served


@pytest.mark.parametrize(
    ("release", "refuses", "fault", "reason", "then"),
    [
        ({"requirements": "no-such-package\n"}, "", "", "No matching distribution", "fix requirements.txt"),
        ({"requirements": "# 2\n"}, "", "disk", "No space left on device", "free space on the server's disk"),
        ({"nginx": "no_such_directive on;\n"}, "", "", "nginx: [emerg] unknown directive", "fix the setting"),
        ({"nginx": "# @@no_such_fact@@\n"}, "", "", "# @@no_such_fact@@", ""),
        ({"keep": 7}, "reread", "", "ERROR: CANT_REREAD", "check on the server that supervisor runs"),
        ({"keep": 8}, "add", "", "ERROR: process group already active", "check on the server that supervisor runs"),
    ],
)
def test_what_cannot_be_put_in_place_is_refused_with_the_reason_and_what_to_do(
    steady: tuple[Server, Archive], release: dict[str, Any], refuses: str, fault: str, reason: str, then: str
) -> None:
    server, good = steady
    before = {path.name for path in (server.root / "srv/venvs").iterdir()}
    server.refuses.add(refuses)
    server.faults(fault)
    output = server.apply(server.archive(**release), {"KEY": "two"}, wanted=1)
    assert "release refused, the one before it still serves: " in output
    assert reason in output
    assert then in output.splitlines()[-1]
    assert set(server.served) <= {good.id}
    only_slot(server, good.id)
    assert json.loads(server.env_file.read_text()) == {"KEY": "one"}
    # Nothing half done is left that a later release could take for whole.
    assert not list((server.site / "releases").glob("*.*"))
    assert {path.name for path in (server.root / "srv/venvs").iterdir()} == before
    server.refuses.clear()
    server.faults()


def test_the_same_release_changes_nothing(steady: tuple[Server, Archive]) -> None:
    server, good = steady
    kept = ("slots", "releases", "current")
    before = {path: path.lstat().st_mtime_ns for name in kept for path in [server.site / name, *server.site.rglob("*")]}
    output = server.apply(good, {"KEY": "one"})
    assert output == f"wsgi-ecs: release {good.id} serves already: nothing to do\n"
    # Supervisor reads its files again and finds nothing new.
    assert {command.split()[1] for command in server.commands} <= {"status", "reread"}
    assert before == {path: path.lstat().st_mtime_ns for path in before}


def test_the_same_release_is_started_again_when_it_does_not_run(server: Server, good: Archive) -> None:
    server.programs.pop("app-b").stop()
    assert "serves" in server.apply(good, {"KEY": "one"})
    only_slot(server, good.id)


def test_a_server_that_got_other_cpus_starts_it_again(server: Server, good: Archive) -> None:
    path = server.site / "slots" / server.state()["slot"] / "state.json"
    state = server.state()
    path.write_text(json.dumps({**state, "sizes": {"cpus": "512"}}))
    server.apply(good, {"KEY": "one"})
    only_slot(server, good.id)
    assert server.state()["sizes"] == state["sizes"]
    assert "nothing to do" in server.apply(good, {"KEY": "one"})


def test_a_server_that_the_version_before_has_released_goes_on(server: Server, good: Archive) -> None:
    for slot in ("a", "b"):
        # It noted no sizes, and every field.
        path = server.site / "slots" / slot / "state.json"
        state = json.loads(path.read_text())
        state.pop("sizes", None)
        path.write_text(json.dumps({"stop_seconds": 30, "files": [], **state}))
    program = server.programs["app-b"]
    server.apply(server.archive("500"), {"KEY": "two"}, wanted=1)
    only_slot(server, good.id)
    assert server.programs["app-b"] is program
    new = server.archive(requirements="# 2\n")
    server.apply(new, {"KEY": "one"})
    only_slot(server, new.id)
    assert None not in server.served


def test_a_rotated_secret_starts_it_again(server: Server, good: Archive) -> None:
    output = server.apply(good, {"KEY": SECRET})
    only_slot(server, good.id)
    assert json.loads(server.programs["app-a"].env) == {"KEY": SECRET}
    assert SECRET not in output
    holders = [
        path
        for path in server.root.rglob("*")
        if path.is_file() and {SECRET, json.dumps(SECRET)[1:-1]} & {*path.read_text(errors="replace").split('"')}
    ]
    assert sorted(holders) == [server.env_file, server.site / "releases" / good.id / "secrets.json"]


def test_nothing_on_standard_input_keeps_the_environment(server: Server, good: Archive) -> None:
    assert "nothing to do" in server.run(server.unpack(good), "")[1]
    server.run(server.unpack(server.archive(requirements="# 2\n")), "")
    assert json.loads(server.programs["app-a"].env) == {"KEY": "one"}


def test_rubbish_on_standard_input_is_refused_and_not_repeated(steady: tuple[Server, Archive]) -> None:
    server, good = steady
    for rubbish in (f'{{"env": {{"KEY": "{SECRET}"', f'{{"env": {{"KEY": ["{SECRET}"]}}}}', f'["{SECRET}"]'):
        _, output = server.run(server.unpack(good), rubbish, wanted=1)
        assert "standard input is not JSON" in output
        assert SECRET not in output


def damage(folder: Path, what: str) -> str:
    """Damage an unpacked release; returns what the refusal names."""
    path = folder / "app/behaviour"
    if what == "changed":
        path.write_text("OK")
    elif what == "missing":
        path.unlink()
    elif what == "link":
        shutil.move(path, folder / "elsewhere")
        path.symlink_to("../elsewhere")
    elif what == "cut manifest":
        (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:100])
        return "manifest.json"
    else:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["../../escaped"] = manifest["files"].pop("app/behaviour")
        if what == "escape":
            shutil.move(path, folder / "../../escaped")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return "manifest.json"
    return "app/behaviour"


@pytest.mark.parametrize("what", ["changed", "missing", "link", "cut manifest", "escape"])
def test_a_damaged_archive_is_refused(steady: tuple[Server, Archive], what: str) -> None:
    server, good = steady
    before = set((server.site / "releases").iterdir())
    folder = server.unpack(server.archive(requirements="# damaged\n"))
    named = damage(folder, what)
    _, output = server.run(folder, "", wanted=1)
    assert f"still serves: the release is damaged: {named}" in output
    assert "wsgi-ecs: next: raise release.generation" in output
    only_slot(server, good.id)
    assert set((server.site / "releases").iterdir()) == before


def test_a_name_that_leads_out_of_the_release_is_refused(server: Server) -> None:
    unpacked = module("unpacked")
    folder = server.root / "srv/incoming/made-up"
    folder.mkdir()
    (server.root / "srv/secret").write_text("")
    files = {"../../secret": ["644", unpacked.hashlib.sha256(b"").hexdigest()]}
    identifier = unpacked.hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12]
    (folder / "manifest.json").write_text(json.dumps({"id": identifier, "files": files}))
    with pytest.raises(unpacked.ReleaseError, match="leads out of its place"):
        unpacked.Unpacked(str(folder)).install(str(server.root / "srv"), "wsgi-app-web")
    assert not list((server.root / "srv").glob(identifier + "*"))


@pytest.mark.parametrize("nginx", ["", "# other\n"])
def test_a_killed_run_is_completed_by_the_next(server: Server, good: Archive, nginx: str) -> None:
    new = server.archive(requirements="# 2\n", nginx=nginx)
    server.apply(new, {"KEY": "two"})
    commands = list(server.commands)
    assert len(commands) > 8
    assert ("nginx -s reload" in commands) == bool(nginx)
    turns = [(good, {"KEY": "one"}), (new, {"KEY": "two"})]
    for at, command in enumerate(commands):
        # What only asks leaves the machine as the command before it did.
        if "status" in command or "-t" in command:
            continue
        for effect in (False, True) if "reload" in command or "add" in command else (False,):
            (archive, env), (old, _) = turns
            server.signal_at = (at, signal.SIGKILL, effect)
            server.apply(archive, env, wanted=-signal.SIGKILL)
            server.signal_at = None
            assert server.serving in (archive.id, old.id), command
            server.apply(archive, env)
            assert None not in server.served, command
            only_slot(server, archive.id)
            turns.reverse()


@pytest.mark.parametrize("effect", [False, True])
def test_a_run_killed_before_its_proof_is_undone_by_the_next(server: Server, good: Archive, effect: bool) -> None:
    bad = server.archive("nginx", nginx="# other\n")
    server.apply(bad, {"KEY": "two"}, wanted=1)
    reload = next(at for at, command in enumerate(server.commands) if "reload" in command)
    server.signal_at = (reload, signal.SIGKILL, effect)
    server.apply(bad, {"KEY": "two"}, wanted=-signal.SIGKILL)
    server.signal_at = None
    assert server.state()["release"] == bad.id
    # Until nginx has loaded the new texts, its requests see the slot of the old texts.
    assert server.serving == (bad.id if effect else good.id)
    output = server.apply(good, {"KEY": "one"})
    assert f"the previous run was interrupted before the health check of release {bad.id}; rolling back" in output
    assert "nothing to do" in output
    assert None not in server.served
    only_slot(server, good.id)
    assert json.loads(server.env_file.read_text()) == {"KEY": "one"}


def test_nginx_is_reloaded_only_for_other_texts(server: Server, good: Archive) -> None:
    worker = server.worker
    code = server.archive(requirements="# 2\n")
    server.apply(code, {"KEY": "one"})
    assert set(server.served) == {good.id, code.id}
    server.apply(code, {"KEY": "two"})
    bad = server.archive("nginx", "# 2\n")
    server.apply(bad, {"KEY": "two"}, wanted=1)
    assert not any("reload" in command for command in server.commands)
    assert server.worker == worker
    only_slot(server, code.id)
    other = server.archive(nginx="# other\n")
    server.apply(other, {"KEY": "two"})
    assert server.commands.count("nginx -s reload") == 1
    assert set(server.served) == {code.id, other.id}
    only_slot(server, other.id)


def test_a_slot_shows_the_other_slot_to_an_nginx_that_has_its_texts(server: Server, good: Archive) -> None:
    old = server.state()
    other = server.archive(nginx="# other\n")
    server.apply(other)
    new = server.state()
    old_view, new_view = (Path(state["facts"]["view_dir"]).name for state in (old, new))
    assert old_view != new_view
    slots = server.site / "slots"
    assert (slots / new["slot"] / old_view).readlink() == Path("..", old["slot"], old_view)
    assert (slots / old["slot"] / new_view).readlink() == Path("..", new["slot"], new_view)
    view = server.site / "current" / new_view
    assert (view / "app.sock").resolve() == Path(new["endpoint"]["address"].removeprefix("unix:"))
    assert (view / "release").resolve() == server.site / "releases" / other.id


def test_a_program_is_stopped_when_its_last_connection_has_ended(server: Server, good: Archive) -> None:
    """A request that waits in the queue of the old program is answered, though nginx is not reloaded."""
    address = server.state()["endpoint"]["address"].removeprefix("unix:")
    old = server.programs[f"app-{server.state()['slot']}"]
    new = server.archive(requirements="# 2\n")
    request = module("probe")._uwsgi(Probe("/", "localhost", 80, False))
    found: list[object] = []
    # The program waits for the request of the first connection, so that the second one is in its queue.
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.connect(address)
        second.connect(address)
        second.sendall(request)

        def end() -> None:
            while server.serving != new.id:
                time.sleep(0.01)
            time.sleep(0.5)
            found.append(old.listens)
            first.sendall(request)
            found.extend(client.recv(100).startswith(b"HTTP/1.1 200") for client in (first, second))

        thread = threading.Thread(target=end)
        thread.start()
        server.apply(new)
        thread.join()
    assert found == [True, True, True]
    only_slot(server, new.id)


def test_a_run_killed_in_pip_is_completed_by_the_next(server: Server, good: Archive) -> None:
    new = server.archive(requirements="# 2\n")
    server.faults("pip")
    server.apply(new, wanted=-signal.SIGKILL)
    assert len(list((server.root / "srv/venvs").glob("*.freeze.txt"))) == 1
    server.faults()
    assert "making a virtual environment" in server.apply(new)
    only_slot(server, new.id)


def test_a_run_that_is_told_to_end_goes_back_by_itself(server: Server, good: Archive) -> None:
    new = server.archive(requirements="# 2\n", nginx="# other\n")
    server.apply(server.archive("nginx", "# 2\n", "# other\n"), wanted=1)
    reload = next(at for at, command in enumerate(server.commands) if "reload" in command)
    server.signal_at = (reload, signal.SIGTERM, True)
    assert "still serves: ended by signal 15" in server.apply(new, wanted=1)
    assert None not in server.served
    only_slot(server, good.id)


def test_going_back_that_fails_is_told_and_the_next_run_ends_it(server: Server, good: Archive) -> None:
    server.refuses.add("reload")
    output = server.apply(server.archive("ok", "# 2\n", "# other\n"), {"KEY": "two"}, wanted=1)
    assert "wsgi-ecs: release failed: nginx -s reload ended with 1; and rolling back failed too: " in output
    assert "wsgi-ecs: next: check on the server that its services run" in output
    server.refuses.clear()
    assert "nothing to do" in server.apply(good, {"KEY": "one"})
    only_slot(server, good.id)


def test_one_run_at_a_time(steady: tuple[Server, Archive]) -> None:
    server, good = steady
    with (server.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        output = server.apply(good, {"KEY": "two"}, wanted=1)
    assert "another release is being applied on this machine\n" in output
    assert "next: run up again when it has ended; one that hangs is ended by wsgi-ecs-release unlock" in output
    assert server.commands == []


def test_a_run_waits_as_long_as_the_other_may_take(steady: tuple[Server, Archive]) -> None:
    server, good = steady
    with (server.root / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(time.monotonic() + 3))
        lock.flush()
        began = time.monotonic()
        assert "another release is being applied" in server.apply(good, {"KEY": "two"}, wanted=1)
        assert time.monotonic() - began >= 2.5
    server.apply(good, {"KEY": "one"})
    assert (server.root / "lock").read_text() == ""


def test_the_commands_of_a_release_may_take_their_time(tmp_path: Path) -> None:
    tool = module("release")
    assert tool.seconds(str(tmp_path)) == tool.LOCK_SECONDS
    plan = make_plan(parse({"release": {"before": ["true", "true"], "before_seconds": 3600, "after": "true"}}, "test"))
    (tmp_path / "release.json").write_text(release_files(plan.sites[0])["release.json"])
    assert tool.seconds(str(tmp_path)) == tool.LOCK_SECONDS + 2 * 3600 + 300


def test_a_run_waits_for_the_one_that_is_under_way(steady: tuple[Server, Archive]) -> None:
    server, good = steady
    lock = (server.root / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (server.root / "output").unlink()

    def end() -> None:
        while not (server.root / "output").exists() or "waiting" not in (server.root / "output").read_text():
            time.sleep(0.005)
        lock.close()

    threading.Thread(target=end, daemon=True).start()
    *waits, done = server.apply(good, {"KEY": "one"}).splitlines()
    assert set(waits) == {"wsgi-ecs: waiting for the release that is being applied"}
    assert done.endswith("nothing to do")


def test_earlier_releases_are_linked_for_their_static_files(server: Server) -> None:
    def kept() -> list[str]:
        links = sorted(Path(server.state()["facts"]["view_dir"]).glob("kept-*"))
        assert [link.name for link in links] == [f"kept-{number}" for number in range(1, len(links) + 1)]
        return [link.readlink().name for link in links]

    # Nothing is pruned that is applied again below.
    first, second, third = (server.archive(requirements=f"# {number}\n", keep=4) for number in range(3))
    server.apply(first)
    assert kept() == []
    server.apply(second)
    assert kept() == [first.id]
    # A release that never served has no pages.
    server.apply(server.archive("crash", "# bad\n", keep=4), wanted=1)
    server.apply(third)
    assert kept() == [second.id, first.id]
    # A run that was killed may have left the release that serves without its note.
    (server.site / "releases" / third.id / "served").unlink()
    server.apply(first)
    assert kept() == [third.id, second.id]
    server.apply(third)
    # The last one that served comes first, whatever its name is.
    for number, (older, newer) in enumerate(((first, second), (second, first)), 4):
        for seconds, release in enumerate((older, newer), 1):
            note = server.site / "releases" / release.id / "served"
            note.touch()
            os.utime(note, (seconds, seconds))
        server.apply(server.archive(requirements=f"# {number}\n", keep=9))
        assert [name for name in kept() if name in (first.id, second.id)] == [newer.id, older.id]
    server.apply(server.archive(requirements="# 6\n", keep=1))
    assert kept() == []


def test_old_releases_and_their_environments_are_pruned(server: Server) -> None:
    releases, venvs, incoming = server.site / "releases", server.root / "srv/venvs", server.root / "srv/incoming"
    first, second, third = (server.archive(requirements=f"# {number}\n", keep=2) for number in range(3))
    server.apply(first)
    old = (releases / first.id / "venv").readlink()
    server.apply(second)
    server.apply(server.archive("crash", "# bad\n", keep=2), wanted=1)
    # What killed runs may have left, and archives: one of a run that waits, one that nobody wants any more.
    (releases / "0123456789ab.new").mkdir()
    (incoming / "waiting.tar.gz").write_text("")
    (incoming / "forgotten.tar.gz").write_text("")
    os.utime(incoming / "forgotten.tar.gz", (0, 0))
    server.apply(third)
    assert {path.name for path in releases.iterdir()} == {second.id, third.id}
    used = {(releases / archive.id / "venv").readlink().name for archive in (second, third)}
    beside = {f"{name}.{end}" for name in used for end in ("freeze.txt", "sbom.json")}
    assert {path.name for path in venvs.iterdir()} == {"bootstrap", *used, *beside}
    assert not old.exists()
    assert {path.name for path in incoming.glob("*.gz")} >= {f"{third.id}.tar.gz", "waiting.tar.gz"}
    assert not (incoming / "forgotten.tar.gz").exists()
    (releases / "0123456789ab.old").mkdir()
    server.apply(server.archive(keep=9))
    assert not (releases / "0123456789ab.old").exists()


def test_the_archive_of_what_serves_stays_for_new_secrets(server: Server, good: Archive) -> None:
    host = server.host()
    server.prepare(host)
    server.apply(good, {"KEY": "one"})
    incoming = server.root / "srv/incoming"
    for path in incoming.iterdir():
        os.utime(path, (0, 0))
    new = server.archive(requirements="# 2\n")
    server.apply(new, {"KEY": "one"})
    assert {path.name for path in incoming.glob("*.gz")} == {f"{host.id}.tar.gz", f"{new.id}.tar.gz"}


def test_a_release_that_served_before_serves_again_from_its_own_files(server: Server, good: Archive) -> None:
    server.apply(server.archive(requirements="# 2\n"), {"KEY": "one"})
    installed = (server.site / "releases" / good.id).stat().st_ino
    # The Python of the machine was updated meanwhile: the environment of then is no longer the right one.
    files, link = server.root / "srv/venvs/fedcba9876543210", server.site / "releases" / good.id / "venv"
    files.mkdir()
    link.unlink()
    link.symlink_to(files)
    server.apply(good, {"KEY": "one"})
    only_slot(server, good.id)
    assert (server.site / "releases" / good.id).stat().st_ino == installed
    assert Path(server.state()["facts"]["venv"]).is_dir()
    assert link.readlink() == Path(server.state()["facts"]["venv"])
    assert not files.exists()


def test_the_modes_and_groups_of_the_files(steady: tuple[Server, Archive]) -> None:
    server, good = steady
    release = server.site / "releases" / good.id
    modes = {
        server.env_file: 0o640,
        server.root / "etc/digest.key": 0o600,
        release: 0o750,
        release / "secrets.json": 0o600,
        release / "app": 0o750,
        release / "app/behaviour": 0o640,
        release / "app/静态.css": 0o640,
        release / "app/run.sh": 0o750,
        server.site / "slots/b": 0o750,
        server.site / "slots/b/server.conf": 0o640,
        server.site / "slots/b/state.json": 0o640,
    }
    assert {path: oct(path.stat().st_mode & 0o777) for path in modes} == {p: oct(mode) for p, mode in modes.items()}
    owned = [line.split(" ", 2) for line in (server.root / "owned").read_text().splitlines()]
    groups = {path.removesuffix(".new"): group for group, _, path in owned}
    assert groups[str(server.env_file)] == "wsgi-app"
    assert groups[str(server.root / "etc/digest.key")] == "root"
    assert groups.pop(str(release / "secrets.json")) == "root"
    # nginx's master alone reads what it only checks.
    checked = {path for path in groups if path.endswith("/check.conf")}
    assert {groups.pop(path) for path in checked} == {"root"}
    assert {group for path, group in groups.items() if path.startswith(str(server.site))} == {"wsgi-app-web"}
    # Nothing was readable by others before it had its owner.
    assert {mode for _, mode, path in owned if "srv/venvs" not in path} == {"600", "640", "750"}


def test_the_tool_runs_under_python_3_6_without_a_locale(server: Server) -> None:
    python = python36()
    if python is None:
        pytest.skip("no python3.6 here: the release tool was not run under CentOS 7's Python")
    good, crash = server.archive(), server.archive("crash")
    server.apply(good, {"KEY": SECRET}, python=python)
    assert "没有这个模块" in server.apply(crash, {"KEY": SECRET}, python=python, wanted=1)
    assert "nothing to do" in server.apply(good, {"KEY": SECRET}, python=python)
    only_slot(server, good.id)
    assert (server.site / "releases" / good.id / "app/静态.css").exists()


def test_files_lie_in_the_slot_that_serves_and_in_no_other(server: Server) -> None:
    def passwords() -> list[str]:
        found = list(server.site.glob("slots/*/htpasswd"))
        assert [path.parent for path in found] == [server.site.joinpath("current").resolve()]
        return [path.read_text() for path in found]

    def apply(archive: Archive, text: str = "", **options: Any) -> str:
        files = json.dumps({"env": {}, "files": {"htpasswd": text}}) if text else ""
        return server.run(server.unpack(archive), files, **options)[1]

    first, second = server.archive(), server.archive(requirements="# 2\n")
    apply(first, "one")
    assert passwords() == ["one"]
    assert f"wsgi-app-web 640 {server.site}/slots/b/htpasswd.new" in (server.root / "owned").read_text()
    apply(second)
    assert passwords() == ["one"], "nothing is said of them"
    assert "nothing to do" in apply(second, "one")
    apply(server.archive("500"), "two", wanted=1)
    assert passwords() == ["one"]
    apply(second, "two")
    assert passwords() == ["two"]
    server.apply(second)
    assert not list(server.site.glob("slots/*/htpasswd"))


@pytest.mark.parametrize("name", ["../x", "server.conf", "a/b", "", "/etc/passwd"])
def test_a_file_has_a_plain_name(server: Server, name: str) -> None:
    stdin = json.dumps({"env": {}, "files": {name: "correct horse"}})
    output = server.run(server.unpack(server.archive()), stdin, wanted=1)[1]
    assert "standard input is not JSON as" in output
    assert "correct horse" not in output
    assert server.serving == "bootstrap"


def test_a_refusal_shows_no_secret_that_the_application_printed(server: Server) -> None:
    printed = server.apply(server.archive("redirect"), {"TOKEN": "redirect"}, wanted=1)
    assert "ImportError: *** – 没有这个模块" in printed
    assert "redirect –" not in printed
