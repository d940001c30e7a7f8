"""nginx on one machine, the application on two others, then on three. The tests run in this order."""

import json
import re
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.builders.certificates import Authority
from tests.rehearsal.builders.deployed import Deployed, following
from tests.rehearsal.builders.load import Load, loaded
from tests.rehearsal.builders.machine import listens
from tests.rehearsal.builders.stack import CLIENT, TRIES_ALL, Stack, entering, in_whole_runs, lxd, new_stack, until

READ_TIMEOUT = 3
SETTINGS: dict[str, Any] = {
    "topology": {"app_servers": 2},
    # The app servers are made anew for another one, where that is tried.
    "serving": {"process_manager": "systemd" if TRIES_ALL else "supervisor"},
    # Sooner than a release that answers errors is refused: nginx would find it.
    "nginx": {"uwsgi_read_timeout": READ_TIMEOUT, "upstream": {"fail_timeout": 2}},
    "metrics": {"port": 9464},
    # Writes what nginx says of the client.
    "app": {"env": {"SECRET": "of-the-app-servers"}},
}
GUNICORN: dict[str, Any] = {
    "topology": {"app_servers": 2},
    "serving": {"app_server": "gunicorn"},
    "gunicorn": {"worker_class": "gthread"},
    "nginx": {"proxy_read_timeout": READ_TIMEOUT, "upstream": {"keepalive": 8, "weights": {"app-2": 2}}},
}


def metrics_for(address: str) -> dict[str, Any]:
    """Settings that let an address read the metrics."""
    return {"metrics": {"port": 9464}, "access": {"metrics": [f"{address}/32"]}}


# Prints the metrics of the server with the address on its command line.
SCRAPE = (
    "import sys, urllib.request as asked; "
    "print(asked.urlopen('http://' + sys.argv[1] + ':9464/metrics', timeout=10).read().decode())"
)


class Fleet:
    """A stack of several machines that is up."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.address = stack.up().output("address")
        self.project = f"wsgi-ecs-{stack.name}"

    def get(self, path: str = "/healthz", **headers: str) -> httpx.Response:
        return httpx.get(f"http://{self.address}{path}", headers=headers, trust_env=False, timeout=30)

    def machines(self) -> dict[str, tuple[str, str]]:
        """Name in the stack, such as app-1, to its id and private address."""
        config = lxd(f"/1.0/projects/{self.project}")["config"]
        records = [json.loads(text) for key, text in config.items() if key.startswith("user.resource.")]
        instances = [record for record in records if record["type"].endswith(":Instance")]
        return {
            record["name"].removeprefix(f"{self.project}-").removesuffix("-instance"): (
                record["id"],
                record["outputs"]["primaryIpAddress"],
            )
            for record in instances
        }

    def inside(self, machine: str, script: str) -> str:
        done = subprocess.run(
            [*entering(self.project, machine), "sh", "-c", script],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        return done.stdout.strip()

    def metrics(self, machine: str, address: str) -> dict[str, float]:
        """What a machine reads of the server at an address, by name of the metric; empty if it reads nothing."""
        families = text_string_to_metric_families(self.inside(machine, f'python3 -c "{SCRAPE}" {address}') + "\n")
        return {each.name: each.value for family in families for each in family.samples}

    def lxc(self, *command: str) -> None:
        subprocess.run([CLIENT, *command, "--project", self.project], check=True, capture_output=True)

    def hosts(self, requests: int = 24) -> set[str]:
        """The machines that answer so many requests: the page names its own."""
        pages = [self.get("/").text for _ in range(requests)]
        return {found for page in pages for found in re.findall(r"i-[0-9a-f]{10}", page)}


@pytest.fixture(scope="module")
def fleet(project_copy: Any) -> Iterator[Fleet]:
    stack = new_stack(project_copy, "fleet")
    stack.settings = SETTINGS
    try:
        yield Fleet(stack)
    finally:
        stack.run("destroy")


@contextmanager
def asked(fleet: Fleet) -> Iterator[list[tuple[int, float]]]:
    """Status and seconds of requests that go on meanwhile, from four clients.

    Each on a connection of its own: nginx closes idle ones at a reload, which a browser answers by asking again.
    """
    answers: list[tuple[int, float]] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            started = time.monotonic()
            try:
                status = fleet.get().status_code
            except httpx.HTTPError:
                status = 0
            answers.append((status, time.monotonic() - started))
            time.sleep(0.02)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_both_app_servers_answer_through_the_front(fleet: Fleet) -> None:
    assert fleet.get().json()["status"] == "ok"
    assert len(fleet.hosts()) == 2
    assert fleet.get("/static/style.css").status_code == 200


def test_each_machine_has_the_numbers_of_what_it_does(fleet: Fleet) -> None:
    found = json.loads(fleet.stack.run("status", "--json").out)["machines"]
    assert [machine["name"] for machine in found] == ["front", "app-1", "app-2"]
    has = {
        machine["name"]: [(site["workers"] is not None, site["requests"] is not None) for site in machine["sites"]]
        for machine in found
    }
    assert has == {"front": [(False, True)], "app-1": [(True, False)], "app-2": [(True, False)]}
    for machine in found:
        metrics = fleet.metrics(fleet.machines()[machine["name"]][0], "127.0.0.1")
        (site,) = machine["sites"]
        assert metrics["wsgi_ecs_release_timestamp_seconds"] == site["since"]
        assert ("wsgi_ecs_requests_per_second" in metrics) == (machine["name"] == "front")
        # The statistics are on a socket of the site's, and the memory is of its processes.
        has_app = machine["name"] != "front"
        assert ("wsgi_ecs_workers_idle" in metrics) == has_app
        assert (metrics.get("wsgi_ecs_application_memory_bytes", 0) > 1 << 20) == has_app


def test_only_the_front_is_reached_from_outside(fleet: Fleet) -> None:
    assert listens(fleet.address, 80)
    for port in (3031, 3032, 9191, 9192, 9464):
        assert not listens(fleet.address, port)
    for name, (_, address) in fleet.machines().items():
        if name != "front":
            assert not any(listens(address, port) for port in (22, 80, 3031, 3032, 9191, 9464))


def test_no_client_can_claim_another_address(fleet: Fleet) -> None:
    page = fleet.get("/", **{"X-Forwarded-For": "192.0.2.66"}).text
    assert "192.0.2.66" not in page


def test_secrets_are_where_the_application_runs_and_nowhere_else(fleet: Fleet) -> None:
    for name, (machine, _) in fleet.machines().items():
        held = fleet.inside(machine, "grep -rlsI of-the-app-servers /etc /srv /run /var/log /var/lib/cloud").split()
        kept = [path for path in held if re.fullmatch(r"/srv/wsgi-ecs/sites/app/releases/[0-9a-f]+/secrets.json", path)]
        assert sorted(held) == ([] if name == "front" else ["/etc/wsgi-ecs/app.env.json", *sorted(kept)])
        modes = fleet.inside(machine, f"stat -c '%U %a' {' '.join(kept)}") if kept else ""
        assert set(modes.splitlines()) == ({"root 600"} if kept else set())


def test_a_release_of_all_machines_loses_no_request(fleet: Fleet) -> None:
    before = fleet.get().json()["release"]
    fleet.stack.edit("app/app.py", 'jsonify(status="ok"', 'jsonify(status="fine"')
    # The application and a static file, which nginx on the other machine serves.
    load = Load(fleet.address, fleet.address, ("/healthz", "/static/style.css"))
    with loaded(load, least=3000):
        fleet.stack.up()
        time.sleep(1)
    assert fleet.get().json()["release"] != before
    # The texts of nginx are the same, so it closes no connection either.
    assert (load.tally.failed, load.tally.empty) == (0, 0), load.tally
    assert {fleet.get().json()["status"] for _ in range(12)} == {"fine"}


def test_a_rollback_reaches_all_machines_or_none(fleet: Fleet) -> None:
    release = fleet.get().json()["release"]
    with asked(fleet) as answers:
        done = fleet.stack.run("rollback")
        assert done.code == 0, done.text
        assert {fleet.get().json()["status"] for _ in range(12)} == {"ok"}
        old = fleet.get().json()["release"]
        done = fleet.stack.run("rollback")
        assert done.code == 0, done.text
        assert fleet.get().json()["release"] == release
        app = f"/srv/wsgi-ecs/sites/app/releases/{old}/app/app.py"
        machine, _ = fleet.machines()["app-2"]
        fleet.inside(machine, f"sed -i '1i import no_such_module' {app}")
        done = fleet.stack.run("rollback")
        assert done.code == 1
        assert "No module named 'no_such_module'" in done.text
        assert f"machine app-1 goes back to release {release}" in done.out
        time.sleep(1)
    assert {status for status, _ in answers} == {200}
    assert {fleet.get().json()["release"] for _ in range(12)} == {release}


@pytest.mark.parametrize(
    ("place", "broken", "problem"),
    [
        ("import flask\n", "import flask\nimport no_such_module\n", "No module named 'no_such_module'"),
        ("def healthz():\n", "def healthz():\n    flask.abort(500)\n", "with status 500"),
    ],
    ids=["that-does-not-start", "that-answers-errors"],
)
def test_a_broken_release_stops_at_the_first_machine_and_nobody_sees_it(
    fleet: Fleet, place: str, broken: str, problem: str
) -> None:
    release = fleet.get().json()["release"]
    fleet.stack.edit("app/app.py", place, broken)
    with asked(fleet) as answers:
        done = fleet.stack.run("up")
    fleet.stack.edit("app/app.py", broken, place)
    assert done.code == 1
    assert problem in done.text
    assert "app-2-site-app-apply" not in done.performed
    assert {status for status, _ in answers} == {200}
    assert {fleet.get().json()["release"] for _ in range(12)} == {release}
    fleet.stack.up()


@pytest.mark.parametrize("fault", ["stopped", "frozen", "slow"])
def test_the_site_answers_within_its_limits_while_one_app_server_is(fleet: Fleet, fault: str) -> None:
    machine, _ = fleet.machines()["app-1"]
    with asked(fleet) as answers:
        time.sleep(1)
        if fault == "stopped":
            fleet.lxc("stop", "-f", machine)
        elif fault == "frozen":
            fleet.lxc("pause", machine)
        else:
            # Its workers stand still: connections are taken, and nothing comes.
            fleet.inside(machine, "pkill -STOP -x uwsgi")
        time.sleep(3 * READ_TIMEOUT)
        if fault == "slow":
            fleet.inside(machine, "pkill -CONT -x uwsgi")
        else:
            fleet.lxc("start", machine)
    assert {status for status, _ in answers} == {200}
    # The longest are those that found it out; the others did not notice.
    assert max(seconds for _, seconds in answers) < 2 * READ_TIMEOUT + 1
    deadline = time.monotonic() + 60
    while len(fleet.hosts(12)) < 2:
        assert time.monotonic() < deadline


@in_whole_runs
def test_another_app_server_is_added_and_removed(fleet: Fleet) -> None:
    with asked(fleet) as answers:
        fleet.stack.settings = {**SETTINGS, "topology": {"app_servers": 3}}
        fleet.stack.up()
        assert len(fleet.hosts(36)) == 3
        fleet.stack.settings = SETTINGS
        fleet.stack.up()
    assert {status for status, _ in answers} == {200}
    assert set(fleet.machines()) == {"front", "app-1", "app-2"}


def test_an_app_server_that_reboots_is_missed_by_nobody(fleet: Fleet) -> None:
    with asked(fleet) as answers:
        time.sleep(1)
        fleet.lxc("restart", "-f", fleet.machines()["app-1"][0])
        until(lambda: len(fleet.hosts(12)) == 2)
    assert {status for status, _ in answers} == {200}


def test_nginxs_machine_serves_again_after_a_reboot(fleet: Fleet) -> None:
    fleet.lxc("restart", "-f", fleet.machines()["front"][0])
    until(lambda: fleet.get().status_code == 200)
    until(lambda: len(fleet.hosts(12)) == 2)


@in_whole_runs
def test_app_servers_are_made_anew_one_that_is_gone_and_one_that_begins_with_other_packages(fleet: Fleet) -> None:
    before = fleet.machines()
    front, address = before["front"]
    # Supervisor is one of the packages that an app server begins with.
    fleet.stack.settings = {**SETTINGS, "serving": {"process_manager": "supervisor"}, **metrics_for(address)}
    with asked(fleet) as answers:
        fleet.lxc("delete", "-f", before["app-1"][0])
        fleet.stack.up()
        time.sleep(1)
    after = fleet.machines()
    assert {status for status, _ in answers} == {200}
    assert max(seconds for _, seconds in answers) < 2 * READ_TIMEOUT + 1
    assert {name for name in after if after[name][0] != before[name][0]} == {"app-1", "app-2"}
    assert fleet.hosts() == {after["app-1"][0], after["app-2"][0]}
    for name in ("front", "app-1", "app-2"):
        assert fleet.metrics(front, after[name][1])["wsgi_ecs_release_info"] == 1
    # Neither this host nor an app server is named.
    assert not any(listens(each, 9464) for _, each in (*after.values(), ("", fleet.address)))
    assert fleet.metrics(after["app-1"][0], address) == {}


def test_gunicorn_takes_over_on_the_same_machines(fleet: Fleet) -> None:
    before = fleet.machines()
    fleet.stack.settings = {**GUNICORN, **metrics_for(before["front"][1])}
    fleet.stack.up()
    assert fleet.machines() == before
    pages = [fleet.get("/").text for _ in range(24)]
    assert all("gunicorn" in page for page in pages)
    assert len(fleet.hosts()) == 2
    assert "192.0.2.66" not in fleet.get("/", **{"X-Forwarded-For": "192.0.2.66"}).text


# Several sites on the same machines, each with a program, a user and an upstream of its own.

PROGRAMS: dict[str, dict[str, Any]] = {
    "uwsgi": {"uwsgi": {"socket": "0.0.0.0:3031", "processes": 3}},
    "uwsgi-http": {"uwsgi": {"http_socket": "0.0.0.0:3033", "processes": 3}},
    **{
        name: {
            "serving": {"app_server": "gunicorn"},
            "gunicorn": {"bind": f"0.0.0.0:{port}", "worker_class": name, "workers": 3},
        }
        for name, port in (("sync", 8000), ("gthread", 8002), ("gevent", 8004))
    },
}
# ada: sesame, as `openssl passwd -6` prints it.
HASH = "$6$saltsalt$g3uPFdehVnKoLXdidvSAg1zlVgYomPr0X/xgdXSBn2LuxZUOGgYW4IULZkguZ77fzYteIur49AGHmF9iek6Sf1"
PLACES: dict[str, dict[str, Any]] = {
    "uwsgi": {"nginx": {"auth_basic": "Staff", "auth_basic_users": {"ada": HASH}}},
    "uwsgi-http": {"nginx": {"cache": {"valid": 60, "bypass_header": "X-Fresh"}}},
    "sync": {
        # Below another site, of another program.
        "site": {"server_name": "uwsgi.test", "location": "/below/"},
        "nginx": {"client_max_body_size": "1k", "error_page": {404: "errors/none.html"}, "intercept_errors": True},
    },
    "gthread": {},
    "gevent": {"nginx": {"limit_req": {"rate": "1r/s", "burst": 5}}},
}
METHODS: tuple[dict[str, Any], ...] = (
    {"method": "round_robin"},
    {"weights": {"app-2": 2}},
    {"method": "least_conn"},
    {"method": "ip_hash"},
)


def sites(turn: int, trusted: list[str], certificate: dict[str, str]) -> dict[str, Any]:
    """Settings in which each program shares its requests by another method. trusted: nginx.set_real_ip_from."""
    found: dict[str, Any] = {}
    for number, (name, program) in enumerate(PROGRAMS.items()):
        kept = {"keepalive": 4} if name in ("gthread", "gevent") else {}
        timeout = "uwsgi_read_timeout" if name == "uwsgi" else "proxy_read_timeout"
        found[name] = {
            "site": {"server_name": f"{name}.test"},
            **program,
            **PLACES[name],
            "nginx": {
                **PLACES[name].get("nginx", {}),
                timeout: READ_TIMEOUT,
                "set_real_ip_from": trusted,
                "upstream": {**METHODS[(number + turn) % len(METHODS)], **kept},
            },
        }
    found["gthread"]["tls"] = certificate
    return {
        "topology": {"app_servers": 2},
        "app": {"source": "tests/rehearsal/front", "callable": "application"},
        "sites": found,
    }


class Sites:
    """The sites on the fleet, and a client for each request that nobody else has."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        authority = Authority()
        pair = authority.sign("gthread.test")
        self.trust = ssl.create_default_context(cadata=authority.pem)
        self.certificate = {"certificate": pair.certificate, "private_key": pair.private_key}
        static = fleet.stack.folder / "tests/rehearsal/front/static"
        static.mkdir(exist_ok=True)
        (static / "small.txt").write_text("a few words")
        self.clients = iter(range(65536))
        self.turn(0, ["192.0.2.0/24"])
        # This host, as nginx sees it: nobody trusts it yet.
        self.seen_as = self.seen("uwsgi")

    def turn(self, turn: int, trusted: list[str]) -> None:
        self.fleet.stack.settings = sites(turn, trusted, self.certificate)
        self.fleet.stack.up()

    def ask(self, site: str, path: str = "/machine", client: str = "", **options: Any) -> httpx.Response:
        number = next(self.clients)
        headers = {
            "Host": "uwsgi.test" if site == "sync" else f"{site}.test",
            # nginx's ip_hash takes the first three numbers.
            "X-Forwarded-For": client or f"198.{18 + number // 256}.{number % 256}.7",
            **({} if options.pop("cached", False) else {"X-Fresh": "1"}),
            **options.pop("headers", {}),
        }
        scheme, below = "https" if site == "gthread" else "http", "/below" if site == "sync" else ""
        if site == "uwsgi":
            options.setdefault("auth", ("ada", "sesame"))
        with httpx.Client(trust_env=False, timeout=30, verify=self.trust) as asking:
            return asking.request(
                options.pop("method", "GET"),
                f"{scheme}://{self.fleet.address}{below}{path}",
                headers=headers,
                extensions={"sni_hostname": "gthread.test"},
                **options,
            )

    def seen(self, site: str, **options: Any) -> str:
        """The address of the client, as the application has it from nginx."""
        return str(self.ask(site, "/seen", **options).json()["HTTP_X_FORWARDED_FOR"])

    def shares(self, site: str, requests: int) -> tuple[int, int]:
        """How many of so many requests each app server had."""
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: self.ask(site), range(requests)))
        assert {answer.status_code for answer in answers} == {200}
        count = Counter(answer.text for answer in answers)
        return count[self.fleet.machines()["app-1"][0]], count[self.fleet.machines()["app-2"][0]]

    def statuses(self) -> set[int]:
        return {self.ask(site).status_code for site in PROGRAMS}


@pytest.fixture(scope="module")
def several(fleet: Fleet) -> Sites:
    return Sites(fleet)


@in_whole_runs
def test_metrics_end_with_their_setting(several: Sites) -> None:
    for machine, _ in several.fleet.machines().values():
        assert several.fleet.metrics(machine, "127.0.0.1") == {}
        assert "wsgi-ecs-metrics" not in several.fleet.inside(machine, "ls /etc/systemd/system")


@in_whole_runs
def test_each_site_has_a_user_of_its_own_on_the_app_servers_and_its_passwords_on_nginxs_machine(several: Sites) -> None:
    for name, (machine, _) in several.fleet.machines().items():
        users = set(several.fleet.inside(machine, "ps -eo user:32= | sort -u").split())
        assert {f"wsgi-{site}" for site in PROGRAMS if name != "front"} <= users
        held = several.fleet.inside(machine, "grep -rlsF '$6$saltsalt$' /etc/wsgi-ecs /srv /run /var/log")
        assert bool(held) == (name == "front")
    assert several.ask("uwsgi", auth=("ada", "open")).status_code == 401
    assert several.ask("uwsgi").status_code == 200


@in_whole_runs
def test_what_nginx_does_for_one_app_server_it_does_for_several(several: Sites) -> None:
    kept = [several.ask("uwsgi-http", "/count", cached=True) for _ in range(6)]
    assert len({answer.text for answer in kept}) == 1
    assert kept[-1].headers["X-Cache"] == "HIT"
    assert several.ask("sync", method="POST", content=b"x" * 2000).status_code == 413
    own = several.ask("sync", "/nowhere")
    assert own.status_code == 404
    assert own.text == (several.fleet.stack.folder / "tests/rehearsal/front/errors/none.html").read_text()
    for site in PROGRAMS:
        assert several.ask(site, "/static/small.txt").text == "a few words", site
    # Under HTTPS the application, on another machine, knows of it.
    assert [several.ask(site, "/seen").json()["wsgi.url_scheme"] for site in ("gthread", "gevent")] == ["https", "http"]


@pytest.fixture(scope="module")
def deployed(several: Sites, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(several.fleet.stack, tmp_path_factory.mktemp("deployed"))


@in_whole_runs
def test_commands_reach_every_machine_over_ssh_alone(several: Sites, deployed: Deployed) -> None:
    machines = several.fleet.machines()
    assert deployed.run("ssh", "--machine", "app-2", "hostname").out.strip() == machines["app-2"][0]
    assert deployed.run("run", "--site", "sync", "--", "id", "-un").out == "wsgi-sync\n"
    where = 'import os, socket; print(socket.gethostname(), "APP_RELEASE" in os.environ)'
    assert deployed.run("run", "--site", "sync", "--", "python", "-c", where).out == f"{machines['app-1'][0]} True\n"
    missing = deployed.run("run", "--site", "sync", "--", "nothere")
    assert (missing.code, "nothere as site sync cannot start" in missing.err) == (1, True)
    said = deployed.run("run", "--site", "nowhere", "--", "id")
    assert (said.code, said.err.startswith("stack: --site nowhere: no such site; allowed: ")) == (2, True)


@in_whole_runs
def test_a_command_has_the_users_terminal(deployed: Deployed) -> None:
    script = "trap 'stty size; echo $TERM; exit 7' INT; echo ready; while :; do sleep 0.2; done"
    ran = ("run", "--site", "sync", "--", "sh", "-c", script)
    code, printed = deployed.typed(*ran, after="ready\r\n", keys="\x03", size=(44, 120))
    assert code == 7
    assert "44 120" in printed
    assert "vt100" in printed


@in_whole_runs
def test_the_logs_of_all_machines_are_one_and_are_followed(several: Sites, deployed: Deployed) -> None:
    followed = following(deployed, "-n", "1")
    followed.until("front ")
    several.ask("sync", "/nowhere", headers={"User-Agent": "first-mark"})
    followed.until("first-mark")
    front, app = (several.fleet.machines()[name][0] for name in ("front", "app-1"))
    log = "/var/log/wsgi-ecs/sync/access.log"
    several.fleet.inside(front, f"mv {log} {log}.1 && kill -USR1 $(cat /run/nginx.pid)")
    until(lambda: several.fleet.inside(front, f"test -e {log} && echo there") == "there")
    several.ask("sync", "/nowhere", headers={"User-Agent": "second-mark"})
    several.fleet.inside(app, "printf 'third-mark \\033[31m\\n' >>/var/log/wsgi-ecs/sync/c.log")
    followed.until("second-mark")
    followed.until("third-mark \\x1b[31m")
    assert followed.stop() == 130
    readers = "pgrep -f 'sys.modules\\[|[j]ournalctl -q' || true"
    until(lambda: not any(several.fleet.inside(each, readers) for each in (front, app)), 30)
    found = deployed.run("logs", "--since", "5m", "--site", "sync", "--status", "4xx", "--grep", "-mark").out
    assert [line.split()[2:4] for line in found.splitlines()] == [["front", "sync/nginx-access"]] * 2
    both = deployed.run("logs", "--since", "5m", "--grep", "(second|third)-mark").out
    assert [line.split()[2] for line in both.splitlines()] == ["front", "app-1"]


@in_whole_runs
def test_another_host_key_is_refused_with_what_to_do(several: Sites, deployed: Deployed) -> None:
    assert list(deployed.home.rglob("known_hosts")) == [], "every key is pinned"
    file = deployed.home / "outputs.json"
    text = file.read_text()
    outputs = json.loads(text)
    front, app = outputs["machines"][:2]
    # The key of another machine.
    front["host_key"] = app["host_key"]
    file.write_text(json.dumps(outputs))
    done = deployed.run("ssh", "--", "true")
    file.write_text(text)
    assert done.code == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in done.err
    assert "does not have its known host key, so somebody may be in between" in done.err
    assert deployed.run("ssh", "--", "true").code == 0


@in_whole_runs
@pytest.mark.parametrize("turn", range(len(METHODS) if TRIES_ALL else 1))
def test_requests_are_shared_as_each_method_says(several: Sites, turn: int) -> None:
    if turn == 0:
        assert several.seen("gevent", client="198.51.100.9") == several.seen_as, "of nobody who is trusted"
    several.turn(turn, [f"{several.seen_as}/32"])
    found = {}
    for number, site in enumerate(PROGRAMS):
        method = METHODS[(number + turn) % len(METHODS)]
        if method.get("method") == "ip_hash":
            clients = [f"203.0.{client}.1" for client in range(24)]
            homes = {client: {several.ask(site, client=client).text for _ in range(3)} for client in clients}
            assert {len(home) for home in homes.values()} == {1}, site
            mine = Counter(home for one in homes.values() for home in one)
            found[site] = tuple(sorted(mine.values()))
            assert len(mine) == 2, site
        elif method.get("method") == "least_conn":
            with ThreadPoolExecutor(1) as pool:
                slow = pool.submit(several.ask, site, "/sleep/2")
                time.sleep(0.3)
                idle = [several.ask(site).text for _ in range(6)]
                assert not slow.done()
                assert slow.result().status_code == 200
            assert len(set(idle)) == 1, site
            # Ties are broken in turn, but an answer may still be under way.
            assert min(several.shares(site, 40)) > 5
        else:
            one, two = found[site] = several.shares(site, 60)
            weight = method.get("weights", {}).get("app-2", 1)
            # Now and then nginx asks the port that nobody has, and goes to the next.
            assert abs(two - 60 * weight / (1 + weight)) <= 4, (site, one, two)
    print(found)


@in_whole_runs
def test_a_site_is_closed_and_rolled_back_over_ssh_alone(several: Sites, deployed: Deployed) -> None:
    site = ("--site", "gthread")
    assert deployed.run("maintenance", "on", *site).out.startswith("site gthread: in maintenance since ")
    assert (several.ask("gthread").status_code, several.ask("sync").status_code) == (503, 200)
    table = [line.split() for line in deployed.run("releases", *site).out.splitlines()]
    serving, before = table[1][0], table[2][0]
    done = deployed.run("rollback", *site)
    assert done.code == 0
    assert [line for line in done.out.splitlines() if line.startswith("machine ")] == [
        f"machine {name}" for name in ("app-1", "app-2", "front")
    ]
    assert f"wsgi-ecs: release {before} serves; the site is in maintenance since " in done.out
    assert several.ask("gthread").status_code == 503
    assert deployed.run("rollback", *site, serving).code == 0
    found = json.loads(deployed.run("status", "--json").out)["machines"][0]["sites"]
    assert {each["name"]: each["release"] for each in found}["gthread"] == serving
    assert deployed.run("maintenance", "off", *site).out == "site gthread: not in maintenance\n"
    assert several.ask("gthread").status_code == 200
    for words, said in (
        (("rollback", *site, "zzz"), f"no release zzz is kept; kept: {serving}, {before}"),
        (("rollback", "--site", "nowhere"), "--site nowhere: no such site; allowed: gevent, gthread, "),
        (("releases",), "has several sites; allowed: --site with one of "),
        (("maintenance", "on"), "no --site; allowed: --site with one of "),
    ):
        refused = deployed.run(*words)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert said in refused.err


@in_whole_runs
def test_a_trusted_proxy_names_the_client_and_nobody_else_does(several: Sites) -> None:
    for site in PROGRAMS:
        assert several.seen(site, client="198.51.100.9") == "198.51.100.9", site
        assert several.seen(site, client="192.0.2.1, 198.51.100.9") == "198.51.100.9", site
    (asking, own), (_, front) = (several.fleet.machines()[name] for name in ("app-1", "front"))
    headers = {"Host": "gevent.test", "X-Forwarded-For": "198.51.100.9"}
    request = f"r.Request('http://{front}/seen', headers={headers!r})"
    script = f"import urllib.request as r; print(r.urlopen({request}).read().decode())"
    answer = json.loads(several.fleet.inside(asking, f'python3 -c "{script}"'))
    assert answer["HTTP_X_FORWARDED_FOR"] == own
    # And each of its clients has a rate of its own.
    assert 429 in {several.ask("gevent", client="198.51.100.10").status_code for _ in range(12)}
    assert several.ask("gevent", client="198.51.100.11").status_code == 200


@in_whole_runs
def test_one_page_that_fails_on_every_app_server_fails_alone(several: Sites) -> None:
    for site in PROGRAMS:
        assert several.ask(site, "/status/503").status_code == 503
        assert {several.ask(site).status_code for _ in range(4)} == {200}, site
    started = time.monotonic()
    with ThreadPoolExecutor(len(PROGRAMS)) as pool:
        slow = list(pool.map(lambda site: several.ask(site, f"/sleep/{READ_TIMEOUT + 1}").status_code, PROGRAMS))
    assert slow == [504] * len(PROGRAMS)
    # On two app servers, and on no third.
    assert time.monotonic() - started < 2 * READ_TIMEOUT + 2
    # nginx has no last resort for ip_hash.
    others = [site for number, site in enumerate(PROGRAMS) if METHODS[(number + 3) % 4] != {"method": "ip_hash"}]
    assert {site: several.ask(site).status_code for site in others} == dict.fromkeys(others, 200)
    until(lambda: several.statuses() == {200})


@in_whole_runs
def test_programs_that_nobody_starts_again_are_left_out(several: Sites) -> None:
    machine, _ = several.fleet.machines()["app-1"]
    several.fleet.inside(machine, "systemctl stop supervisor; pkill -KILL -u wsgi-gevent")
    try:
        for _ in range(5):
            assert several.statuses() == {200}
            for site in PROGRAMS:
                assert several.ask(site, "/upload", method="POST", content=b"x").status_code == 200, site
    finally:
        several.fleet.inside(machine, "systemctl start supervisor")
    until(lambda: all(min(several.shares(site, 12)) for site in ("uwsgi", "sync")))


@pytest.mark.parametrize("app_servers", [0, 1])
def test_one_machine_becomes_several_and_back_at_the_same_address(fleet: Fleet, app_servers: int) -> None:
    fleet.stack.settings = {"topology": {"app_servers": app_servers}}
    done = fleet.stack.up()
    assert done.output("address") == fleet.address
    assert fleet.get().status_code == 200
    assert len(fleet.machines()) == 1 + app_servers
