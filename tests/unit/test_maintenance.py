"""A site in maintenance: what the setting and the command do on a server, and what is refused."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import paths
from tests.unit.machine import module
from tests.unit.machine.server import Server

maintenance = module("maintenance")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setattr(paths, "ROOT", f"{server.root}/srv")
    yield server
    server.close()


def closed(server: Server) -> bool:
    return (server.site / "maintenance").is_file()


def release(server: Server, enabled: bool | None, behaviour: str = "ok", wanted: int = 0) -> str:
    """Release something else than before, in which nginx.maintenance.enabled has a value."""
    nginx = {} if enabled is None else {"maintenance": {"enabled": enabled}}
    config = {"nginx": nginx, "release": {"generation": int(time.monotonic() * 1000)}}
    return server.apply(server.archive(behaviour, config=config), {"KEY": "one"}, wanted=wanted)


def ordered(*arguments: str) -> tuple[int, str]:
    lines: list[str] = []
    status = maintenance.command(list(arguments), lines.append, lambda text, _: lines.append(text))
    return status, "\n".join(lines)


def test_the_command_decides_until_a_release_changes_the_setting(server: Server) -> None:
    release(server, None)
    assert not closed(server)
    status, line = ordered("on")
    assert (status, closed(server)) == (0, True)
    assert line.startswith("site app: in maintenance since 2")
    assert line.endswith(" UTC (by wsgi-ecs-maintenance)")
    last = release(server, False).splitlines()[-1]
    assert closed(server), "the setting is what it was"
    assert "serves; the site is in maintenance since " in last
    release(server, True)
    assert ordered("off") == (0, "site app: not in maintenance")
    release(server, True)
    assert not closed(server), "the setting is what it was"
    release(server, False)
    release(server, True)
    assert closed(server)
    assert ordered("status")[1].endswith("(by nginx.maintenance.enabled)")
    release(server, None)
    assert not closed(server)


def test_a_release_that_is_refused_leaves_the_site_as_it_was(server: Server) -> None:
    release(server, None)
    release(server, True, "nginx", wanted=1)
    assert not closed(server)
    release(server, True)
    release(server, False, "nginx", wanted=1)
    assert closed(server)
    assert ordered("off")[0] == 0
    release(server, True)
    assert not closed(server), "the refused release has changed nothing"


@pytest.mark.parametrize("enabled", [True, False])
def test_what_somebody_orders_while_a_release_is_undone_stays(server: Server, enabled: bool) -> None:
    release(server, not enabled)
    before = maintenance.snapshot("app")
    maintenance.turn("app", enabled, maintenance.SETTING)
    after = maintenance.snapshot("app")
    for word in ("on", "off", "on") if enabled else ("on",):
        assert ordered(word)[0] == 0
        maintenance.restore(before, after)
        assert closed(server) == (word == "on")
    maintenance.turn("app", False, maintenance.COMMAND)
    maintenance.turn("app", True, maintenance.SETTING)
    # Nobody has ordered anything.
    maintenance.restore(before, maintenance.snapshot("app"))
    assert closed(server) is not enabled


def test_an_order_reaches_a_site_that_the_refused_release_has_closed_itself(server: Server) -> None:
    release(server, None)
    bad = server.archive("nginx", config={"nginx": {"maintenance": {"enabled": True}}})
    # The order comes while the program of the refused release is stopped.
    seen: list[bool] = []
    answer = server.manager.answer

    def ordering(*words: str) -> Any:
        if words[0] == "stop" and not seen:
            seen.append(closed(server))
            assert ordered("on")[0] == 0
        return answer(*words)

    server._handlers[server.manager.command] = ordering
    server.apply(bad, {"KEY": "one"}, wanted=1)
    assert seen == [True]
    assert closed(server)


def test_a_rollback_never_opens_a_closed_site(server: Server) -> None:
    release(server, None)
    old = server.serving
    release(server, None)
    assert ordered("on")[0] == 0
    server.kept("rollback")
    assert (server.serving, closed(server)) == (old, True)
    server.kept("rollback")
    config = server.site / "releases" / str(old) / "config/server.conf"
    text = config.read_text()
    config.write_text(text.replace("$wsgi_maintenance_app", "$document_root"))
    said = server.kept("rollback", wanted=2)
    assert f"site app is in maintenance, and release {old} would open it" in said
    assert said.count("\n") == 1
    pinned = json.dumps({"env": {}, "files": {}, "pin": old})
    said = server.run(server.unpack(server.archive()), pinned, wanted=1)[1]
    assert f"release {old} would open it" in said
    assert ordered("off")[0] == 0
    server.kept("rollback")
    assert server.serving == old


def test_what_a_killed_release_has_closed_the_next_one_opens(server: Server) -> None:
    release(server, None)
    maintenance.turn("app", True, maintenance.SETTING)
    release(server, None)
    assert not closed(server)


def test_a_file_that_somebody_has_made_closes_the_site_and_is_shown(server: Server) -> None:
    release(server, None)
    (server.site / "maintenance").touch()
    assert ordered("status")[1].endswith(" UTC (by hand)")
    (server.site / "maintenance").write_text(json.dumps({"since": 1700000000, "by": "command"}))
    assert ordered("on")[1] == "site app: in maintenance since 2023-11-14 22:13:20 UTC (by wsgi-ecs-maintenance)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no argument; allowed: on, off or status, and --site with a site's name"),
        (("up",), "up: allowed: on, off or status"),
        (("on", "app"), "on app: allowed: on, off or status"),
        (("on", "--site"), "on --site: allowed: "),
        (("off", "--site", "blog"), "--site blog: no such site; allowed: app"),
        (("on", "--site=blog"), "--site blog: no such site; allowed: app"),
        (("on",), "site app waits for its first release, and answers 503 until then"),
    ],
)
def test_wrong_use_is_one_line(server: Server, arguments: tuple[str, ...], said: str) -> None:
    status, line = ordered(*arguments)
    assert status == 2
    assert line.startswith(said.replace("no argument;", "no argument:"))
    assert "\n" not in line
    assert not closed(server)


def test_one_of_several_sites_is_named(server: Server) -> None:
    (server.root / "srv/sites/blog").mkdir()
    assert ordered("off") == (2, "no --site; allowed: --site with one of app, blog")
    assert ordered("status")[1].count("not in maintenance") == 2


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("none", "site app has no nginx, which would close it; allowed: serving.front: nginx"),
        ("apart", "site app: its nginx is on another machine; run this command there"),
    ],
)
def test_a_site_that_nginx_cannot_close_here_is_refused(server: Server, front: str, said: str) -> None:
    release(server, None)
    (path,) = (path for path in (server.site / "releases").glob("*/release.json") if "bootstrap" not in str(path))
    path.write_text(json.dumps({**json.loads(path.read_text()), "front": front}))
    assert ordered("on") == (2, said)


def test_a_release_from_before_this_command_is_refused(server: Server) -> None:
    release(server, None)
    config: Path = (server.site / "current").resolve() / "server.conf"
    config.write_text(config.read_text().replace("$wsgi_maintenance_app", "$document_root"))
    assert ordered("on") == (2, "site app: its release is older than this command; run up first")


def test_a_site_that_leaves_nginx_is_open(server: Server) -> None:
    found: Any = type("Release", (), {"site": "app", "front": "none", "maintenance": False})
    maintenance.turn("app", True, maintenance.COMMAND)
    maintenance.follow(found)
    assert not closed(server)
