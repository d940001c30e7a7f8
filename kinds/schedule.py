"""The commands of a site that run at their times: units of systemd, whatever the process manager is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from contract.processes import Job
from kinds.place import Place
from kinds.processes import script
from kinds.systems import System
from schema import schedule
from schema.cron import on_calendar
from templates import render


@dataclass(frozen=True)
class Schedule:
    """jobs: for the release tool. configs: file name → text."""

    jobs: list[Job] = field(default_factory=list)
    configs: Mapping[str, str] = field(default_factory=dict)


def timers(
    jobs: Mapping[str, schedule.Job],
    group: str | None,
    place: Place,
    system: System,
    confined: str,
    is_scaled: bool = False,
) -> Schedule:
    """The timers of a site. group: that the commands run in, None for their user's own.

    confined: directives of a unit that confine a command. is_scaled: whether the site is on the members of a scaling
    group, one of which runs a command at a time.
    """
    found: list[Job] = []
    configs: dict[str, str] = {}
    for name, job in sorted(jobs.items()):
        file, unit, log = f"schedule-{name}", f"wsgi-{place.name}.{name}", f"{place.logs}/schedule.{name}.log"
        values = {"name": name, "job": job, "place": place, "group": group, "script": f"{file}.sh", "log": log}
        values["confined"] = confined
        calendar = on_calendar(job.at, job.timezone)
        configs[f"{file}.sh"] = script(job.command, place, system, is_scaled)
        configs[f"{file}.service"] = render("templates/systemd/schedule.service.j2", **values)
        configs[f"{file}.timer"] = render("templates/systemd/schedule.timer.j2", calendar=calendar, **values)
        links = {f"{file}.{kind}": f"/etc/systemd/system/{unit}.{kind}" for kind in ("service", "timer")}
        found.append(Job(name=name, timer=f"{unit}.timer", service=f"{unit}.service", log=log, links=links))
    return Schedule(found, configs)
