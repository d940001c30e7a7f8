"""`status` and `maintenance` of a stack: what the machines say, over SSH."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from contract import paths
from operations import maintenance, status
from operations.cli import check_watch
from operations.connection import Way
from operations.errors import UserError
from operations.machines import Machine, Stack

NOW = time.time()
SITE: dict[str, Any] = {
    "name": "shop",
    "release": "0123456789ab",
    "since": NOW - 7300,
    "maintenance": None,
    "workers": {"processes": 2, "busy": 1, "idle": 3, "queue": 5, "memory": 50 << 20},
    "requests": {"seconds": 300, "number": 30, "rate": 0.1, "errors": 0.05, "p95": 0.25},
    "certificate": {"domain": "a.test", "ends": NOW + 10 * 86400},
    "backup": NOW - 90,
    "programs": [],
}
EMPTY = {key: value if key == "name" else [] if key == "programs" else None for key, value in SITE.items()}
MACHINE: dict[str, Any] = {
    "cpus": 2,
    "load": 0.5,
    "memory": {"size": 2 << 30, "free": 1 << 30},
    "disks": [{"name": "the server's disk", "size": 40 << 30, "free": 30 << 30}],
    "redis": None,
    "database": {"backup": NOW - 3 * 86400, "dumps": [{"time": NOW - 3 * 3600}, {"time": NOW - 27 * 3600}]},
    "sites": [SITE, {**EMPTY, "name": "blog", "maintenance": {"since": 1, "by": "command"}}],
    "edited": [{"path": "/etc/x", "kind": "changed"}],
}


def stack(**missing: str) -> Stack:
    way = Way("198.51.100.7", "i-1", Path("/known"), None)
    return Stack("qa", tuple(Machine(name, f"i-{name}", (), way, missing.get(name)) for name in ("front", "app")))


def answering(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have each machine run a script of this host in place of ssh."""
    monkeypatch.setattr(Way, "command", lambda self, *flags: ["sh", "-c", script])


def test_the_machines_are_asked_at_once_and_one_that_is_silent_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answer").write_text(json.dumps(MACHINE))
    # Neither answers before the other one is asked.
    (tmp_path / "asked").mkdir()
    waits = f"until [ $(ls {tmp_path}/asked | wc -l) -ge 2 ]; do sleep 0.1; done"
    answering(monkeypatch, f"touch {tmp_path}/asked/$$; {waits}; cat {tmp_path}/answer")
    assert status.status(stack(), as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(machine["name"], machine["sites"][0]["name"]) for machine in found["machines"]] == [
        ("front", "shop"),
        ("app", "shop"),
    ]
    assert status.status(stack(app="machine app is stopped"), as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["machines"][1]["error"] == "machine app is stopped"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "older than this command"),
        ("echo 'site app: release 1'", "older than this command"),
        ("echo 'Connection refused' >&2; exit 255", "access.ssh must allow your address"),
        ("echo 'one\ntwo' >&2; exit 3", "two"),
        ("exit 4", "ssh ended with 4"),
    ],
)
def test_why_a_machine_says_nothing(monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    answering(monkeypatch, script)
    assert said in status.collect(stack())["machines"][0]["error"]


def test_the_lines_of_each_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answering(monkeypatch, "echo 'site app: release 1'")
    assert status.status(stack(app="gone"), as_json=False) == 1
    assert capsys.readouterr().out == (
        "machine front, 198.51.100.7\n  site app: release 1\nmachine app, 198.51.100.7: gone\n"
    )


def test_a_table_has_a_row_for_each_machine_and_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    machines = [{"name": "front", **MACHINE}, {"name": "app", "error": "no answer"}]
    console = Console(width=200)
    with console.capture() as capture:
        console.print(status.table({"stack": "qa", "machines": machines}))
    front, blog, app = (
        next(line for line in capture.get().splitlines() if word in line) for word in ("front", "blog", "app ")
    )
    assert "load 0.50 on 2 CPUs, 30.0 GiB free on the server's disk, backup: 3 d ago, nightly dump: 3 h ago" in front
    shop = next(line for line in capture.get().splitlines() if "shop" in line)
    for word in ("0123456789ab for 2 h", "1 of 4", " 5 ", "50 MiB", "0.1", "5.0 %", "0.250 s", "10 days", "min ago"):
        assert word in shop, word
    assert "waits for its first release" in blog
    assert "in maintenance" in blog
    assert "no answer" in app


def test_watching_is_for_a_terminal() -> None:
    for watch, as_json in ((True, True), (True, False)):
        with pytest.raises(UserError, match=r"--watch .*; allowed: "):
            check_watch(watch, as_json)
    check_watch(False, True)


def test_maintenance_is_ordered_on_the_machine_of_nginx(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []

    def attach(*arguments: Any, terminal: bool) -> int:
        done.append(arguments)
        return 0

    monkeypatch.setattr(maintenance, "attach", attach)
    of_sites = Stack("qa", tuple(Machine(each.name, each.id, ("shop",), each.way) for each in stack().machines))
    assert maintenance.maintenance(of_sites, "on", "shop") == 0
    ((machine, (line,)),) = done
    assert machine.name == "front"
    assert line.endswith(f" {paths.MAINTENANCE_COMMAND} on --site shop")
    with pytest.raises(UserError, match="--site x; rm: no such site; allowed: shop"):
        maintenance.maintenance(of_sites, "on", "x; rm")
