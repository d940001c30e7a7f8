"""Whatever kills a service of a server, the site answers again by itself within seconds. Each test prints how long."""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.stack import Stack, entering, lxd, new_stack, tried

KINDS: dict[str, dict[str, Any]] = {
    "supervisor": {},
    "systemd": {"serving": {"process_manager": "systemd"}},
    "emperor": {"serving": {"process_manager": "emperor"}},
}
# Seconds without an answer that a test allows, beside what it waits for on purpose.
PATIENCE = 15
ENV_FILE = "/etc/wsgi-ecs/app.env.json"


class Machine:
    """The one machine of a stack that is up. Commands run on it without SSH, so that they take no time."""

    def __init__(self, kind: str, stack: Stack) -> None:
        self.kind, self.stack = kind, stack
        self.address = stack.up().output("address")
        project = f"wsgi-ecs-{stack.name}"
        (path,) = lxd(f"/1.0/instances?project={project}")
        self._enter = entering(project, path.rpartition("/")[2].partition("?")[0])

    def run(self, script: str) -> str:
        done = subprocess.run([*self._enter, "sh", "-euc", script], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://{self.address}/healthz", trust_env=False, timeout=3).status_code == 200
        return False

    @property
    def program(self) -> str:
        """Name of the program that serves, as its process manager knows it."""
        return str(json.loads(self.run("cat /srv/wsgi-ecs/sites/app/current/state.json"))["program"])

    @property
    def pid(self) -> str:
        """Shell words that print the process id of the program that serves, once it has one."""
        return {
            "supervisor": f"supervisorctl pid {self.program}",
            "systemd": f"systemctl show -p MainPID {self.program} | cut -d= -f2",
            "emperor": f"pgrep -o -f -- '^[^ ]*uwsgi .*{self.program}'",
        }[self.kind]


@pytest.fixture(scope="module", params=tried(KINDS, "supervisor"))
def machine(request: pytest.FixtureRequest, project_copy: Path) -> Iterator[Machine]:
    stack = new_stack(project_copy, f"back-{request.param}")
    stack.settings = KINDS[request.param]
    try:
        yield Machine(request.param, stack)
    finally:
        stack.run("destroy")


@contextlib.contextmanager
def outage(machine: Machine, what: str, seconds: float = PATIENCE) -> Iterator[None]:
    """Ask the site all the time while the block runs and until it answers for 3 seconds on end.

    Fails when the last request without an answer comes more than `seconds` after the block's begin.
    """
    failed: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            if not machine.answers():
                failed.append(time.monotonic())
            time.sleep(0.05)

    thread = threading.Thread(target=ask)
    thread.start()
    began = time.monotonic()
    try:
        yield
        while time.monotonic() < max([began, *failed]) + 3:
            assert not failed or failed[-1] < began + seconds, f"no answer {seconds:.0f} s after {what}"
            time.sleep(0.1)
    finally:
        ended.set()
        thread.join()
    print(f"{machine.kind}: {what}: without an answer for {max(failed, default=began) - began:.1f} s")


NGINX = {"kill -9 of nginx": 'kill -9 "$(cat /run/nginx.pid)"', "systemctl kill nginx": "systemctl kill nginx"}


@pytest.mark.parametrize("what", NGINX)
def test_nginx_comes_back(machine: Machine, what: str) -> None:
    with outage(machine, what):
        machine.run(NGINX[what])


def test_the_process_manager_comes_back_with_its_programs(machine: Machine) -> None:
    unit = {"supervisor": "supervisor", "emperor": "wsgi-emperor", "systemd": ""}[machine.kind]
    if not unit:
        pytest.skip("systemd itself is not killed")
    with outage(machine, f"kill -9 of {unit}"):
        machine.run(f"kill -9 $(systemctl show -p MainPID {unit} | cut -d= -f2)")


def test_a_program_comes_back(machine: Machine) -> None:
    with outage(machine, "kill -9 of the program"):
        machine.run(f"kill -9 $({machine.pid})")


def test_a_service_that_is_killed_seven_times_in_ten_seconds_comes_back(machine: Machine) -> None:
    unit = {"supervisor": "supervisor", "emperor": "wsgi-emperor", "systemd": machine.program}[machine.kind]
    script = """
    for _ in 1 2 3 4 5 6 7; do
        until pid=$(systemctl show -p MainPID {0} | cut -d= -f2) && [ "$pid" != 0 ] && [ "$pid" != "${{last:-}}" ]; do
            sleep 0.05
        done
        kill -9 "$pid"; last=$pid
    done
    """
    for each in (unit, "nginx"):
        began = time.monotonic()
        with outage(machine, f"seven kills of {each}", 10 + PATIENCE):
            machine.run(script.format(each))
            print(f"{machine.kind}: seven kills of {each} took {time.monotonic() - began:.1f} s")


def test_a_program_whose_start_fails_for_a_while_comes_back(machine: Machine) -> None:
    with outage(machine, "a start that fails for 12 seconds", 12 + 2 * PATIENCE):
        machine.run(f"mv {ENV_FILE} {ENV_FILE}.away; kill -9 $({machine.pid})")
        time.sleep(12)
        machine.run(f"mv {ENV_FILE}.away {ENV_FILE}")


def test_systemd_takes_the_drop_ins_as_they_are_written(machine: Machine) -> None:
    found = machine.run("ls /etc/systemd/system/*.service.d/wsgi-ecs-restart.conf").split()
    units = [Path(path).parent.name.removesuffix(".d") for path in found]
    manager = {"supervisor": ["supervisor.service"], "emperor": ["wsgi-emperor.service"], "systemd": []}
    assert units == sorted(["nginx.service", "ssh.service", *manager[machine.kind]])
    for unit in [*units, *([machine.program] if machine.kind == "systemd" else [])]:
        assert "wsgi-ecs" not in machine.run(f"systemd-analyze verify {unit} 2>&1 || true"), unit
        names = "Restart,RestartUSec,StartLimitIntervalUSec,RestartPreventExitStatus,KillMode,OOMPolicy"
        shown = dict(line.split("=", 1) for line in machine.run(f"systemctl show -p {names} {unit}").splitlines())
        # SSH's sessions outlive it.
        ending = ("process", "stop") if unit == "ssh.service" else ("mixed", "continue")
        assert (shown["Restart"], shown["RestartUSec"], shown["StartLimitIntervalUSec"]) == ("always", "1s", "0"), unit
        assert (shown["KillMode"], shown["OOMPolicy"]) == ending, unit
        assert not shown.get("RestartPreventExitStatus"), unit


def test_status_and_an_up_without_changes_start_what_does_not_run(machine: Machine) -> None:
    stop_program = {
        "supervisor": f"supervisorctl stop {machine.program}",
        "systemd": f"systemctl stop {machine.program}",
        "emperor": "systemctl stop wsgi-emperor",
    }[machine.kind]
    for command, script in (("status", "systemctl stop nginx"), ("up", "systemctl stop nginx"), ("up", stop_program)):
        machine.run(script)
        assert not machine.answers()
        done = machine.stack.run(command)
        assert (done.code, "started again: " in done.out) == (0, True), done.text
        assert machine.answers()
    # Somebody has stopped the program, and only looks.
    machine.run("wsgi-ecs-app stop")
    assert "site app was stopped by hand" in machine.stack.run("status").out
    assert not machine.answers()
    assert machine.stack.run("up").code == 0
    assert "started again: " not in machine.stack.run("up").out
