"""Two sites on one machine, with each process manager: what happens to one leaves the other as it is."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.load import Load, loaded
from tests.rehearsal.builders.stack import Stack, asked, new_stack, tried, until

SKY = {"site": {"server_name": "sky.example.test"}, "app": {"wsgi_file": "SKY.wsgi", "callable": "application"}}
# Below the other's domain, by another server.
SEA = {"site": {"server_name": "sky.example.test", "location": "/sea/"}, "app": {"env": {"SECRET": "of-the-sea"}}}
KINDS: dict[str, dict[str, Any]] = {
    "supervisor": {
        "sites": {
            # The OS's uWSGI; elsewhere it comes from the package index.
            "sky": {**SKY, "uwsgi": {"socket": "127.0.0.1:8080", "install": "os"}},
            "sea": {**SEA, "serving": {"app_server": "gunicorn"}},
        }
    },
    "systemd": {
        "serving": {"process_manager": "systemd"},
        # A forking unit beside a hardened one.
        "sites": {"sky": {**SKY, "uwsgi": {"daemonize": True}}, "sea": {**SEA, "serving": {"app_server": "gunicorn"}}},
    },
    "emperor": {"serving": {"process_manager": "emperor"}, "sites": {"sky": SKY, "sea": SEA}},
}


class Sites:
    """A stack of two sites that is up."""

    def __init__(self, kind: str, stack: Stack) -> None:
        self.kind, self.stack = kind, stack
        self.address = stack.up().output("address")

    def get(self, path: str) -> httpx.Response:
        url = f"http://{self.address}{path}"
        return httpx.get(url, headers={"Host": "sky.example.test"}, trust_env=False, timeout=10)

    def pids(self, site: str) -> set[str]:
        """The processes that run a site's application."""
        slot = {"systemd": "slots/[ab]/", "supervisor": "slots/[ab]/", "emperor": ""}[self.kind]
        pattern = f"ini {site}-" if self.kind == "emperor" else f"sites/{site}/{slot}"
        found = set(self.stack.shell(f"pgrep -f -- '^[^ ]*(uwsgi|python3) .*{pattern}'").split())
        assert found
        return found

    def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        until(condition, seconds)


@pytest.fixture(scope="module", params=tried(KINDS, "supervisor"))
def sites(request: pytest.FixtureRequest, project_copy: Any) -> Iterator[Sites]:
    stack = new_stack(project_copy, f"sites-{request.param}")
    stack.settings = KINDS[request.param]
    try:
        yield Sites(request.param, stack)
    finally:
        stack.run("destroy")


def test_each_answers_at_its_place(sites: Sites) -> None:
    assert sites.get("/").status_code == 200
    assert sites.get("/sea/").status_code == 200
    assert sites.get("/healthz").json()["release"] != sites.get("/sea/healthz").json()["release"]
    # What an application links to is below its own place.
    assert 'href="/static/style.css' in sites.get("/Ada").text
    assert 'href="/sea/static/style.css' in sites.get("/sea/Ada").text
    assert sites.get("/sea/static/style.css").status_code == 200
    assert sites.get("/sea").headers["location"] == "http://sky.example.test/sea/"


def test_uwsgi_is_the_one_that_is_asked_for(sites: Sites) -> None:
    program = sites.stack.shell(f"readlink /proc/{min(sites.pids('sky'))}/exe")
    where = {"supervisor": "/usr/bin/uwsgi", "systemd": "/srv/wsgi-ecs/venvs/", "emperor": "/srv/wsgi-ecs/venvs/"}
    assert program.startswith(where[sites.kind])


def test_each_has_its_own_user_log_and_environment(sites: Sites) -> None:
    users = {site: sites.stack.shell(f"ps -o user:20= -p {min(sites.pids(site))}") for site in ("sky", "sea")}
    if sites.kind == "emperor":
        assert set(users.values()) == {"wsgi-app"}, "one emperor, one user"
    else:
        assert users == {"sky": "wsgi-sky", "sea": "wsgi-sea"}
        for mine, other in (("sky", "sea"), ("sea", "sky")):
            for path in (f"/etc/wsgi-ecs/{other}.env.json", f"/srv/wsgi-ecs/sites/{other}/current/"):
                sites.stack.shell(f"! runuser -u wsgi-{mine} -- test -r {path}")
                sites.stack.shell(f"runuser -u wsgi-{other} -- test -r {path}")
    for site, user in users.items():
        # Also the log of a server that writes it itself is not root's.
        owners = sites.stack.shell(f"stat -c '%U %a' /var/log/wsgi-ecs/{site}/[ab].log")
        assert set(owners.splitlines()) == {f"{user} 640"}
        pid = min(sites.pids(site))
        environment = sites.stack.shell(f"tr '\\0' '\\n' </proc/{pid}/environ")
        assert ("SECRET=of-the-sea" in environment.splitlines()) == (site == "sea")


def test_what_systemd_hides_of_tmp_holds_nobody_up(sites: Sites) -> None:
    """A socket in a /tmp of its own is the guides' trouble: ours are in /run, where nginx finds them."""
    if sites.kind == "systemd":
        assert sites.stack.shell("systemctl show -p PrivateTmp 'wsgi-sky-*'") == "PrivateTmp=yes"
    held = sites.stack.shell("ss -Hlx | awk '{print $5}'").split()
    assert not [path for path in held if path.startswith("/tmp/") and "wsgi" in path]
    assert sites.get("/healthz").status_code == sites.get("/sea/healthz").status_code == 200


def change(stack: Stack, kind: str) -> None:
    """Change what the next release of both sites brings."""
    if kind == "code":
        stack.edit("app/app.py", "GET /healthz ", "GET /healthz  ")
    elif kind == "requirements":
        with (stack.folder / "app/requirements.txt").open("a") as file:
            file.write("six==1.17.0\n")
    elif kind == "nginx":
        stack.settings = {**stack.settings, "nginx": {"client_body_timeout": 31}}
    else:
        sites = {name: {**settings} for name, settings in stack.settings["sites"].items()}
        if kind == "server":
            sites["sky"]["uwsgi"] = {**sites["sky"].get("uwsgi", {}), "harakiri": 61}
            sites["sea"]["gunicorn"] = {"max_requests": 50000}
        else:
            for site in sites.values():
                site["app"] = {**site.get("app", {}), "env": {**site.get("app", {}).get("env", {}), "TOKEN": "new"}}
        stack.settings = {**stack.settings, "sites": sites}


def loads(sites: Sites) -> list[Load]:
    """200 connections to both sites, half of them kept."""
    paths = [(f"{location}healthz", f"{location}static/style.css") for location in ("/", "/sea/")]
    return [Load(sites.address, "sky.example.test", path, connections=100, rate=150) for path in paths]


def test_a_release_under_load_loses_no_request(sites: Sites) -> None:
    """nginx is reloaded for its own settings, and for sky's port at supervisor."""
    # The switch is the same for all kinds. Where only nginx's settings change, a rollback shows the others below.
    kinds = ("code", "requirements", "server", "secrets", "nginx") if sites.kind == "supervisor" else ("nginx",)
    running = loads(sites)
    with loaded(*running):
        for number, kind in enumerate(kinds, 1):
            change(sites.stack, kind)
            done = sites.stack.up()
            assert len(re.findall("wsgi-ecs: release .* serves", done.text)) == 2
            until(lambda: all(load.tally.requests >= 1500 * number for load in running), 120)  # noqa: B023
    for load in running:
        print(load.tally)
        assert load.tally.failed == 0, load.tally


def test_status_has_the_numbers_of_each(sites: Sites) -> None:
    done = sites.stack.run("status", "--json")
    assert done.code == 0, done.text
    (machine,) = json.loads(done.out)["machines"]
    assert {site["name"]: site["release"] for site in machine["sites"]} == {
        "sky": sites.get("/healthz").json()["release"],
        "sea": sites.get("/sea/healthz").json()["release"],
    }
    for site in machine["sites"]:
        workers, requests = site["workers"], site["requests"]
        assert workers["processes"] in range(1, len(sites.pids(site["name"])) + 1)
        # uWSGI says what is idle, gunicorn does not.
        is_uwsgi = site["name"] == "sky" or sites.kind == "emperor"
        assert (workers["idle"] is not None, workers["queue"]) == (is_uwsgi, 0)
        assert 1 << 20 < workers["memory"] < 1 << 30
        assert requests["number"] > 0
        assert requests["errors"] == 0
        assert 0 <= time.time() - site["since"] < 3600


def test_a_change_of_one_leaves_the_others_processes_alone(sites: Sites) -> None:
    settings, before, release = sites.stack.settings, sites.pids("sky"), sites.get("/sea/healthz").json()["release"]
    kept = {key: value for key, value in settings["sites"].items() if key != "sea"}
    changed = {**SEA, **settings["sites"]["sea"], "app": {"env": {"SECRET": "of-the-sea"}, "health": "/healthz?x=1"}}
    sites.stack.settings = {**settings, "sites": {**kept, "sea": changed}}
    sites.stack.run("maintenance", "on", "--site", "sea")
    with asked(lambda: sites.get("/healthz")) as statuses, asked(lambda: sites.get("/sea/")) as closed:
        done = sites.stack.up()
    assert sites.get("/sea/healthz").json()["release"] != release
    assert sites.pids("sky") == before
    assert set(statuses) == {200}
    assert set(closed) == {503}, "a release leaves it in maintenance"
    assert "serves; the site is in maintenance since " in done.out
    assert "site sea is in maintenance since " in done.out
    assert sites.stack.run("maintenance", "off", "--site", "sea").out == "site sea: not in maintenance\n"
    assert sites.get("/sea/").status_code == 200


def test_a_rollback_of_one_leaves_the_other_alone(sites: Sites) -> None:
    before, release = sites.pids("sky"), sites.get("/sea/healthz").json()["release"]
    running = loads(sites)
    with loaded(*running, least=1500):
        done = sites.stack.run("rollback", "--site", "sea")
        assert done.code == 0, done.text
        old = sites.get("/sea/healthz").json()["release"]
        assert old != release
        assert sites.pids("sky") == before
        assert f"starting release {old} beside {release}" in done.out
        assert f"serves, rolled back from {release}" in sites.stack.run("releases", "--site", "sea").out
        assert f"site sea: release {old} goes on serving" in sites.stack.run("preview").out
        refused = sites.stack.run("rollback", "--site", "sea", "nothing")
        assert refused.code == 2
        assert refused.err.startswith(f"wsgi-ecs: site sea: no release nothing is kept; kept: {old}, {release}")
        assert sites.stack.run("rollback", "--site", "sea", release[:6]).code == 0
        assert sites.get("/sea/healthz").json()["release"] == release
    for load in running:
        print(load.tally)
        # nginx is not reloaded, and closes no connection.
        assert (load.tally.failed, load.tally.empty) == (0, 0), load.tally


def test_a_broken_release_of_one_is_refused_alone(sites: Sites) -> None:
    before = {site: sites.pids(site) for site in ("sky", "sea")}
    settings = sites.stack.settings
    broken = {**settings["sites"]["sea"], "app": {"health": "/nowhere/at/all", "env": {"SECRET": "of-the-sea"}}}
    sites.stack.settings = {**settings, "sites": {**settings["sites"], "sea": broken}}
    done = sites.stack.run("up")
    sites.stack.settings = settings
    assert done.code == 1
    assert re.search(r"GET /sea/nowhere/at/all \(Host: .+\) with status 404", done.text)
    assert {site: sites.pids(site) for site in ("sky", "sea")} == before
    assert sites.get("/sea/healthz").status_code == 200


def test_a_site_that_goes_leaves_the_other_serving_and_nothing_behind(sites: Sites) -> None:
    settings, before = sites.stack.settings, sites.pids("sky")
    sites.stack.settings = {**settings, "sites": {"sky": settings["sites"]["sky"]}}
    with asked(lambda: sites.get("/healthz")) as statuses:
        sites.stack.up()
    sites.stack.settings = settings
    assert sites.pids("sky") == before
    assert set(statuses) == {200}
    # Its place is the other's now.
    assert "Ada" not in sites.get("/sea/").text
    left = "find /etc /run /srv /var -xdev | grep -E '[/.-]sea([/.-]|$)' || true"
    assert sites.stack.shell(left) == ""
    assert sites.stack.shell("getent passwd wsgi-sea; getent group | grep wsgi-sea || true") == ""


def test_a_site_that_comes_leaves_the_others_processes_alone(sites: Sites) -> None:
    before = sites.pids("sky")
    with asked(lambda: sites.get("/healthz")) as statuses:
        sites.stack.up()
    assert sites.pids("sky") == before
    assert set(statuses) == {200}
    assert sites.get("/sea/healthz").status_code == 200


def test_a_killed_worker_of_one_comes_back_and_the_other_does_not_notice(sites: Sites) -> None:
    before, others = sites.pids("sky"), sites.pids("sea")
    worker = max(others, key=int)
    sites.stack.shell(f"kill -9 {worker}")

    def is_back() -> bool:
        now = sites.pids("sea")
        return worker not in now and len(now) == len(others) and sites.get("/sea/healthz").status_code == 200

    sites.until(is_back)
    assert sites.pids("sky") == before


def test_both_serve_after_a_reboot(sites: Sites) -> None:
    before = sites.stack.shell("wsgi-ecs-maintenance on --site sky >&2; cat /proc/sys/kernel/random/boot_id")
    sites.stack.run("ssh", "--", "systemctl reboot")
    sites.until(
        lambda: (
            sites.get("/healthz").status_code == sites.get("/sea/healthz").status_code == 200
            and sites.stack.shell("cat /proc/sys/kernel/random/boot_id") != before
        ),
        60,
    )
    assert (sites.get("/").status_code, sites.get("/sea/").status_code) == (503, 200)
    assert "site sky: release" in sites.stack.shell("wsgi-ecs-maintenance off --site sky; wsgi-ecs-status")
    assert sites.get("/").status_code == 200


def test_the_short_commands_take_one_site_or_all(sites: Sites) -> None:
    before = sites.pids("sky")
    sites.stack.shell("wsgi-ecs-app stop sea")
    sites.until(lambda: sites.get("/sea/healthz").status_code == 502, 40)
    assert sites.get("/healthz").status_code == 200
    sites.stack.shell("wsgi-ecs-app start sea")
    sites.until(lambda: sites.get("/sea/healthz").status_code == 200)
    assert sites.pids("sky") == before
    assert sites.stack.shell("wsgi-ecs-app status")


def test_ports_that_something_else_has_taken_are_told(sites: Sites) -> None:
    if sites.kind != "supervisor":
        pytest.skip("one machine shows it")
    # The other of the two ports in turn, which the next release would take.
    taken = "8080" if "8081" in sites.stack.shell("cat /srv/wsgi-ecs/sites/sky/current/uwsgi.ini") else "8081"
    sites.stack.shell(f"systemd-run -q --unit=other python3 -m http.server {taken} --bind 127.0.0.1; sleep 1")
    settings = sites.stack.settings
    sky = {**settings["sites"]["sky"], "uwsgi": {**settings["sites"]["sky"]["uwsgi"], "processes": 1}}
    sites.stack.settings = {**settings, "sites": {**settings["sites"], "sky": sky}}
    done = sites.stack.run("up")
    assert done.code == 1
    assert "all of the ports 8080, 8081 are in use" in done.text
    assert sites.get("/healthz").status_code == 200
