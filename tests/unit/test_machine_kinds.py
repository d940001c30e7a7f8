"""The release tool with each app server, process manager and front: the promises are the same for all."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.archive import Archive
from tests.unit.machine.application import Application
from tests.unit.machine.promises import only_slot
from tests.unit.machine.server import Server

GUNICORN = {"app_server": "gunicorn"}
BEHIND_NGINX: dict[str, dict[str, Any]] = {
    "uwsgi-tcp": {"uwsgi": {"socket": "127.0.0.1:PORT"}},
    "uwsgi-http-socket": {"uwsgi": {"http_socket": "unix"}},
    "uwsgi-http": {"uwsgi": {"http": "127.0.0.1:PORT"}},
    "uwsgi-command-line": {"uwsgi": {"config": "command_line"}},
    "gunicorn": {"serving": GUNICORN},
    "gunicorn-tcp": {"serving": GUNICORN, "gunicorn": {"bind": "127.0.0.1:PORT"}},
    "systemd": {"serving": {"process_manager": "systemd"}},
    "systemd-forking": {"serving": {"process_manager": "systemd"}, "uwsgi": {"daemonize": True}},
    "systemd-gunicorn": {"serving": {**GUNICORN, "process_manager": "systemd"}, "gunicorn": {"bind": "127.0.0.1:PORT"}},
    "emperor": {"serving": {"process_manager": "emperor"}},
}
DIRECT_UWSGI = {"http": "0.0.0.0:PORT"}
ALONE: dict[str, dict[str, Any]] = {
    "direct-uwsgi": {"serving": {"front": "none"}, "uwsgi": DIRECT_UWSGI},
    "direct-gunicorn": {"serving": {**GUNICORN, "front": "none"}, "gunicorn": {"bind": "0.0.0.0:PORT"}},
    "direct-systemd": {"serving": {"front": "none", "process_manager": "systemd"}, "uwsgi": DIRECT_UWSGI},
    "direct-emperor": {"serving": {"front": "none", "process_manager": "emperor"}, "uwsgi": DIRECT_UWSGI},
}
KINDS = {**BEHIND_NGINX, **ALONE}
# One for each process manager and front: these decide what a run that ends in the middle leaves.
MIDDLES = ("systemd", "emperor", "direct-uwsgi")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(KINDS[request.param])
    yield server
    server.close()


def each(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", kinds or tuple(KINDS), indirect=True)


@each()
def test_releases_take_over_from_each_other(server: Server) -> None:
    assert server.serving == "bootstrap"
    first, second = server.archive(), server.archive(requirements="# 2\n")
    server.apply(first, {"KEY": "one"})
    only_slot(server, first.id)
    server.apply(second, {"KEY": "two"})
    only_slot(server, second.id)
    program = server.programs["app-a"]
    assert json.loads(program.env) == {"KEY": "two"}
    # Without nginx, the program on trial was asked, and any of those that share the port answers after it.
    asked = {(request["HTTP_HOST"], request["PATH_INFO"]) for request in program.asked}
    assert asked == {("localhost", "/healthz")} or (server.alone and not asked)
    if not server.alone:
        assert None not in server.served
    commands = len(server.commands)
    assert "nothing to do" in server.apply(second, {"KEY": "two"})
    assert len(server.commands) < commands
    only_slot(server, second.id)


@pytest.mark.parametrize(
    ("server", "behaviour"),
    [
        *(
            (kind, "crash")
            for kind in ("gunicorn", "systemd", "emperor", "direct-uwsgi", "direct-systemd", "direct-emperor")
        ),
        *((kind, "500") for kind in ("uwsgi-http", "emperor", "direct-gunicorn")),
    ],
    indirect=["server"],
)
def test_a_broken_release_ends_with_the_old_one_serving(server: Server, behaviour: str) -> None:
    good = server.archive()
    server.apply(good, {"KEY": "one"})
    output = server.apply(server.archive(behaviour), {"KEY": "two"}, wanted=1)
    why = {
        "crash": "the application does not start (",
        "500": "the application answers GET /healthz (Host: localhost) with status 500",
    }
    assert f"release refused, the one before it still serves: {why[behaviour]}" in output
    assert f"ImportError: {behaviour} – 没有这个模块" in output
    only_slot(server, good.id)
    assert json.loads(server.env_file.read_text()) == {"KEY": "one"}
    if not server.alone:
        assert set(server.served) == {good.id}


def own_port(server: Server, archive: Archive) -> None:
    """Let a release be one of an earlier version, whose program shares its port with no other."""
    path = server.site / "releases" / archive.id / "release.json"
    path.write_text(path.read_text().replace("@@app_host@@", "0.0.0.0"))  # noqa: S104


@each("direct-gunicorn", "direct-systemd")
def test_without_nginx_the_old_one_has_the_port_until_the_new_one_has_it_too(server: Server) -> None:
    good, new = server.archive(), server.archive(requirements="# 2\n")
    server.apply(good, {"KEY": "one"})
    first = server.programs["app-b"]
    for behaviour in ("500", "crash"):
        server.apply(server.archive(behaviour), {"KEY": "two"}, wanted=1)
        assert server.programs["app-b"] is first
        assert set(server.served) == {good.id}
    server.apply(new, {"KEY": "two"})
    assert set(server.served) == {good.id, new.id}
    only_slot(server, new.id)


@each("direct-gunicorn", "direct-systemd")
def test_without_nginx_the_old_one_is_started_again_with_its_own_environment(server: Server) -> None:
    good = server.archive()
    server.apply(good, {"KEY": "one"})
    own_port(server, good)
    first = server.programs["app-b"]
    server.apply(server.archive("500"), {"KEY": "two"}, wanted=1)
    assert server.programs["app-b"] is not first
    # The program reads its environment as it starts.
    assert json.loads(server.programs["app-b"].env) == {"KEY": "one"}


@each("direct-uwsgi")
def test_without_nginx_a_refusal_before_the_start_does_not_touch_the_old_one(server: Server) -> None:
    good = server.archive()
    server.apply(good)
    first = server.programs["app-b"]
    server.apply(server.archive(requirements="no-such-package\n"), wanted=1)
    assert server.programs["app-b"] is first
    only_slot(server, good.id)
    assert not any("nginx" in command for command in server.commands)


@each("direct-uwsgi", "direct-systemd", "direct-emperor")
def test_without_nginx_a_run_killed_in_between_is_undone_by_the_next_that_fails(server: Server) -> None:
    good, new = server.archive(), server.archive(requirements="# 2\n")
    server.apply(good)
    own_port(server, good)
    server.apply(new)
    own_port(server, new)
    # The old one is gone, the new one not yet there: a systemd or supervisor that is asked to start it.
    ends = [at for at, command in enumerate(server.commands) if " start " in command or " add " in command]
    # The emperor has no command: the look after which the old one's file is gone.
    at = ends[0] if ends else next(at for at, release in enumerate(server.served) if release is None)
    server.signal_at = (at, signal.SIGKILL, not ends)
    server.apply(good, wanted=-signal.SIGKILL)
    server.signal_at = None
    assert server.serving is None
    server.apply(server.archive(requirements="no-such-package\n"), wanted=1)
    server.manager.look()
    only_slot(server, new.id)


@each("direct-uwsgi")
def test_without_nginx_an_old_one_that_a_killed_run_had_stopped_is_woken(server: Server) -> None:
    first = server.archive()
    second = server.archive(requirements="# 2\n")
    server.apply(first)
    server.apply(second)
    stopped = next(number for number, command in enumerate(server.commands) if " remove " in command)
    # Killed between supervisor's stop and its remove, and the next run is refused before it starts anything.
    server.signal_at = (stopped, signal.SIGKILL, False)
    server.apply(first, wanted=-9)
    server.signal_at = None
    server.apply(server.archive(requirements="no-such-package\n"), wanted=1)
    assert server.serving == second.id


@each(*MIDDLES)
def test_a_run_that_is_told_to_end_goes_back_by_itself(server: Server) -> None:
    good, new = server.archive(), server.archive(requirements="# 2\n")
    server.apply(good, {"KEY": "one"})
    server.apply(server.archive("500", "# 2\n"), wanted=1)
    ends = [at for at, command in enumerate(server.commands) if " start " in command or " add " in command]
    # The emperor has no command to start a program: it is asked four times before.
    server.signal_at = (ends[0] if ends else 4, signal.SIGTERM, True)
    assert "still serves: ended by signal 15" in server.apply(new, {"KEY": "two"}, wanted=1)
    only_slot(server, good.id)
    assert json.loads(server.env_file.read_text()) == {"KEY": "one"}


@each("systemd-forking", "emperor")
def test_what_an_earlier_program_left_does_not_answer_for_the_new_one(server: Server) -> None:
    good = server.archive()
    server.apply(good)
    stale = Application("stale", "ok", server.state()["endpoint"]["protocol"], f"unix:{server.root}/run/app/a.sock")
    (server.root / "run/app/a.pid").write_text("1\n")
    assert "the application does not answer" in server.apply(server.archive("silent"), wanted=1)
    assert not stale.asked
    stale.stop()
    only_slot(server, good.id)


@each("systemd-forking")
def test_a_program_starts_without_the_pidfile_and_the_socket_of_an_earlier_one(server: Server) -> None:
    (server.root / "run/app/b.pid").write_text("1\n")
    (server.root / "run/app/b.sock").touch()
    archive = server.archive()
    server.apply(archive)
    only_slot(server, archive.id)
    assert server.programs["app-b"].found == set()


@each("emperor")
def test_a_vassal_that_failed_before_is_given_another_try(server: Server) -> None:
    crash = server.archive("crash")
    for _ in range(2):
        output = server.apply(crash, wanted=1)
        assert "the application does not start (emperor: failed " in output
    # Under another name, so that the emperor does not let it wait for the failures of the one before.
    assert server.state("b")["program"] == f"app-b-{crash.id}.ini"
    assert server.serving == "bootstrap"


@each("emperor")
def test_an_emperor_that_does_not_run_is_told_with_what_to_do(server: Server) -> None:
    (server.root / "emperor.sock").unlink()
    output = server.apply(server.archive(), wanted=1)
    assert "waits for its first one: uWSGI's emperor does not answer: " in output
    assert "wsgi-ecs: next: look at systemctl status wsgi-emperor on the server" in output
    assert server.serving == "bootstrap"


@each("systemd")
def test_a_unit_that_systemd_does_not_take_leaves_the_old_one_serving(server: Server) -> None:
    good = server.archive()
    server.apply(good)
    server.refuses.add("enable")
    output = server.apply(server.archive(requirements="# 2\n"), wanted=1)
    assert "still serves: systemctl enable -q wsgi-app-a.service ended with 1" in output
    assert "Access denied" in output
    only_slot(server, good.id)


@each("direct-uwsgi")
def test_without_nginx_a_port_that_another_program_took_is_told(server: Server) -> None:
    good = server.archive()
    server.apply(good)
    server.programs["app-b"].stop()
    del server.programs["app-b"]
    other = Application("other", "500", "http", f"127.0.0.1:{server.port}")
    assert "the application does not start (supervisor: " in server.apply(good, wanted=1)
    other.stop()


@each("systemd")
def test_another_app_server_is_a_release_like_any_other(server: Server) -> None:
    uwsgi = server.archive()
    server.apply(uwsgi)
    serving = {"app_server": "gunicorn", "process_manager": "systemd"}
    config = {"serving": serving, "gunicorn": {"bind": "127.0.0.1:PORT"}}
    gunicorn = server.archive(config=config)
    server.apply(gunicorn)
    only_slot(server, gunicorn.id)
    assert server.programs["app-a"].protocol == "http"
    server.apply(server.archive("500", config=config), wanted=1)
    only_slot(server, gunicorn.id)
    server.apply(uwsgi)
    only_slot(server, uwsgi.id)


@each("uwsgi-tcp", "gunicorn-tcp")
def test_two_releases_take_two_ports_in_turn(server: Server) -> None:
    ports = []
    for number in range(3):
        server.apply(server.archive(requirements=f"# {number}\n"))
        ports.append(int(server.state()["endpoint"]["address"].rpartition(":")[2]))
    assert ports == [server.port + 1, server.port, server.port + 1]


def test_in_dynamic_mode_the_probe_names_the_application_as_nginx_does() -> None:
    server = Server({"uwsgi": {"dynamic": True}})
    archive = server.archive()
    server.apply(archive)
    asked = server.programs["app-b"].asked[0]
    assert asked["UWSGI_SCRIPT"] == "app:app"
    assert asked["UWSGI_CHDIR"] == f"{server.site}/releases/{archive.id}/app"
    assert asked["UWSGI_PYHOME"] == server.state()["facts"]["venv"]
    only_slot(server, archive.id)
    server.close()


@each("systemd")
def test_systemd_is_given_a_file_and_no_link(server: Server) -> None:
    """CentOS 7's systemd takes no link, and knows a unit by the name of what it leads to as well."""
    archive = server.archive()
    server.apply(archive)
    path = Path(server.state()["program_link"])
    assert path.is_file()
    assert not path.is_symlink()


@each("systemd")
def test_a_log_is_its_users_whoever_wrote_it_before(server: Server) -> None:
    server.apply(server.archive())
    (server.root / "owned").unlink()
    # Slot a, whose log the built-in page had written as another user.
    server.apply(server.archive(requirements="# 2\n"))
    assert f"wsgi-app 640 {server.root}/log/app/a.log" in (server.root / "owned").read_text().splitlines()
