"""Security updates: which servers install them, when, and what is left to the user.

A machine shows that packages are upgraded under requests: tests/rehearsal/test_security_updates.py.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from contract.updates import UPDATES_FILE
from kinds.systems import SYSTEMS
from serving import host_files, machines
from settings.loader import parse
from tests.unit.machine import module

updates, commands = module("updates"), module("commands")
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
        for name, path in {"APT": self.apt, "KNOWN": self.known, "STATE": self.state, "POLICY": self.policy}.items():
            monkeypatch.setattr(updates, name, str(path))
        monkeypatch.setattr(updates.drop_ins, "UNITS", str(self.units))
        monkeypatch.setattr(updates.files, "own", lambda path, group, mode: Path(path).chmod(mode))
        monkeypatch.setattr(updates, "run", self.run)
        monkeypatch.setattr(updates.packages, "run", self.run)
        monkeypatch.setattr(updates, "revive", lambda say, stopped_too: self.ran.append("revive"))

    def run(self, *command: str, **options: Any) -> str:
        line = " ".join(command)
        self.ran.append(line)
        if command[0] == "dpkg-query" and command[-1] == "unattended-upgrades":
            return "unattended-upgrades ii \n"
        if command[0] == "dpkg-query" or command[:2] == ("rpm", "-qa"):
            return "".join(f"{name}\n" for name in sorted(self.there))
        if command[0] == "unattended-upgrade" or "upgrade" in command:
            if self.policy.exists():
                self.allowed = {asked: self.allows(*asked) for asked in ASKED}
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
    assert "systemctl restart wsgi-ecs-updates.timer" in machine.ran
    machine.ran.clear()
    assert machine.place() == paths
    assert "systemctl restart wsgi-ecs-updates.timer" not in machine.ran, "it would skip this night"
    machine.state.touch()
    assert machine.place(security_updates=None) == [str(machine.apt)]
    assert not [*machine.units.iterdir()]
    assert not machine.known.exists()
    assert not machine.state.exists()
    assert "systemctl disable -q --now wsgi-ecs-updates.timer" in machine.ran
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
