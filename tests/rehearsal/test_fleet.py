"""nginx on one machine, the application on two others, then on three. The tests run in this order."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.rehearsal.conftest import Stack, lxd, new_stack
from tests.rehearsal.test_life_of_a_stack import listens

READ_TIMEOUT = 3
SETTINGS: dict[str, Any] = {
    "topology": {"app_servers": 2},
    "nginx": {"uwsgi_read_timeout": READ_TIMEOUT},
    # Writes what nginx says of the client.
    "app": {"env": {"SECRET": "of-the-app-servers"}},
}
GUNICORN: dict[str, Any] = {
    "topology": {"app_servers": 2},
    "serving": {"app_server": "gunicorn"},
    "gunicorn": {"worker_class": "gthread"},
    "nginx": {"proxy_read_timeout": READ_TIMEOUT, "upstream": {"keepalive": 8, "weights": {"app-2": 2}}},
}


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
            ["lxc", "exec", "--project", self.project, machine, "--", "sh", "-c", script],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        return done.stdout.strip()

    def lxc(self, *command: str) -> None:
        subprocess.run(["lxc", *command, "--project", self.project], check=True, capture_output=True)

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


def test_only_the_front_is_reached_from_outside(fleet: Fleet) -> None:
    assert listens(fleet.address, 80)
    for port in (3031, 3032, 9191, 9192):
        assert not listens(fleet.address, port)
    for name, (_, address) in fleet.machines().items():
        if name != "front":
            assert not any(listens(address, port) for port in (22, 80, 3031, 3032, 9191))


def test_no_client_can_claim_another_address(fleet: Fleet) -> None:
    page = fleet.get("/", **{"X-Forwarded-For": "192.0.2.66"}).text
    assert "192.0.2.66" not in page


def test_secrets_are_where_the_application_runs_and_nowhere_else(fleet: Fleet) -> None:
    for name, (machine, _) in fleet.machines().items():
        held = fleet.inside(machine, "grep -rlsI of-the-app-servers /etc /srv /run /var/log /var/lib/cloud")
        assert held == ("" if name == "front" else "/etc/wsgi-ecs/app.env.json")


def test_a_release_of_all_machines_loses_no_request(fleet: Fleet) -> None:
    before = fleet.get().json()["release"]
    fleet.stack.edit("app/app.py", 'jsonify(status="ok"', 'jsonify(status="fine"')
    with asked(fleet) as answers:
        fleet.stack.up()
        time.sleep(1)
    assert fleet.get().json()["release"] != before
    assert {status for status, _ in answers} == {200}
    assert {fleet.get().json()["status"] for _ in range(12)} == {"fine"}


def test_a_broken_release_stops_at_the_first_machine(fleet: Fleet) -> None:
    release = fleet.get().json()["release"]
    fleet.stack.edit("app/app.py", "import flask\n", "import flask\nimport no_such_module\n")
    with asked(fleet) as answers:
        done = fleet.stack.run("up")
    fleet.stack.edit("app/app.py", "import flask\nimport no_such_module\n", "import flask\n")
    assert done.code == 1
    assert "No module named 'no_such_module'" in done.text
    assert "app-2-site-app-apply" not in done.out
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


def test_another_app_server_is_added_and_removed(fleet: Fleet) -> None:
    with asked(fleet) as answers:
        fleet.stack.settings = {**SETTINGS, "topology": {"app_servers": 3}}
        fleet.stack.up()
        assert len(fleet.hosts(36)) == 3
        fleet.stack.settings = SETTINGS
        fleet.stack.up()
    assert {status for status, _ in answers} == {200}
    assert set(fleet.machines()) == {"front", "app-1", "app-2"}


def test_gunicorn_takes_over_on_the_same_machines(fleet: Fleet) -> None:
    before = fleet.machines()
    fleet.stack.settings = GUNICORN
    fleet.stack.up()
    assert fleet.machines() == before
    pages = [fleet.get("/").text for _ in range(24)]
    assert all("gunicorn" in page for page in pages)
    assert len(fleet.hosts()) == 2
    assert "192.0.2.66" not in fleet.get("/", **{"X-Forwarded-For": "192.0.2.66"}).text
