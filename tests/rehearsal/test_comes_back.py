"""Whatever kills a service of a server, the site answers again by itself within seconds. Each test prints how long.

The first tests show what confines the services, on the same servers, as their first release has left them.
Security updates and rotated logs, which come by themselves too, interrupt no request.
"""

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.confined import MAY, MAY_NOT, METADATA, PAGE, SERVE_METADATA
from tests.rehearsal.builders.load import Load, loaded
from tests.rehearsal.builders.stack import Stack, entering, in_whole_runs, lxd, new_stack, tried

KINDS: dict[str, dict[str, Any]] = {
    "supervisor": {},
    "systemd": {"serving": {"process_manager": "systemd"}},
    "emperor": {"serving": {"process_manager": "emperor"}},
}
# Seconds without an answer that a test allows, beside what it waits for on purpose.
PATIENCE = 15
ENV_FILE = "/etc/wsgi-ecs/app.env.json"
# Installs an older nginx, so that an update of it is pending. Prints the version of the update, or nothing without one.
OLD_NGINX = """
apt-get update -qq
versions() { apt-cache madison nginx | grep "$1" | awk '{print $3}' | sort -uV; }
new=$(versions security | tail -n 1) old=$(versions . | head -n 1)
[ "$new" != "$old" ] && [ "$(versions . | tail -n 1)" = "$new" ] || exit 0
apt-get install -y -qq --allow-downgrades nginx=$old nginx-common=$old >/dev/null 2>&1
echo "$new"
"""


class Machine:
    """The one machine of a stack that is up. Commands run on it without SSH, so that they take no time."""

    def __init__(self, kind: str, stack: Stack) -> None:
        self.kind, self.stack = kind, stack
        self.address = stack.up().output("address")
        project = f"wsgi-ecs-{stack.name}"
        (path,) = lxd(f"/1.0/instances?project={project}")
        self._enter = entering(project, path.rpartition("/")[2].partition("?")[0])

    def run(self, script: str, seconds: float = 60) -> str:
        done = subprocess.run([*self._enter, "sh", "-euc", script], capture_output=True, text=True, timeout=seconds)
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
    stack.edit("app/app.py", '\n\n@app.route("/healthz")', PAGE + '\n\n@app.route("/healthz")')
    try:
        yield Machine(request.param, stack)
    finally:
        stack.run("destroy")


# What `systemd-analyze security` may say at most, of 10. docs/security.md has the same numbers.
SCORES = {"nginx": 2.9, "systemd": 1.9, "supervisor": 3.6, "emperor": 1.9}


def test_services_are_confined_as_tightly_as_the_documents_say(machine: Machine) -> None:
    unit = {"systemd": machine.program, "supervisor": "supervisor.service", "emperor": "wsgi-emperor.service"}
    for name, each in (("nginx", "nginx.service"), (machine.kind, unit[machine.kind])):
        said = machine.run(f"systemd-analyze security --no-pager {each}")
        score = re.search(r"Overall exposure level for \S+ ([0-9.]+)", said)
        assert score, said
        assert float(score[1]) <= SCORES[name], said
        pid = machine.run(f"systemctl show -p MainPID {each} | cut -d= -f2")
        # The first release has started them again.
        assert machine.run(f"grep NoNewPrivs /proc/{pid}/status").split() == ["NoNewPrivs:", "1"], each
        assert int(machine.run(f"grep CapBnd /proc/{pid}/status").split()[1], 16) < 1 << 25, each
    limits = dict(line.split("=") for line in machine.run(f"systemctl show -p MemoryMax,TasksMax {each}").splitlines())
    memory = 1024 * int(machine.run("grep MemTotal /proc/meminfo").split()[1])
    assert 0.85 * memory < int(limits["MemoryMax"]) < 0.95 * memory
    assert 100 < int(limits["TasksMax"]) < 1 << 22


# The least hardening index of Lynis, of 100. docs/security.md has the same number.
LYNIS = 58


@in_whole_runs
def test_lynis_finds_nothing_to_warn_of(machine: Machine) -> None:
    machine.run("apt-get install -y -qq --no-install-recommends lynis >/dev/null 2>&1", 300)
    report = machine.run(
        "lynis audit system --quick --quiet --no-colors >/dev/null 2>&1 || true; cat /var/log/lynis-report.dat", 300
    )
    machine.run("apt-get purge -y -qq lynis >/dev/null 2>&1; rm -f /var/log/lynis*", 300)
    found = [line.partition("=")[2] for line in report.splitlines() if line.startswith("warning[]")]
    index = re.search("^hardening_index=([0-9]+)$", report, re.MULTILINE)
    suggested = [line.partition("=")[2][:100] for line in report.splitlines() if line.startswith("suggestion[]")]
    print(machine.kind, found, index and index[1], *suggested, sep="\n")
    assert index
    assert int(index[1]) >= LYNIS
    assert found == []


def test_an_application_does_what_it_may_and_nothing_else(machine: Machine) -> None:
    machine.run(SERVE_METADATA)
    asks = 'import sys, urllib.request; urllib.request.urlopen("http://" + sys.argv[1], timeout=3)'
    for address in METADATA:
        # Root reaches it.
        machine.run(f"for try in $(seq 50); do python3 -c '{asks}' {address} && exit; sleep 0.2; done; exit 1")
        answer = httpx.get(f"http://{machine.address}/tries/{address}/", trust_env=False, timeout=30)
        found = answer.json()
        print(machine.kind, found)
        assert {name: found[name] for name in MAY} == dict.fromkeys(MAY, "yes")
        assert [name for name in MAY_NOT if found[name] == "yes"] == []
        assert "Permission denied" in found["metadata"]
        assert found["state"] == ["1", "0" * 16, 0]
    # Its /tmp is not the server's.
    assert machine.run("ls /tmp | grep -c tried- || true") == "0"
    assert "tried" in machine.run("cat /var/log/wsgi-ecs/app/*.log")
    # Packages are built by another user, whom the metadata are kept from, too.
    script = f"runuser -u wsgi-build -- python3 -c '{asks}' {{}} 2>&1 | tail -n 1"
    assert ["Permission denied" in machine.run(script.format(address)) for address in METADATA] == [True, True]


def test_a_confined_nginx_reopens_its_logs_and_is_upgraded_in_place(machine: Machine) -> None:
    with outage(machine, "an upgrade of nginx", 0.5):
        machine.run("""
        old=$(cat /run/nginx.pid)
        mv /var/log/nginx/error.log /var/log/nginx/error.log.1
        kill -USR1 "$old"
        kill -USR2 "$old"
        until [ -s /run/nginx.pid.oldbin ] && [ -s /run/nginx.pid ]; do sleep 0.1; done
        sleep 1
        kill -QUIT "$old"
        test -f /var/log/nginx/error.log
        """)
    # The master that systemd knows is back for the tests that follow.
    machine.run("systemctl restart nginx")


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


def test_security_updates_come_in_their_window_and_interrupt_no_request(machine: Machine) -> None:
    if machine.kind != "supervisor":
        pytest.skip("the same on each")
    assert machine.run("systemctl is-active wsgi-ecs-updates.timer") == "active"
    timer = dict(
        line.split("=", 1)
        for line in machine.run(
            "systemctl show -p TimersCalendar,RandomizedDelayUSec,Persistent wsgi-ecs-updates.timer"
        ).splitlines()
    )
    assert "OnCalendar=*-*-* 02:00:00" in timer["TimersCalendar"]
    assert (timer["RandomizedDelayUSec"], timer["Persistent"]) == ("3h", "no")
    version = machine.run(OLD_NGINX, seconds=300)
    if not version:
        pytest.skip("the archive has no security update of nginx")
    before = machine.run("supervisorctl pid; cat /run/nginx.pid")
    load = Load(machine.address, machine.address, connections=20, rate=50)
    with loaded(load, least=100):
        machine.run("systemctl start wsgi-ecs-updates", seconds=300)
    assert not load.tally.failed, load.tally
    after = machine.run("supervisorctl pid; cat /run/nginx.pid")
    assert after.split()[0] == before.split()[0], "supervisor was restarted"
    assert after.split()[1] != before.split()[1], "nginx runs on as the old one"
    assert machine.run("dpkg-query -W -f '${Version}' nginx") == version
    status = json.loads(machine.run("wsgi-ecs-status --json"))["updates"]
    assert "nginx" in status["installed"]
    assert not status["failed"]
    assert "security updates: last run " in machine.run("wsgi-ecs-status")
    # systemd has adopted the new nginx, and restarts it as it restarted the old.
    assert machine.run("systemctl show -p MainPID --value nginx; cat /run/nginx.pid").split()[0] == after.split()[1]
    with outage(machine, "nginx killed after its update"):
        machine.run("kill -9 $(cat /run/nginx.pid)")


def test_a_week_of_logs_stays_below_a_bound(machine: Machine) -> None:
    if machine.kind != "supervisor":
        pytest.skip("the same on each")
    assert machine.run("systemctl is-active wsgi-ecs-logs.timer") == "active"
    line = '203.0.113.9 - - [29/Nov/2026:19:48:10 +0000] "GET /cart?item=%.0f HTTP/1.1" 200 5123 "-" "Mozilla/5.0"'
    folder, largest = "/var/log/wsgi-ecs/app", 0
    for _ in range(8):
        # 110 MB of requests, and 11 MB that the application prints, between two runs of the timer. Hours pass in
        # seconds here, which systemd would take for a unit that fails at once.
        machine.run(
            f"cd {folder}; seq -f '{line}' 1100000 >>access.log; seq -f '{line}' 110000 >>$(basename $(readlink -f "
            "/srv/wsgi-ecs/sites/app/current)).log; systemctl reset-failed wsgi-ecs-logs; "
            "systemctl start wsgi-ecs-logs",
            seconds=300,
        )
        largest = max(largest, int(machine.run(f"du -sm {folder} | cut -f 1")))
    assert largest < 250, f"{largest} MB"
    assert machine.answers()
    # nginx writes into the new file.
    assert "GET /healthz" in machine.run(f"sleep 0.2; tail -n 1 {folder}/access.log")
