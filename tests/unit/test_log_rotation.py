"""Logs are rotated by a timer of their own, which shares neither a state file nor a site's log with the OS's logrotate.

A machine shows that they stay below a bound: tests/rehearsal/test_comes_back.py.
"""

import re
from pathlib import Path

import pytest

from tests.unit.machine import module

log_rotation, timers = module("log_rotation"), module("timers")


class Machine:
    """A machine's files and systemd. outdated: units of which systemd has read another file."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.former, self.units = folder / "logrotate.conf", folder / "wsgi-ecs", folder / "units"
        self.units.mkdir()
        self.ran: list[str] = []
        self.outdated: set[str] = set()
        monkeypatch.setattr(log_rotation, "CONFIG", str(self.config))
        monkeypatch.setattr(log_rotation, "FORMER", str(self.former))
        monkeypatch.setattr(timers.drop_ins, "UNITS", str(self.units))
        monkeypatch.setattr(timers.files, "own", lambda path, group, mode: Path(path).chmod(mode))
        monkeypatch.setattr(timers, "run", self.run)

    def run(self, *command: str, check: bool = True) -> str:
        if command[:2] == ("systemctl", "show"):
            return "NeedDaemonReload=yes\n" if command[-1] in self.outdated else "NeedDaemonReload=no\n"
        self.ran.append(" ".join(command[1:]))
        return ""

    def parts(self) -> dict[str, list[str]]:
        """Pattern → directives."""
        found = re.findall(r"^([^\n{]+) \{\n(.*?)^\}$", self.config.read_text(), re.MULTILINE | re.DOTALL)
        return {pattern: [line.strip() for line in text.splitlines()] for patterns, text in found
                for pattern in patterns.split()}  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path, monkeypatch)
    found.former.write_text("what an older tool has written")
    assert log_rotation.place() == sorted(map(str, (found.config, *found.units.iterdir())))
    return found


def test_the_os_rotates_no_log_of_a_site_and_both_keep_a_state_of_their_own(machine: Machine) -> None:
    assert not machine.former.exists()
    service = (machine.units / "wsgi-ecs-logs.service").read_text()
    assert f"ExecStart=/usr/sbin/logrotate --state /var/lib/logrotate/wsgi-ecs.status {machine.config}\n" in service
    assert "After=logrotate.service\n" in service
    assert "include" not in machine.config.read_text()


def test_nginx_s_own_logs_are_rotated_by_their_size_alone_because_the_os_rotates_them_daily(machine: Machine) -> None:
    parts = machine.parts()
    assert {"size 100M", "create", "rotate 14"} <= set(parts["/var/log/nginx/*.log"])
    assert "daily" not in parts["/var/log/nginx/*.log"]
    assert "daily" in parts["/var/log/wsgi-ecs/*/access.log"]


@pytest.mark.parametrize("log", ["a.log", "[ab].*.log", "schedule.*.log"])
def test_thirty_times_10_mb_of_what_an_application_prints_are_kept(machine: Machine, log: str) -> None:
    assert {"size 10M", "rotate 30", "compress"} <= set(machine.parts()[f"/var/log/wsgi-ecs/*/{log}"])


def test_a_timer_that_a_killed_run_has_written_and_not_started_takes_effect(machine: Machine) -> None:
    machine.ran.clear()
    log_rotation.place()
    assert machine.ran == ["enable -q wsgi-ecs-logs.timer", "start wsgi-ecs-logs.timer"]
    machine.outdated, machine.ran = {"wsgi-ecs-logs.timer"}, []
    log_rotation.place()
    assert machine.ran == [
        "stop wsgi-ecs-logs.timer",
        "daemon-reload",
        "enable -q wsgi-ecs-logs.timer",
        "start wsgi-ecs-logs.timer",
    ]


def test_a_timer_that_is_removed_is_not_there_for_the_next_run(machine: Machine) -> None:
    machine.ran.clear()
    assert timers.remove("wsgi-ecs-logs.timer", "wsgi-ecs-logs.service")
    assert not [*machine.units.iterdir()]
    assert machine.ran[:3] == ["disable -q wsgi-ecs-logs.timer", "stop wsgi-ecs-logs.timer", "daemon-reload"]
    machine.ran.clear()
    assert not timers.remove("wsgi-ecs-logs.timer", "wsgi-ecs-logs.service")
    assert machine.ran == []
