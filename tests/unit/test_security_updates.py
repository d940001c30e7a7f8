"""Security updates: which servers install them, when, and what is left to the user.

A machine shows that packages are upgraded under requests: tests/rehearsal/test_comes_back.py.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from contract.updates import UPDATES_FILE
from kinds.systems import SYSTEMS
from serving import host_files, machines
from settings.loader import parse
from tests.builders.stack import PROJECT
from tests.unit.machine import module

updates, commands, lock = module("updates"), module("commands"), module("lock")
timers, release, audit, status = module("timers"), module("release"), module("audit"), module("status")
SIMULATED = """\
Reading package lists...
Inst supervisor [4.2.5-1] (4.2.5-2 Debian-Security:12/oldstable-security [all])
Inst tzdata [2025b-0+deb12u1] (2025b-0+deb12u2 Debian:12.13/oldstable [all])
Inst linux-image-6.1 (6.1.158-1 Debian:12.13/oldstable, Debian-Security:12/oldstable-security [amd64]) []
Conf supervisor (4.2.5-2 Debian-Security:12/oldstable-security [all])
"""
# What scripts of Debian's packages ask.
ASKED = (("nginx.service", "restart"), ("nginx", "upgrade"), ("supervisor", "restart"), ("ssh.service", "restart"))
CHECKED = """\

mariadb-server.x86_64            3:10.5.29-2.al8           alinux3-updates
openssl-libs.x86_64              1:1.1.1k-14.al8           alinux3-updates
"""


def document(config: dict[str, Any], machine: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        host_files(machines(parse(config, "test"))[machine].plan)[f"config/{UPDATES_FILE}"]
    )
    return found


class Machine:
    """A machine's files and package manager. installs: what a run installs. fails: its last line, "" if it does not."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.units, self.apt = folder / "units", folder / "apt"
        self.known, self.state = folder / "known.json", folder / "state.json"
        self.policy = folder / "policy-rc.d"
        self.units.mkdir()
        self.ran: list[str] = []
        self.said: list[str] = []
        self.there = {"nginx 1.22.1-9", "openssl 3.0.17"}
        self.installs: set[str] = set()
        self.fails = ""
        self.interrupts = False
        self.outdated: set[str] = set()
        for name, path in {"APT": self.apt, "KNOWN": self.known, "STATE": self.state, "POLICY": self.policy}.items():
            monkeypatch.setattr(updates, name, str(path))
        monkeypatch.setattr(updates, "APT_OF_RUN", str(folder / "apt-of-run"))
        monkeypatch.setattr(timers.drop_ins, "UNITS", str(self.units))
        monkeypatch.setattr(updates.files, "LOCK", str(folder / "lock"))
        monkeypatch.setattr(audit.paths, "LOG", str(folder))
        monkeypatch.setattr(updates.files, "own", lambda path, group, mode: Path(path).chmod(mode))
        monkeypatch.setattr(updates, "run", self.run)
        monkeypatch.setattr(updates, "_run_within_bounds", self.run)
        monkeypatch.setattr(timers, "run", self.run)
        monkeypatch.setattr(updates.packages, "run", self.run)
        monkeypatch.setattr(
            updates,
            "revive",
            lambda say, stopped_too: self.ran.append("revive" if lock.current() is None else "locked"),
        )

    def run(self, *command: str, **options: Any) -> str:
        line = " ".join(command)
        self.ran.append(line)
        if command[:2] == ("systemctl", "show"):
            return f"NeedDaemonReload={'yes' if command[-1] in self.outdated else 'no'}\n"
        if command == ("systemctl", "daemon-reload"):
            self.outdated.clear()
        if command[0] == "dpkg-query" and command[-1] == "unattended-upgrades":
            return "unattended-upgrades ii \n"
        if command[0] == "dpkg-query" or command[:2] == ("rpm", "-qa"):
            return "".join(f"{name}\n" for name in sorted(self.there))
        if command[0] == "unattended-upgrade" or "upgrade" in command:
            if self.policy.exists():
                self.allowed = {asked: self.allows(*asked) for asked in ASKED}
            self.holder, self.meanwhile = lock.current(), json.loads(self.state.read_text())
            variables = options["env"].get("APT_CONFIG")
            self.settings = Path(variables).read_text() if variables else ""
            if self.interrupts:
                raise commands.Interrupted("ended by signal 15")
            if self.fails:
                raise commands.ReleaseError(f"{command[0]} ended with 1", self.fails)
            self.there |= self.installs
        if "dist-upgrade" in command:
            return SIMULATED
        return CHECKED if "check-update" in command else ""

    def allows(self, *asked: str) -> bool:
        return subprocess.run(["sh", str(self.policy), *asked]).returncode == 0

    def place(self, **server: Any) -> list[str]:
        texts = host_files(machines(parse({"server": {"os": "debian12", **server}}, "test"))[0].plan)

        class Sent:
            text = staticmethod(texts.__getitem__)

        return list(updates.place(Sent, self.said.append))

    def restarts(self) -> bool:
        """Whether the timer was stopped, systemd has read its units, and the timer was started, in this order."""
        steps = ["systemctl stop wsgi-ecs-updates.timer", "systemctl daemon-reload"]
        steps.append("systemctl start wsgi-ecs-updates.timer")
        return [line for line in self.ran if line in steps] == steps

    def update(self) -> dict[str, Any]:
        self.status = updates.command(self.said.append)
        found: dict[str, Any] = json.loads(self.state.read_text())
        return found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_that_gets_updates_installs_them_between_two_and_five(system: str) -> None:
    timer = document({"server": {"os": system}}).get("timer", "")
    assert ("OnCalendar=*-*-* 02:00:00\nRandomizedDelaySec=180min\n" in timer) == (system != "centos7")
    assert document({"server": {"os": system, "security_updates": None}}).get("timer") is None


@pytest.mark.parametrize(
    ("window", "lines"),
    [
        ("23:30-01:00", "OnCalendar=*-*-* 23:30:00\nRandomizedDelaySec=90min\n"),
        ("04:00-04:10", "OnCalendar=*-*-* 04:00:00\nRandomizedDelaySec=10min\n"),
    ],
)
def test_a_timer_starts_anywhere_in_its_window(window: str, lines: str) -> None:
    assert lines in document({"server": {"os": "debian12", "security_updates": window}})["timer"]


def test_a_database_on_a_server_of_its_own_gets_updates_but_no_other_database() -> None:
    config = {"server": {"os": "debian12"}, "mysql": {"password": "x"}}
    found = document(config, 1)
    assert "ExecStart=/usr/bin/python3 -B /srv/wsgi-ecs/tool/release.py updates\n" in found["service"]
    assert '"mariadb-";' in found["apt"]
    assert "/srv/wsgi-ecs/host/current/tool/" in document(config)["service"]


def test_the_timer_is_placed_and_taken_back(machine: Machine) -> None:
    paths = machine.place()
    assert paths == sorted(map(str, (machine.apt, machine.known, *machine.units.iterdir())))
    assert machine.restarts()
    machine.ran.clear()
    assert machine.place() == paths
    assert not machine.restarts(), "it would skip this night"
    assert "systemctl daemon-reload" not in machine.ran
    machine.state.touch()
    assert machine.place(security_updates=None) == [str(machine.apt)]
    assert not [*machine.units.iterdir()]
    assert not machine.known.exists()
    assert not machine.state.exists()
    assert machine.ran[-4:] == [
        "systemctl disable -q wsgi-ecs-updates.timer",
        "systemctl stop wsgi-ecs-updates.timer",
        "systemctl daemon-reload",
        "systemctl reset-failed wsgi-ecs-updates.service",
    ]
    # What the package would do by itself on Debian, at any time, ends as well.
    settings = [line for line in machine.apt.read_text().splitlines() if not line.startswith("//")]
    assert settings == ['APT::Periodic::Unattended-Upgrade "0";']


def test_only_security_updates_of_the_own_suite_are_installed(machine: Machine) -> None:
    machine.place()
    origins = [line for line in machine.apt.read_text().splitlines() if "origin=Debian" in line]
    assert len(origins) == 2
    assert all("codename=bookworm" in line and "label=Debian-Security" in line for line in origins)


def test_a_run_notes_what_it_installed_and_what_is_left_to_the_user(machine: Machine) -> None:
    machine.place()
    machine.installs = {"openssl 3.0.18"}
    assert machine.update() | {"time": 0} == {
        "time": 0,
        "installed": ["openssl"],
        "waiting": ["linux-image-6.1", "supervisor"],
    }
    assert machine.status == 0
    assert machine.ran[-1] == "revive"
    assert machine.ran.index(next(line for line in machine.ran if " update " in line)) < machine.ran.index(
        "unattended-upgrade -v"
    )


def test_dnf_leaves_out_what_restarts_programs(machine: Machine) -> None:
    machine.place(os="alinux3")
    assert not machine.apt.exists()
    assert machine.update()["waiting"] == ["mariadb-server", "openssl-libs"]
    (line,) = [line for line in machine.ran if "upgrade" in line]
    assert line.startswith("dnf -y --enablerepo=wsgi-ecs-* ")
    assert line.endswith(" upgrade --security --exclude=supervisor --exclude=mariadb*")


def test_a_run_that_fails_says_why_and_ends_with_1(machine: Machine) -> None:
    machine.place()
    machine.fails = "E: Sub-process /usr/bin/dpkg returned an error code (1)"
    assert machine.update()["failed"] == "unattended-upgrade ended with 1"
    assert machine.status == 1
    assert machine.fails in "\n".join(machine.said)
    assert machine.ran[-1] == "revive"


def test_a_run_without_a_setting_changes_nothing(machine: Machine) -> None:
    machine.place(security_updates=None)
    assert updates.command(machine.said.append) == 1
    assert not machine.state.exists()
    assert machine.said[-1] == "server.security_updates is not set, so no updates are installed"


def test_packages_restart_nothing_that_serves_while_they_are_upgraded(machine: Machine) -> None:
    machine.place()
    machine.update()
    assert [asked for asked, is_allowed in machine.allowed.items() if not is_allowed] == [ASKED[0], ASKED[2]]
    assert not machine.policy.exists()


def test_a_policy_of_the_user_stays(machine: Machine) -> None:
    machine.place()
    machine.policy.write_text("#!/bin/sh\nexit 0\n")
    machine.update()
    assert all(machine.allowed.values())
    assert machine.policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_a_policy_that_a_killed_run_left_ends_with_that_run(machine: Machine) -> None:
    machine.place()
    machine.policy.write_text(updates._POLICY.format(updates._MARK, 2**22 + 1))
    assert machine.allows(*ASKED[0])
    machine.update()
    assert not machine.policy.exists()


@pytest.mark.parametrize("unit", ["timer", "service"])
def test_a_timer_that_a_killed_run_has_written_and_not_started_takes_effect(machine: Machine, unit: str) -> None:
    machine.place()
    machine.outdated = {f"wsgi-ecs-updates.{unit}"}
    machine.ran.clear()
    machine.place()
    assert "systemctl daemon-reload" in machine.ran
    assert machine.restarts() == (unit == "timer")


def test_a_run_has_the_lock_and_starts_what_does_not_run_after_it(machine: Machine) -> None:
    machine.place()
    machine.update()
    assert machine.holder["what"] == "security updates"
    assert machine.holder["until"] - time.monotonic() > updates._SECONDS + updates._STOP_SECONDS
    assert machine.ran[-1] == "revive", "it does nothing while a run has the lock"


def test_a_run_waits_for_a_release_and_says_when_it_takes_too_long(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.place()
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.1)
    with lock.acquire_lock(0, "apply of site app"):
        failed = machine.update()["failed"]
    assert failed.startswith("another release is being applied on this machine: apply of site app by ")
    assert machine.status == 1
    assert not [line for line in machine.ran if line.startswith("unattended-upgrade")]


def test_status_tells_a_run_that_has_not_ended(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.place()
    machine.update()
    assert not machine.meanwhile.get("ended", True)
    machine.state.write_text(json.dumps(machine.meanwhile | {"time": 0}))
    monkeypatch.setattr(status.updates, "STATE", str(machine.state))
    assert status._words_of_updates(status._updates()) == (
        "began 1970-01-01 00:00:00 UTC and has not ended (journalctl -u wsgi-ecs-updates)"
    )
    assert status._words_of_updates(status._updates() | {"ended": True}).startswith("last run ")


def test_apt_waits_for_no_retry_of_its_own(machine: Machine) -> None:
    machine.place()
    machine.update()
    assert 'Acquire::Retries "0";\n' in machine.settings
    assert 'Acquire::http::Timeout "10";\n' in machine.settings


def test_a_run_that_is_stopped_notes_it_and_starts_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.place()
    machine.interrupts = True
    monkeypatch.setattr(release, "is_first", lambda folder: False)
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(release.signal, "signal", handlers.__setitem__)
    assert release.main(["updates"]) == 1
    assert handlers[signal.SIGTERM] is release.interrupted
    assert json.loads(machine.state.read_text())["failed"] == "ended by signal 15"
    assert not machine.policy.exists()
    assert "revive" not in machine.ran
    assert json.loads((machine.state.parent / "audit.log").read_text())["outcome"] == "interrupted"
    assert "next: systemctl start wsgi-ecs-updates installs the rest\n" in capsys.readouterr().err


def test_a_run_that_fails_is_no_success_in_the_audit_log(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.place()
    machine.fails = "E: no"
    monkeypatch.setattr(release.signal, "signal", lambda number, handler: None)
    assert release.main(["updates"]) == 1
    assert json.loads((machine.state.parent / "audit.log").read_text())["outcome"] == "failed"


# A package manager that ends after its current package, or not at all, and what it has started.
PATIENT = "trap 'echo finished; exit 0' TERM; sh -c 'trap : TERM; sleep 30; sleep 30' & echo began; wait"


def bounded(seconds: tuple[int, int], script: str) -> subprocess.Popen[bytes]:
    """The tool's run of a script, in a process of its own."""
    text = (
        "import signal, sys; sys.path[:0] = [{!r}, {!r}]; import commands, updates; "
        "updates._SECONDS, updates._STOP_SECONDS = {}; import release; "
        "signal.signal(signal.SIGTERM, release.interrupted); "
        "print('ready', flush=True); print(updates._run_within_bounds('sh', '-c', {!r}))"
    ).format(str(PROJECT / "machine"), str(PROJECT), seconds, script)
    return subprocess.Popen([sys.executable, "-B", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("script", [PATIENT, "trap '' TERM; sleep 40 & wait; sleep 40"])
def test_a_package_manager_that_hangs_is_ended(script: str) -> None:
    began = time.monotonic()
    run = bounded((1, 1), script)
    _, said = run.communicate(timeout=30)
    assert "ReleaseError: sh did not end within 1 seconds" in said.decode()
    assert time.monotonic() - began < 35


def test_a_stop_lets_the_package_manager_end_after_its_current_package(tmp_path: Path) -> None:
    note = tmp_path / "note"
    slow = f"trap 'sleep 1; echo finished >{note}; exit 0' TERM; echo began >{note}; while :; do sleep 0.1; done"
    run = bounded((60, 60), slow)
    while not note.exists():
        time.sleep(0.05)
    run.terminate()
    _, said = run.communicate(timeout=30)
    assert note.read_text() == "finished\n"
    assert "Interrupted: ended by signal 15" in said.decode()


def test_the_unit_leaves_the_tool_the_time_to_end(machine: Machine) -> None:
    lines = document({"server": {"os": "debian12"}})["service"].splitlines()
    assert {"KillMode=mixed", "TimeoutStartSec=6h", "TimeoutStopSec=900"} <= set(lines)
    assert updates._STOP_SECONDS < 900
