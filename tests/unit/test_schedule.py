"""Commands at their times: cron's form as systemd's, the units, and how the release tool treats them."""

import datetime
import itertools
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contract.codec import decode
from contract.documents import Release, slot_state
from contract.placeholders import fill_known
from kinds import schedule
from reference.samples import FILE
from schema.cron import on_calendar
from serving import machines, release_files
from settings.loader import parse
from tests.unit.machine import module

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NIGHTLY = {"command": "python manage.py clearsessions", "at": "0 3 * * *"}


def config(**more: Any) -> dict[str, Any]:
    return {"server": {"os": "debian12"}, "schedule": {"nightly": NIGHTLY}, **more}


def is_due(line: str, at: datetime.datetime) -> bool:
    """Whether a line of OnCalendar= names a minute, by the manual of systemd."""
    match = re.fullmatch(r"(?:([A-Z][A-Za-z,]+) )?\*-([0-9,*]+)-([0-9,*]+) ([0-9,*]+):([0-9,*]+):00", line)
    assert match, line
    named, *parts = match.groups()
    numbers = (at.month, at.day, at.hour, at.minute)
    fits = all(part == "*" or number in map(int, part.split(",")) for part, number in zip(parts, numbers, strict=True))
    return fits and (named is None or DAYS[at.weekday()] in named.split(","))


def minutes(at: str, days: int = 400) -> list[datetime.datetime]:
    """The first minute of each hour at which cron's text is due, and what is due in its first hour."""
    lines, start = on_calendar(at), datetime.datetime(2028, 1, 1)
    asked = itertools.chain(
        (start + datetime.timedelta(minutes=number) for number in range(60)),
        (start + datetime.timedelta(hours=number) for number in range(24 * days)),
    )
    return sorted({moment for moment in asked if any(is_due(line, moment) for line in lines)})


def test_names_steps_ranges_and_lists_are_what_crontab_says() -> None:
    first = datetime.datetime(2028, 1, 1)
    assert minutes("*/20 0 1 jan *", 1) == [first + datetime.timedelta(minutes=number) for number in (0, 20, 40)]
    assert {moment.hour for moment in minutes("0 8-18/5,23 * * *", 3)} == {8, 13, 18, 23}
    assert {moment.weekday() for moment in minutes("0 9 * * MON,wed-fri", 30)} == {0, 2, 3, 4}
    assert {moment.weekday() for moment in minutes("0 9 * * 5-7", 30)} == {4, 5, 6}
    assert {moment.weekday() for moment in minutes("@weekly", 30)} == {6}
    assert {(moment.month, moment.day) for moment in minutes("@yearly")} == {(1, 1)}
    assert len(minutes("@hourly", 2)) == 48
    assert [(moment.month, moment.day) for moment in minutes("0 0 29 feb *")] == [(2, 29)]


def test_a_day_of_the_month_or_of_the_week_is_either_as_in_cron() -> None:
    found = minutes("0 0 13 * fri", 60)
    assert {moment.day == 13 or moment.weekday() == 4 for moment in found} == {True}
    assert any(moment.weekday() != 4 for moment in found)
    assert any(moment.day != 13 for moment in found)
    # A field that begins with a star restricts the other.
    assert all(moment.day % 2 and moment.weekday() == 4 for moment in minutes("0 0 */2 * fri", 60))


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("0 3 * *", "not five fields"),
        ("@reboot", "no start of the machine"),
        ("60 * * * *", "minute: 60 is none"),
        ("0 3 0 * *", "day of the month: 0 is none"),
        ("0 3 * * mo", "neither"),
        ("0 3 * foo *", "month: foo is none"),
        ("0 3 * * fri-mon", "ends before it begins"),
        ("5/10 * * * *", "is no step"),
        ("*/0 * * * *", "is no step"),
        ("0 0 31 4,6 *", "none of these months"),
        ("0 3 * * *\nOnCalendar=*", "not five fields"),
        ("0 3 * * %", "neither"),
    ],
)
def test_what_cron_would_not_take_is_refused(at: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        on_calendar(at)
    assert str(refused.value).isprintable()
    assert "allowed: " in str(refused.value)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
@pytest.mark.parametrize("at", ["*/7 1-5 1,15 jan-mar 1-5", "0 3 * * sun", "@monthly", "59 23 31 12 *"])
def test_systemd_reads_the_times(at: str) -> None:
    for line in on_calendar(at, "Asia/Shanghai"):
        done = subprocess.run(["systemd-analyze", "calendar", line], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    values = config(schedule={"nightly": {**NIGHTLY, "catch_up": True, "timezone": "UTC", "at": "0 3 13 * 5"}})
    files = release_files(machines(parse(values, FILE))[0].plan.sites[0])
    for kind in ("service", "timer"):
        text = files[f"config/schedule-nightly.{kind}"].replace("User=wsgi-app", "User=daemon")
        (tmp_path / f"wsgi-app.nightly.{kind}").write_text(text)
    units = [str(tmp_path / f"wsgi-app.nightly.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    timer = files["config/schedule-nightly.timer"]
    assert timer.count("OnCalendar=") == 2
    assert "Persistent=true" in timer


def test_one_of_several_app_servers_has_the_timers() -> None:
    plans = [machine.plan for machine in machines(parse(config(topology={"app_servers": 2}), FILE))]
    jobs = [decode(Release, release_files(plan.sites[0])["release.json"]).schedule for plan in plans]
    assert [[job.name for job in found] for found in jobs] == [[], ["nightly"], []]


def test_timers_come_change_and_go_with_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool: Any = module("schedule")
    units, slot, stamps = (tmp_path / name for name in ("units", "slot", "stamps"))
    for folder in (units, slot, stamps):
        folder.mkdir()
    asked: list[str] = []

    def run(*command: str, **_: Any) -> str:
        asked.append(" ".join(command))
        return ""

    monkeypatch.setattr(tool, "run", run)
    monkeypatch.setattr(tool.drop_ins, "UNITS", str(units))
    monkeypatch.setattr(tool, "STAMPS", str(stamps))
    release = decode(Release, release_files(machines(parse(config(), FILE))[0].plan.sites[0])["release.json"])
    state: Any = slot_state(release, "1", "a", {"slot": "a"}, fill_known)
    (job,) = state.schedule
    links = {name: str(units / Path(link).name) for name, link in job.links.items()}
    state = state._replace(schedule=[job._replace(links=links, log=str(tmp_path / "log"))])
    for name in links:
        (slot / name).write_text("first")
    # These are not the site's: its application server, a process of it, the timer of certificates, another site.
    others = {"wsgi-app-a.service", "wsgi-app-a.w@.service", "wsgi-app.service", "wsgi-app-2.nightly.timer"}
    for name in others:
        (units / name).write_text("other")
    tool.place("app", "nobody", state, str(slot))
    assert "systemctl restart wsgi-app.nightly.timer" in asked
    assert {path.name for path in units.iterdir()} == others | {"wsgi-app.nightly.service", "wsgi-app.nightly.timer"}
    asked.clear()
    tool.place("app", "nobody", state, str(slot))
    assert "systemctl start wsgi-app.nightly.timer" in asked
    assert not any(" restart " in command or " stop " in command for command in asked)
    (stamps / "stamp-wsgi-app.nightly.timer").write_text("")
    tool.place("app", "nobody", state._replace(schedule=[]), str(slot))
    assert "systemctl stop wsgi-app.nightly.timer wsgi-app.nightly.service" in asked
    assert {path.name for path in units.iterdir()} == others
    assert not list(stamps.iterdir())
    asked.clear()
    tool.place("app", "nobody", None, "")
    assert asked == []


@pytest.mark.parametrize("manager", ["supervisor", "systemd", "emperor"])
def test_no_name_of_a_site_is_one_of_another_sites_slot(
    manager: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"processes": {"worker": {"command": "python w.py"}}, "schedule": {"worker": NIGHTLY}}
    names = ("app", "app-a", "app-b", "app-a-b", "app-cache-10m", "app-a-processes")
    sites: dict[str, dict[str, Any]] = {
        name: {**own, "nginx": {"cache": {"max_size": "1g"}}, "site": {"server_name": f"{name}.example"}}
        for name in names
    }
    values = {"server": {"os": "debian12"}, "serving": {"process_manager": manager}, "sites": sites}
    units: dict[str, set[str]] = {}
    found: list[tuple[str, str]] = []
    for site in machines(parse(values, FILE))[0].plan.sites:
        release = decode(Release, release_files(site)["release.json"])
        of_site: set[str] = set()
        for slot in ("a", "b"):
            state = slot_state(release, "0123", slot, {"slot": slot, "release": "0123"}, fill_known)
            assert state.processes
            links = {state.program_link, *state.processes.links.values()}
            logs = {state.log, *(program.log for program in state.processes.programs)}
            known = {f"{state.manager}: {state.program}", f"{state.processes.manager}: {state.processes.group}: group"}
            known |= {f"{state.processes.manager}: {program.unit}" for program in state.processes.programs}
            found += [(release.site, name) for name in links | logs | known if not name.endswith(": : group")]
            of_site |= links
        jobs = {link for job in release.schedule for link in job.links.values()}
        found += [(release.site, name) for name in jobs]
        units[release.site] = {Path(link).name for link in of_site | jobs}
    assert len(found) == len({name for _, name in found})
    for number, site_values in enumerate(sites.values()):
        site_values["uwsgi"] = {"socket": f"0.0.0.0:{3031 + 10 * number}"}
    front = machines(parse({**values, "topology": {"app_servers": 2}}, FILE))[0].plan
    configs = "".join(site.configs["http.conf"] for site in front.sites)
    zones = re.findall(r"(?:\bzone |keys_zone=)(.+?)[: ]", configs)
    assert len(zones) == len(set(zones)) == 2 * len(names)
    # A site without a schedule removes the timers that it had, and nothing of any other site.
    tool: Any = module("schedule")
    monkeypatch.setattr(tool, "run", lambda *command, **_: "")
    monkeypatch.setattr(tool.drop_ins, "UNITS", str(tmp_path))
    monkeypatch.setattr(tool, "STAMPS", str(tmp_path))
    for name in set().union(*units.values()):
        (tmp_path / name).touch()
    for name, own_units in units.items():
        before = {path.name for path in tmp_path.iterdir()}
        tool.place(name, "nobody", None, "")
        gone = before - {path.name for path in tmp_path.iterdir()}
        assert gone == {f"wsgi-{name}.worker.service", f"wsgi-{name}.worker.timer"}
        assert gone <= own_units


def test_a_release_that_is_undone_gives_the_timers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new slot's timers may be in place already when the note that it serves fails."""
    tool: Any = module("rollout")
    undone = tool.Rollout.__new__(tool.Rollout)
    did: list[Any] = []
    undone.release, undone.old_env, undone.old_target = SimpleNamespace(site="app", user="wsgi-app"), None, "slots/a"
    undone.old_maintenance, undone.own_maintenance, undone.old_note = {}, {}, None
    undone.old, undone.new = SimpleNamespace(slot="a"), SimpleNamespace(slot="b")
    undone.site = SimpleNamespace(undo=lambda *states: did.append(states), slot_dir=lambda slot: f"slots/{slot}")
    monkeypatch.setattr(tool.schedule, "place", lambda *arguments: did.append(arguments))
    undone._undo()
    assert did == [("slots/a", undone.old, undone.new), ("app", "wsgi-app", undone.old, "slots/a")]


def test_a_member_of_a_scaling_group_asks_for_the_lease_before_a_command() -> None:
    stack = parse(config(), "test")
    site = stack.sites[0]
    both = [
        schedule.timers(site.schedule, None, site.place, stack.system, "", is_scaled).configs["schedule-nightly.sh"]
        for is_scaled in (False, True)
    ]
    alone, scaled = (text.splitlines() for text in both)
    asks = "/usr/bin/python3 @@release_dir@@/tool/has_lease.py || exit 0"
    assert [line for line in scaled if line not in alone][1:] == [asks]
    assert scaled.index(asks) < len(scaled) - 1
    assert [line for line in alone if line not in scaled] == []
