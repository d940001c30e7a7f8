"""What serves on this machine, how busy it is, and which files were edited by hand.

    release.py status          lines for a person
    release.py status --json   the same for programs, in numbers: bytes, seconds, seconds since 1970
    release.py status --json --no-drift    without reading each file for what was edited, to be asked often
    release.py status --revive             only starts what should run and does not, even if somebody has stopped it

Python 3.6, standard library only.
"""

import json
import os
import time
from typing import Any, Callable, Dict, List, Optional

import access_log
import certificates
import drift
import drop_ins
import dumps
import facts
import files
import maintenance
import processes
import redis_server
import schedule
import shared_data
import space
import updates
import workers
from commands import ReleaseError
from contract import paths
from contract.documents import SlotState
from revive import revive
from slots import served_at

_NEXT = "raise release.generation and run up again, which puts back what was released"
Status = Dict[str, Any]


def command(arguments: List[str], out: Callable[[str], object]) -> int:
    """The command wsgi-ecs-status. Returns the exit status, 1 when a file was edited by hand."""
    if arguments in ([], ["--revive"]):
        # Who asks often, and in figures, only looks.
        revive(out, stopped_too=bool(arguments))
    if arguments == ["--revive"]:
        return 0
    found = of_machine("--no-drift" not in arguments)
    if arguments:
        out(json.dumps(found, indent=1, sort_keys=True))
    else:
        for line in lines(found):
            out(line)
    return 1 if found["edited"] else 0


def of_machine(finds_edits: bool) -> Status:
    """The machine and its sites, as JSON values. A key whose value is not known is None."""
    sites = [of_site(name, finds_edits) for name in files.site_names()]
    edited = [edit for site in sites for edit in site.pop("edited")]
    edited += drift.of_host() + drift.of_service() if finds_edits else []
    load = os.getloadavg()[0]
    return {
        "cpus": facts.cpus(),
        "load": load,
        "memory": {"size": facts.memory() << 20, "free": facts.free_memory()},
        "disks": [space.measure(place) for place in space.places()],
        "redis": redis_server.is_running(),
        "shared_data": shared_data.state(),
        "database": _database() if os.path.exists(paths.DATABASE_COMMAND) else None,
        "updates": _updates(),
        "unconfined": drop_ins.unconfined(),
        "sites": sites,
        "edited": [{"path": path, "kind": kind} for path, kind in sorted(edited)] if finds_edits else None,
    }


def _database() -> Status:
    """The dumps of this machine's database."""
    return {"backup": _time(paths.database_backup()), "dumps": dumps.kept(), "dump_failed": dumps.has_failed()}


def of_site(name: str, finds_edits: bool) -> Status:
    """A site. `edited` is a list of drift.Edit."""
    folder = os.path.join(paths.site_root(name), "current")
    state = files.slot_state(folder)
    serves = state is not None and state.release not in (None, paths.BOOTSTRAP)
    closed, releases = maintenance.of(name), os.path.join(paths.site_root(name), "releases")
    found: Status = {
        "name": name,
        "release": state.release if state and serves else None,
        "rolled_back": state.rolled_back if state else None,
        "since": int(served_at(releases, str(state.release))) if state and serves else None,
        "maintenance": closed and {"since": closed.since, "by": closed.by},
        "workers": None,
        "requests": None,
        "certificate": None,
        "backup": _time(paths.backup(name)),
        "programs": [],
        "edited": [],
    }
    if state:
        slot = os.path.join(paths.site_root(name), "slots", state.slot)
        busy, requests = workers.of(state), access_log.recent(os.path.join(paths.logs(name), "access.log"))
        found.update(
            workers=busy and dict(busy._asdict()),
            requests=requests and dict(requests._asdict()),
            certificate=_certificate(state),
            programs=processes.lines(state, slot) + schedule.lines(state),
            edited=drift.of_site(name, state) if finds_edits else [],
        )
    return found


def _updates() -> Optional[Status]:
    """What became of the last run of security updates, None before the first."""
    last = updates.last()
    if last is None:
        return None
    # The OS's packages of Debian and Ubuntu write this file.
    return dict(last._asdict(), reboot=os.path.exists("/run/reboot-required"))


def _time(path: str) -> Optional[int]:
    """When a file was written, None when there is none."""
    try:
        return int(os.stat(path).st_mtime)
    except OSError:
        return None


def _certificate(state: SlotState) -> Optional[Status]:
    """Domain and end of the certificate of a site's domain, None without one."""
    if state.probe is None or not state.probe.tls:
        return None
    host = state.probe.host
    # A certificate for *.example.com has this name.
    for domain in (host, "*." + host.partition(".")[2]):
        if os.path.exists(certificates.path(domain, "crt")):
            try:
                return {"domain": domain, "ends": int(certificates.Certificate(domain).ends)}
            except (ReleaseError, ValueError):
                return None
    return None


def lines(found: Status) -> List[str]:
    """A status in words."""
    shown = []
    if found["redis"] is not None:
        unit = redis_server.UNIT
        shown.append(
            "redis: {}".format("runs" if found["redis"] else "does not answer (journalctl -u {})".format(unit))
        )
    if found["shared_data"]:
        shown.append("shared data: " + found["shared_data"])
    if found["database"]:
        shown += _lines_of_database(found["database"])
    if found["updates"]:
        shown.append("security updates: " + _words_of_updates(found["updates"]))
    if found["unconfined"]:
        shown.append("not confined until a restart, which loses requests: " + " ".join(found["unconfined"]))
    for site in found["sites"]:
        shown += _lines_of_site(site)
    memory = found["memory"]
    parts = ["load {:.2f} on {} CPUs".format(found["load"], found["cpus"])]
    parts.append("{} of {} memory free".format(_size(memory["free"]), _size(memory["size"])))
    parts += [
        "{} of {} free on {}".format(_size(disk["free"]), _size(disk["size"]), disk["name"]) for disk in found["disks"]
    ]
    shown.append("machine: " + ", ".join(parts))
    shown += ["edited by hand: {path} ({kind})".format(**edit) for edit in found["edited"]]
    return shown + (["next: " + _NEXT] if found["edited"] else [])


def _lines_of_database(found: Status) -> List[str]:
    made = found["backup"]
    first = "database: {}".format("last backup " + maintenance.moment(made) if made else "no backup yet")
    if found["dumps"]:
        first += ", last nightly dump " + maintenance.moment(found["dumps"][0]["time"])
    shown = [first]
    if found["dump_failed"]:
        shown.append("  the last nightly dump failed (journalctl -u {})".format(paths.DUMP_UNIT))
    return shown + ["  nightly dump {}: {}".format(dump["name"], _size(dump["size"])) for dump in found["dumps"]]


def _words_of_updates(found: Status) -> str:
    when = maintenance.moment(found["time"])
    if not found["ended"]:
        return "began {} and has not ended (journalctl -u wsgi-ecs-updates)".format(when)
    if found["failed"]:
        return "failed {} (journalctl -u wsgi-ecs-updates)".format(when)
    parts = ["last run {}, {} packages".format(when, len(found["installed"]))]
    parts += ["left to you: {}".format(" ".join(found["waiting"]))] if found["waiting"] else []
    parts += ["a reboot is due"] if found["reboot"] else []
    return ", ".join(parts)


def _lines_of_site(site: Status) -> List[str]:
    closed = maintenance.describe(site["name"])
    serves = "release {} since {}".format(site["release"], maintenance.moment(site["since"])) if site["release"] else ""
    rolled_back = "rolled back from {}".format(site["rolled_back"]) if site["rolled_back"] else ""
    first = "site {}: {}".format(
        site["name"], ", ".join(filter(None, (serves or "waits for its first release", rolled_back, closed)))
    )
    shown = []
    busy, requests, certificate = site["workers"], site["requests"], site["certificate"]
    if busy:
        text = (
            "{0[busy]} of {1} busy"
            if busy["idle"] is not None
            else "{0[busy]} requests in work, {0[processes]} processes"
        )
        work = text.format(busy, busy["busy"] + (busy["idle"] or 0))
        shown.append("workers: {}, queue {}, {} memory".format(work, busy["queue"], _size(busy["memory"])))
    if requests:
        text = "requests: {:.1f} a second, {:.1f} % 5xx{} (last {} s)"
        p95 = "" if requests["p95"] is None else ", p95 {:.3f} s".format(requests["p95"])
        shown.append(text.format(requests["rate"], 100 * requests["errors"], p95, requests["seconds"]))
    if certificate:
        days = int((certificate["ends"] - time.time()) // 86400)
        shown.append("certificate of {domain}: ends in {0} days".format(days, **certificate))
    if site["backup"]:
        shown.append("last backup of its data: {}".format(maintenance.moment(site["backup"])))
    return [first] + ["  " + line for line in shown + site["programs"]]


def _size(size: int) -> str:
    return space.size_text(size)
