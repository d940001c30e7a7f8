"""The commands of a site that run at their times: schedule.<name>, a timer and a service of systemd each.

A service runs a script of the slot that `current` leads to when it starts, so it runs with the release that serves.
systemd starts no service that still runs, so none runs twice at once. Python 3.6, standard library only.
"""

import glob
import os
import re
from typing import Dict, List, Optional

import drop_ins
import files
from commands import run
from contract.documents import SlotState
from contract.processes import Job

STAMPS = "/var/lib/systemd/timers"


def place(site: str, user: str, state: Optional[SlotState], folder: str) -> None:
    """Put the timers of the slot that serves in place of those that the site has. state: None for no timers."""
    jobs = state.schedule if state else []
    wanted = {link: os.path.join(folder, name) for job in jobs for name, link in job.links.items()}
    remove(site, [os.path.basename(link) for link in wanted])
    if not jobs:
        return
    changed = {link for link, path in wanted.items() if files.text(link) != files.text(path)}
    for job in jobs:
        files.log(job.log, user)
    for link in changed:
        files.copy(wanted[link], link, 0o644)
    run("systemctl", "daemon-reload")
    for job in jobs:
        run("systemctl", "enable", "-q", job.timer)
        # A timer that runs keeps its old times until it is started again.
        has_changed = any(link in changed for link in job.links.values())
        run("systemctl", "restart" if has_changed else "start", job.timer)


def stop(state: SlotState) -> None:
    """Stop the timers and the running commands of a slot; place() starts the timers again."""
    for job in state.schedule:
        # A timer is stopped before its service, because it would start the service again.
        run("systemctl", "stop", job.timer, job.service, check=False)


def remove(site: str, kept: List[str]) -> None:
    """Stop and remove a site's timers and services. kept: units that stay."""
    # wsgi-app-a.worker@.service is no job of a site app-a but a process of a site app, in its slot a.
    job = re.compile(r"wsgi-{}\.[^.@]+\.(timer|service)\Z".format(re.escape(site)))
    found = map(os.path.basename, glob.glob(os.path.join(drop_ins.UNITS, "wsgi-{}.*".format(site))))
    gone = sorted(name for name in found if job.match(name) and name not in kept)
    if not gone:
        return
    timers = [name for name in gone if name.endswith(".timer")]
    if timers:
        run("systemctl", "disable", "-q", *timers, check=False)
    # A timer is stopped before its service, because it would start the service again.
    run("systemctl", "stop", *(timers + [name for name in gone if name not in timers]), check=False)
    for name in gone:
        files.remove(os.path.join(drop_ins.UNITS, name))
        files.remove(os.path.join(STAMPS, "stamp-" + name))
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", *gone, check=False)


def lines(state: SlotState) -> List[str]:
    """When each command ran last, how that ended, and when it runs next, a line each."""
    return ["schedule {}: {}".format(job.name, _outcome(job)) for job in state.schedule]


def _outcome(job: Job) -> str:
    service = _show(job.service, "ActiveState,Result,ExecMainStatus,ExecMainStartTimestamp,ExecMainExitTimestamp")
    timer = _show(job.timer, "ActiveState,NextElapseUSecRealtime")
    if service.get("ActiveState") in ("activating", "active", "deactivating"):
        last = "running since {}".format(service.get("ExecMainStartTimestamp"))
    elif not service.get("ExecMainExitTimestamp"):
        last = "has not run since the server's start"
    elif service.get("Result") == "success":
        last = "succeeded at {}".format(service["ExecMainExitTimestamp"])
    else:
        last = "failed at {} ({} {}); its log is {}".format(
            service["ExecMainExitTimestamp"], service.get("Result"), service.get("ExecMainStatus"), job.log
        )
    coming = timer.get("NextElapseUSecRealtime") if timer.get("ActiveState") == "active" else None
    return "{}; {}".format(last, "next at {}".format(coming) if coming else "its timer does not run")


def _show(unit: str, names: str) -> Dict[str, str]:
    answer = run("systemctl", "show", "-p", names, unit, check=False)
    return dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
