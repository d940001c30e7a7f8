"""What the sites of a machine share, put in place on a fake server; and their releases beside each other."""

import fcntl
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.archive import Archive
from contract.documents import Probe
from tests.unit.machine import module
from tests.unit.machine.promises import only_slot
from tests.unit.machine.server import Server

SHOP: dict[str, Any] = {"site": {"server_name": "shop.test"}}
BLOG: dict[str, Any] = {"site": {"location": "/blog/"}}
WIKI: dict[str, Any] = {"site": {"location": "/wiki/"}}
SITES = {"sites": {"shop": SHOP, "blog": BLOG}}
OTHERS = {"sites": {"shop": SHOP, "wiki": WIKI}}
FOLDERS = ("srv/sites/{}", "log/{}", "run/{}", "tmpfiles/wsgi-ecs-{}.conf")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of two sites, prepared for them. Parameter: what its settings say beside them."""
    server = Server({**SITES, **getattr(request, "param", {})})
    server.prepare()
    yield server
    server.close()


def status(server: Server, host: str, path: str = "/") -> int:
    """What a request from outside gets."""
    request = Probe(path=path, host=host, port=server.entrance.server_port, tls=False)
    return int(module("probe").through_entrance(request).status)


def has_only(server: Server, *sites: str) -> None:
    """Of these sites there is all that prepare makes, of any other nothing."""
    accounts = server.accounts
    own = {f"wsgi-{site}" for site in sites}
    assert {user for user in accounts.users if user.startswith("wsgi-")} == {"wsgi-build", *own}
    groups = {name: set(members) for name, members in accounts.groups.items() if name.startswith("wsgi-")}
    assert groups.pop("wsgi-build") == set()
    wanted = {name: {name} for name in own} | {f"{name}-web": {name, "wsgi-build", "www-data"} for name in own}
    assert groups == wanted
    for folder in FOLDERS:
        there = {path.name for path in (server.root / folder).parent.iterdir()} - {"nginx.log", "audit.log"}
        assert there == {(server.root / folder.format(site)).name for site in sites}, folder
    assert {part.site for block in server.loaded for part in block.parts} == set(sites)
    assert {key.rpartition("-")[0] for key in server.programs} <= set(sites)
    environments = {path.name.partition(".")[0] for path in (server.root / "etc").glob("*.env.json")}
    assert environments <= set(sites)


def test_new_sites_wait_with_users_and_folders_of_their_own(server: Server) -> None:
    # The page of the bootstrap's own site is gone with it.
    has_only(server, "shop", "blog")
    assert server.programs == {}
    assert (status(server, "shop.test"), status(server, "any.test", "/blog/")) == (503, 503)
    assert status(server, "any.test") == 404
    owned = [line.split(" ", 2) for line in (server.root / "owned").read_text().splitlines()]
    groups = {path: (group, mode) for group, mode, path in owned}
    for folder in ("srv/sites/blog", "srv/sites/blog/releases", "srv/sites/blog/slots", "log/blog"):
        assert groups[str(server.root / folder)] == ("wsgi-blog-web", "750")
    rule = (server.root / "tmpfiles/wsgi-ecs-blog.conf").read_text()
    assert rule.splitlines()[1] == f"d {server.root}/run/blog 2750 wsgi-blog wsgi-blog-web -"


@pytest.mark.parametrize("lacks", [set(), {"max_headers"}])
def test_a_directive_that_this_nginx_does_not_have_is_left_out(lacks: set[str]) -> None:
    server = Server(SITES)
    server.lacks = lacks
    try:
        server.prepare()
        (line,) = (line for line in (server.root / "etc/nginx.conf").read_text().splitlines() if "max_headers" in line)
    finally:
        server.close()
    assert line.strip() == ("# max_headers 90;" if lacks else "max_headers 90;")


def test_the_same_again_does_nothing(server: Server) -> None:
    assert server.prepare() == "wsgi-ecs: what the sites share is in place: nothing to do\n"
    # It looks whether all runs, and whether the metadata are still closed to applications.
    services, metadata = server.commands
    assert services == "systemctl is-active nginx.service ssh.service supervisor.service"
    assert metadata.endswith("metadata.sh keep")


def test_nginx_is_reloaded_only_for_what_it_reads(server: Server) -> None:
    # Until a site's first release nobody knows whether nginx has loaded its page.
    for site in ("shop", "blog"):
        server.apply(server.archive(site=site), {"KEY": site})
    host = server.host()

    def reloads(folder: Path, parts: dict[str, Any]) -> int:
        server.run(folder, json.dumps(parts), verb="prepare")
        return server.commands.count("nginx -s reload")

    # Another machine's address is read when nginx starts.
    assert reloads(server.unpack(host), {"hosts": {"app-1": "192.0.2.7"}, "tls": {}}) == 1
    same = server.host(generation=1)
    assert same.id != host.id
    assert reloads(server.unpack(same), {"hosts": {"app-1": "192.0.2.7"}, "tls": {}}) == 0
    (server.folder("shop") / "current/server.conf").unlink()
    assert reloads(server.unpack(host), {"hosts": {"app-1": "192.0.2.7"}, "tls": {}}) == 1
    other = server.host(None, "sendfile on", "sendfile off")
    assert reloads(server.unpack(other), {"hosts": {"app-1": "192.0.2.7"}, "tls": {}}) == 1


def test_the_certificate_of_the_database_stays_as_long_as_an_application_reads_it(server: Server) -> None:
    file, folder = server.root / "etc/mysql-ca.pem", server.root / "srv/host/current"
    host, again = server.host(), server.host(generation=1)

    def noted(archive: Archive, **authority: str) -> bool:
        """Whether the file is compared with what was written."""
        server.run(server.unpack(archive), json.dumps({"hosts": {}, "tls": {}, **authority}), verb="prepare")
        return str(file) in json.loads((folder / "state.json").read_text())["written"]

    assert not noted(host)
    assert noted(host, authority="TUlJQw==")
    first = file.read_text()
    assert noted(host, authority="TUlJRA==")
    assert file.read_text() != first
    server.apply(server.archive(site="shop"), {"MYSQL_SSL_CA": str(file)})
    assert noted(again), "the release that serves connects with it"
    server.apply(server.archive(site="shop"), {"KEY": "shop"})
    assert not noted(again)
    assert not file.exists()


def test_a_site_that_is_no_longer_named_is_removed_and_the_others_serve_on(server: Server) -> None:
    for site in ("shop", "blog"):
        server.apply(server.archive(site=site), {"KEY": site})
    shop = server.state(site="shop")
    program = server.programs["shop-a"]
    output = server.prepare(server.host(OTHERS))
    assert "wsgi-ecs: removing site blog\n" in output
    has_only(server, "shop", "wiki")
    assert server.programs == {"shop-a": program}
    assert set(server.history["shop"]) == {shop["release"]}
    assert (status(server, "shop.test"), status(server, "", "/blog/"), status(server, "", "/wiki/")) == (200, 404, 503)
    assert not any("shop" in command for command in server.commands if "supervisorctl" in command)


def test_the_data_of_a_removed_site_is_kept_for_a_site_of_that_name(server: Server) -> None:
    data, removed = server.folder("blog") / "data", server.root / "srv/removed/blog"
    assert data.stat().st_mode & 0o777 == 0o750
    (data / "visits.db").write_text("7")
    output = server.prepare(server.host(OTHERS))
    assert f"the data of site blog is kept in {removed}, and a site named blog gets it back" in output
    assert removed.stat().st_mode & 0o777 == 0o700
    server.prepare()
    assert (data / "visits.db").read_text() == "7"
    assert not removed.exists()
    # The folder may be another user's number now.
    assert f"wsgi-blog 644 {data}/visits.db" in (server.root / "owned").read_text()
    assert "is kept" not in server.prepare(server.host({"sites": {"blog": BLOG}})), "shop has written nothing"


@pytest.mark.parametrize(
    ("old", "new", "reason", "then"),
    [
        ("sendfile on", "no_such_directive on", "nginx refuses the configuration", "fix the setting"),
        ("shop.test", "elsewhere.test", "site shop does not answer any more: status 404", ""),
    ],
)
def test_a_configuration_that_does_not_serve_leaves_the_old_one(
    server: Server, old: str, new: str, reason: str, then: str
) -> None:
    server.apply(server.archive(site="shop"))
    loaded, current = server.loaded, (server.root / "srv/host/current").readlink()
    output = server.prepare(server.host(OTHERS, old, new), wanted=1)
    assert f"wsgi-ecs: release refused, the one before it still serves: {reason}" in output
    assert then in output.splitlines()[-1]
    assert server.loaded == loaded
    assert (server.root / "srv/host/current").readlink() == current
    assert status(server, "shop.test") == 200
    # Nothing of the sites that the refused one did not name is gone.
    assert status(server, "", "/blog/") == 503
    assert "nothing to do" in server.prepare()


def test_going_back_that_fails_is_told_and_the_next_run_ends_it(server: Server) -> None:
    server.refuses.add("reload")
    output = server.prepare(server.host(OTHERS), wanted=1)
    assert "wsgi-ecs: release failed: nginx -s reload ended with 1; and rolling back failed too: " in output
    server.refuses.clear()
    server.prepare(server.host(OTHERS))
    has_only(server, "shop", "wiki")


def test_a_run_killed_before_its_proof_is_undone_by_the_next(server: Server) -> None:
    server.apply(server.archive(site="shop"))
    bad = server.host(SITES, "shop.test", "elsewhere.test")
    server.prepare(bad, wanted=1)
    reload = next(at for at, command in enumerate(server.commands) if command.endswith("-s reload"))
    server.signal_at = (reload, signal.SIGKILL, True)
    server.prepare(bad, wanted=-signal.SIGKILL)
    server.signal_at = None
    assert status(server, "shop.test") == 404
    # What it had left is not taken for what served before.
    output = server.prepare(bad, wanted=1)
    assert "wsgi-ecs: the previous run was interrupted before its health check; rolling back\n" in output
    assert status(server, "shop.test") == 200


def test_a_killed_run_is_completed_by_the_next(server: Server) -> None:
    shop = server.archive(site="shop")
    server.apply(shop)
    turns = [(SITES, "blog"), (OTHERS, "wiki")]
    hosts = {name: server.host(config) for config, name in turns}
    releases = {name: server.archive(site=name, config=config) for config, name in turns}
    server.apply(releases["blog"], {"KEY": "blog"})
    server.prepare(hosts["wiki"])
    commands = list(server.commands)
    assert {command.split()[0] for command in commands} >= {"groupadd", "useradd", "usermod", "userdel", "groupdel"}
    for at, command in enumerate(commands):
        # What only asks leaves the machine as the command before it did.
        if "status" in command or "-t" in command.split():
            continue
        for effect in (False, True) if "reload" in command else (False,):
            (_, name), (_, old) = turns
            server.apply(releases[old], {"KEY": old})
            server.signal_at = (at, signal.SIGKILL, effect)
            server.prepare(hosts[name], wanted=-signal.SIGKILL)
            server.signal_at = None
            assert set(server.history["shop"]) == {shop.id}, command
            server.prepare(hosts[name])
            assert set(server.history["shop"]) <= {shop.id}, command
            has_only(server, "shop", name)
            assert "nothing to do" in server.prepare(hosts[name])
            turns.reverse()
    only_slot(server, shop.id, "shop")


def test_a_first_release_that_fails_leaves_the_site_waiting(server: Server) -> None:
    bad = server.archive("nginx", site="blog")
    output = server.apply(bad, wanted=1)
    assert (
        "wsgi-ecs: release refused, the site waits for its first one: GET /blog/healthz (Host: localhost) through nginx"
        in output
    )
    assert server.programs == {}
    reload = next(at for at, command in enumerate(server.commands) if command.endswith("-s reload"))
    server.signal_at = (reload, signal.SIGKILL, True)
    server.apply(bad, wanted=-signal.SIGKILL)
    server.signal_at = None
    # What a killed first release left is not taken for one that served.
    output = server.apply(server.archive("crash", site="blog"), wanted=1)
    assert "wsgi-ecs: release refused, the site waits for its first one: the application does not start" in output
    assert server.programs == {}
    assert status(server, "", "/blog/") == 503
    good = server.archive(site="blog")
    server.apply(good)
    only_slot(server, good.id, "blog")


@pytest.mark.parametrize(
    "server",
    [{"serving": {"process_manager": name}} for name in ("supervisor", "systemd", "emperor")],
    indirect=True,
    ids=lambda value: value["serving"]["process_manager"],
)
def test_the_releases_of_two_sites_share_nothing_and_leave_each_other_alone(server: Server) -> None:
    shop, blog = (server.archive(requirements=f"# {site}\n", site=site, keep=1) for site in ("shop", "blog"))
    server.apply(shop, {"KEY": "shop"})
    program = server.programs["shop-a"]
    venv = server.state(site="shop")["facts"]["venv"]
    server.apply(blog, {"KEY": "blog"})
    for name in ("crash", "500"):
        server.apply(server.archive(name, "# bad\n", site="blog"), {"KEY": "bad"}, wanted=1)
    again = server.archive(requirements="# blog 2\n", site="blog", keep=1)
    server.apply(again, {"KEY": "blog"})
    only_slot(server, shop.id, "shop")
    only_slot(server, again.id, "blog")
    # Neither stopped nor asked nor pruned by the other's.
    assert server.programs["shop-a"] is program
    assert set(server.history["shop"]) == {shop.id}
    assert {json.loads(server.programs[key].env)["KEY"] for key in ("shop-a", "blog-b")} == {"shop", "blog"}
    used = {server.state(site=site)["facts"]["venv"] for site in ("shop", "blog")}
    assert venv in used
    assert {str(path) for path in (server.root / "srv/venvs").iterdir() if path.is_dir()} == {
        str(server.root / "srv/venvs/bootstrap"),
        *used,
    }
    # Each slot of each site has its own.
    slots = [json.loads(path.read_text()) for path in server.root.glob("srv/sites/*/slots/[ab]/state.json")]
    assert len(slots) == 3
    for values in (
        [slot["endpoint"]["address"] for slot in slots],
        [slot["program"] for slot in slots],
        [slot["log"] for slot in slots],
        [slot["pidfile"] for slot in slots],
    ):
        assert len(set(values)) == len(values)
    owned = [line.split(" ", 2) for line in (server.root / "owned").read_text().splitlines()]
    owners = {path.removesuffix(".new"): group for group, _, path in owned}
    is_emperor = server.config["serving"]["process_manager"] == "emperor"
    for site in ("shop", "blog"):
        user = "wsgi-app" if is_emperor else f"wsgi-{site}"
        assert owners[f"{server.root}/etc/{site}.env.json"] == user
        assert owners[f"{server.root}/log/{site}/a.log"] == user
        kept = {path: owner for path, owner in owners.items() if path.startswith(f"{server.folder(site)}/releases/")}
        assert {owner for path, owner in kept.items() if path.endswith("/secrets.json")} == {"root"}
        assert {owner for path, owner in kept.items() if not path.endswith("/secrets.json")} == {f"{user}-web"}


def test_the_drop_ins_of_services_are_written_watched_and_removed(server: Server) -> None:
    units = server.root / "units"

    def written() -> set[str]:
        return {str(path.relative_to(units)) for path in units.rglob("*.conf")}

    restart = "{}.service.d/wsgi-ecs-restart.conf".format
    confined = "{}.service.d/wsgi-ecs-confinement.conf".format
    restarts = {restart("nginx"), restart("ssh"), restart("supervisor")}
    assert written() == restarts | {confined("nginx"), confined("supervisor")}
    # nginx from source has another one of ours beside it.
    (units / "nginx.service.d/wsgi-ecs.conf").touch()
    (units / "supervisor.service.d/by-hand.conf").touch()
    (units / restart("nginx")).write_text("# by hand\n")
    _, text = server.run(Path(), "", verb="status", wanted=1)
    assert f"edited by hand: {units}/{restart('nginx')} (changed)\n" in text
    config = {**SITES, "serving": {"process_manager": "systemd"}}
    server.prepare(server.host(config))
    assert "systemctl daemon-reload" in server.commands
    assert written() == {
        restart("nginx"),
        restart("ssh"),
        confined("nginx"),
        "nginx.service.d/wsgi-ecs.conf",
        "supervisor.service.d/by-hand.conf",
    }
    assert "Restart=always" in (units / restart("nginx")).read_text()
    # A run that was killed may have written all the files, and systemd has not read them.
    server.prepare(server.host({**config, "release": {"generation": 1}}))
    assert "systemctl daemon-reload" in server.commands


def test_a_site_moves_to_another_location_with_its_next_release() -> None:
    server = Server()
    server.apply(server.archive())
    moved = {"site": {"location": "/blog/"}}
    server.prepare(server.host(moved))
    assert status(server, "") == 200
    server.apply(server.archive(config=moved))
    assert (status(server, "", "/blog/"), status(server, "")) == (200, 404)
    server.close()


def test_without_nginx_a_site_moves_to_another_port_with_its_next_release() -> None:
    server = Server({"serving": {"front": "none"}, "sites": {"shop": {"uwsgi": {"http": "0.0.0.0:PORT"}}}})
    server.prepare()
    server.apply(server.archive(site="shop"))
    config = {**server.config, "sites": {"shop": {"uwsgi": {"http": f"0.0.0.0:{server.port + 1}"}}}}
    server.prepare(server.host(config))
    assert not any("nginx" in command for command in server.commands)
    archive = server.archive(site="shop", config=config)
    server.apply(archive)
    only_slot(server, archive.id, "shop")
    assert server.programs["shop-b"].address.endswith(f":{server.port + 1}")
    server.close()


def test_status_starts_what_does_not_run_unless_a_run_has_the_lock(server: Server) -> None:
    server.apply(server.archive(site="shop"))
    quiet = server.run(Path(), "", verb="status")[1]
    assert "started again" not in quiet
    server.down = {"nginx.service"}
    # Whoever asks for figures only looks.
    server.run(Path(), "", verb="status --json")
    assert server.down
    with (server.root / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server.run(Path(), "", verb="status")
    assert server.down
    _, text = server.run(Path(), "", verb="status")
    assert "started again: nginx.service\n" in text
    assert not server.down
    assert '"what": "revive"' in (server.root / "log/audit.log").read_text()


def test_a_program_that_somebody_has_stopped_is_named_by_status_and_started_by_up(server: Server) -> None:
    server.apply(server.archive(site="shop"))
    (key,) = (key for key in server.programs if key.startswith("shop-"))
    server.programs[key].stop()
    _, text = server.run(Path(), "", verb="status")
    assert "site shop was stopped by hand: wsgi-ecs-app start shop, or up, starts it\n" in text
    assert not any("restart" in command for command in server.commands)
    # The stand-in has no restart; supervisor was asked for it.
    server.run(Path(), "", verb="status --revive")
    assert f"supervisorctl restart {key}" in server.commands


def test_status_starts_a_program_that_is_gone(server: Server) -> None:
    archive = server.archive(site="shop")
    server.apply(archive)
    (key,) = (key for key in server.programs if key.startswith("shop-"))
    server.manager._stop(key)
    assert server.serves("shop") != archive.id
    _, text = server.run(Path(), "", verb="status")
    assert "started again: site shop\n" in text
    assert server.serves("shop") == archive.id


def test_a_run_starts_the_services_that_do_not_run(server: Server) -> None:
    server.down = {"supervisor.service"}
    text = server.prepare(server.host({**SITES, "release": {"generation": 7}}))
    assert "started again: supervisor.service\n" in text
    assert not server.down
