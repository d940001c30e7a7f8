"""Processes beside the application server: what a release says of them, and how the release tool treats them."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.codec import decode
from contract.documents import Release, slot_state
from contract.placeholders import fill_known
from reference.samples import FILE
from serving import bootstrap, host_files, machines, release_files
from settings.loader import parse
from settings.site import merged
from tests.unit.machine import PROJECT, module

WORKER = {"command": ["rq", "worker", "it's $HOME; %h\"\\"], "count": 2, "stop_seconds": 200}
HOSTILE = (
    *("it's", "$HOME", "`id`", "$(id)", "a;b", "a\\", '"', "%h %n", "#x", "*", "~", "a && b", "> x"),
    *("-x", "汉字", ""),
)
MANAGERS = ("supervisor", "systemd", "emperor")


def config(manager: str = "supervisor", **more: Any) -> dict[str, Any]:
    base = {"server": {"os": "debian12"}, "serving": {"process_manager": manager}, "processes": {"worker": WORKER}}
    return merged(base, more)


def released(values: dict[str, Any], machine: int = 0, site: int = 0) -> dict[str, str]:
    plan = machines(parse(values, FILE))[machine].plan
    return release_files(plan.sites[site])


@pytest.mark.parametrize("manager", MANAGERS)
def test_the_script_of_a_process_runs_its_arguments_and_nothing_else(manager: str, tmp_path: Path) -> None:
    """Whatever the arguments hold, the shell passes them on as they are, and the process manager does not see them."""
    files = released(config(manager))
    lines = files["config/process-worker.sh"].splitlines()
    assert shlex.split(lines[-1])[-3:] == WORKER["command"]
    (unit,) = (text for name, text in files.items() if name.startswith("config/") and "process-worker.sh" in text)
    assert "$HOME" not in unit
    script = tmp_path / "run.sh"
    command = ("printf", "%s|", *HOSTILE)
    script.write_text(released(config(manager, processes={"worker": {"command": command}}))["config/process-worker.sh"])
    last = script.read_text().splitlines()[-1]
    run = last[last.index("/bin/sh -c") :]
    assert subprocess.check_output(["/bin/sh", "-c", run], text=True) == "|".join([*HOSTILE, ""])


@pytest.mark.parametrize("env", [{}, {"PATH": "@@other@@:/usr/bin:/bin", "TOKEN": "x"}])
def test_the_virtual_environments_programs_come_before_a_path_of_the_applications(
    env: dict[str, str], tmp_path: Path
) -> None:
    venv, other = tmp_path / "venv/bin", tmp_path / "other"
    for folder in (venv, other, tmp_path / "release/app"):
        folder.mkdir(parents=True)
    for folder, names in ((venv, ("tool",)), (other, ("tool", "own"))):
        for name in names:
            (folder / name).write_text(f'#!/bin/sh\necho {folder.name} "$TOKEN"\n')
            (folder / name).chmod(0o755)
    (tmp_path / "release/tool").symlink_to(PROJECT / "machine")
    (tmp_path / "env.json").write_text(json.dumps(env).replace("@@other@@", str(other)))
    command = ["sh", "-c", "tool; command -v own"]
    values = config(
        processes={"worker": {"command": command}}, schedule={"nightly": {"command": command, "at": "@daily"}}
    )
    files = released(values)
    for name in ("process-worker.sh", "schedule-nightly.sh"):
        text = files[f"config/{name}"].replace("/etc/wsgi-ecs/app.env.json", str(tmp_path / "env.json"))
        facts = {"release": "1", "release_dir": str(tmp_path / "release"), "venv": str(tmp_path / "venv")}
        script = tmp_path / name
        script.write_text(fill_known(text, facts))
        done = subprocess.run(["/bin/sh", str(script), "-"], capture_output=True, text=True)
        assert done.stdout == (f"bin x\n{other}/own\n" if env else "bin \n"), done.stderr


def test_the_emperors_processes_are_systemds() -> None:
    name = "config/process-worker.service"
    assert released(config("emperor"))[name] == released(config("systemd"))[name]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    text = released(config("systemd"))["config/process-worker.service"]
    slot = tmp_path / "slot"
    slot.mkdir()
    unit = tmp_path / "wsgi-app-a.worker@1.service"
    unit.write_text(text.replace("@@slot_dir@@", str(slot)).replace("User=wsgi-app\n", "User=daemon\n"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_user_data_has_none_of_it() -> None:
    with_one, without = (parse(values, FILE) for values in (config(), {"server": {"os": "debian12"}}))
    assert bootstrap.user_data(machines(with_one)[0].plan, with_one) == bootstrap.user_data(
        machines(without)[0].plan, without
    )


def test_supervisor_itself_waits_for_the_slowest_process() -> None:
    assert "TimeoutStopSec=210" in host_files(machines(parse(config(), FILE))[0].plan)["host.json"]


def test_a_count_of_0_and_the_server_of_nginx_run_none() -> None:
    off = released(config(processes={"worker": {"count": 0}}))
    assert decode(Release, off["release.json"]).processes is None
    values = config(topology={"app_servers": 2})
    found = [decode(Release, released(values, number)["release.json"]).processes for number in range(3)]
    assert found[0] is None
    assert [processes and len(processes.programs) for processes in found[1:]] == [2, 2]


def test_a_site_has_its_own_beside_those_of_all() -> None:
    values = config(sites={"blog": {"processes": {"worker": {"count": 1}}}})
    processes = decode(Release, released(values)["release.json"]).processes
    assert processes
    assert [program.unit for program in processes.programs] == ["blog-@@slot@@.processes:worker-1"]


class FakeManager:
    """Answers supervisorctl and systemctl. pids: unit → process ids that it has one after the other, "" for none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, manager: str) -> None:
        self.tool: Any = module("processes")
        self.folder, self.manager = tmp_path, manager
        release = decode(Release, released(config(manager))["release.json"])
        state: Any = slot_state(release, "1", "a", {"slot": "a"}, fill_known)
        links = {name: str(tmp_path / Path(link).name) for name, link in state.processes.links.items()}
        programs = [one._replace(log=str(tmp_path / f"{one.number}.log")) for one in state.processes.programs]
        self.state: Any = state._replace(processes=state.processes._replace(links=links, programs=programs))
        for name in links:
            (tmp_path / name).write_text("")
        self.pids: dict[str, list[str]] = {}
        self.commands: list[str] = []
        self.clock = 0.0
        monkeypatch.setattr(self.tool, "run", self.run)
        monkeypatch.setitem(self.tool.add_to_supervisor.__globals__, "run", self.run)
        monkeypatch.setattr(self.tool.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(self.tool.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def run(self, *command: str, **_: Any) -> str:
        self.commands.append(" ".join(command))
        if command[1] == "add":
            return f"{command[2]}: added process group"
        if command[1] not in ("status", "show"):
            return ""
        now = {unit: pids.pop(0) if len(pids) > 1 else pids[0] for unit, pids in self.pids.items()}
        if self.manager == "supervisor":
            lines = (
                f"RUNNING   pid {pid}, uptime 0:00:01" if pid else "BACKOFF   Exited too quickly"
                for pid in now.values()
            )
            return (
                "\n".join(f"{unit}   {line}" for unit, line in zip(now, lines, strict=True))
                or "x:*: ERROR (no such group)"
            )
        return "\n\n".join(
            f"Id={unit}\nLoadState=loaded\nMainPID={pid or 0}\n"
            + ("ActiveState=active\nSubState=running" if pid else "ActiveState=activating\nSubState=auto-restart")
            for unit, pid in now.items()
        )

    def start(self) -> None:
        self.tool.start(self.state, str(self.folder), "nobody", lambda text: None)

    @property
    def units(self) -> list[str]:
        return [program.unit for program in self.state.processes.programs]


@pytest.fixture(params=["supervisor", "systemd"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeManager]:
    yield FakeManager(monkeypatch, tmp_path, request.param)


def test_programs_that_stay_up_are_held_for_their_seconds(fake: FakeManager) -> None:
    fake.pids = {unit: [str(number)] for number, unit in enumerate(fake.units, 7)}
    fake.start()
    assert 5 <= fake.clock < 7
    assert fake.tool.are_up(fake.state, str(fake.folder))
    assert len(fake.tool.lines(fake.state, str(fake.folder))) == 2


@pytest.mark.parametrize("pids", [["7", ""], ["7", "7", "8"]], ids=["ended", "started again"])
def test_a_program_that_does_not_stay_up_refuses(fake: FakeManager, pids: list[str]) -> None:
    one, other = fake.units
    fake.pids = {one: ["6"], other: list(pids)}
    (fake.folder / "2.log").write_text("of before\n")
    real = fake.tool.printed
    fake.tool.printed = lambda path, offset: f"{Path(path).name} from {offset}"
    try:
        with pytest.raises(Exception, match=r"process worker 2 does not stay up for 5 seconds") as refused:
            fake.start()
    finally:
        fake.tool.printed = real
    assert refused.value.lines == "2.log from 10"  # type: ignore[attr-defined]
    assert "processes.worker.command" in refused.value.then  # type: ignore[attr-defined]


def test_a_program_that_may_not_write_is_told_where_it_may(fake: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.pids = {unit: ["7", ""] for unit in fake.units}
    monkeypatch.setattr(fake.tool, "printed", lambda path, offset: "PermissionError: [Errno 13] Permission denied: 'x'")
    with pytest.raises(Exception, match="does not stay up") as refused:
        fake.start()
    assert "app.persistent" in refused.value.then  # type: ignore[attr-defined]
    assert "DATA_DIR" in refused.value.then  # type: ignore[attr-defined]


def test_stopping_stops_all_at_once_and_leaves_nothing(fake: FakeManager) -> None:
    fake.pids = {unit: ["7"] for unit in fake.units}
    fake.start()
    fake.tool.stop(fake.state, str(fake.folder))
    (stopped,) = [command for command in fake.commands if " stop " in command]
    assert stopped in ("supervisorctl stop app-a.processes:*", f"systemctl stop {' '.join(fake.units)}")
    assert not any(Path(link).exists() for link in fake.state.processes.links.values())


def test_what_a_process_manager_does_not_know_is_started_again(fake: FakeManager) -> None:
    fake.pids = {fake.units[0]: ["7"]}
    fake.tool.ensure_running(fake.state, str(fake.folder))
    assert any(" add " in command or " start " in command for command in fake.commands)
    fake.commands.clear()
    fake.pids = {unit: ["7"] for unit in fake.units}
    fake.tool.ensure_running(fake.state, str(fake.folder))
    assert len(fake.commands) == 1
