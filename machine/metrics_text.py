"""The numbers of wsgi-ecs-status in Prometheus' text form, and nothing that is not known.

https://prometheus.io/docs/instrumenting/exposition_formats/ Python 3.6, standard library only.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "wsgi_ecs_"
# This is what status.of_machine or status.of_site returns.
_Status = Dict[str, Any]


class _Family(NamedTuple):
    """A gauge. value: of a status, None for what is not known. labels: which the status has beside the site's name."""

    name: str
    meaning: str
    value: Callable[[_Status], Optional[float]]
    labels: Callable[[_Status], Dict[str, str]] = lambda status: {}


def _part(key: str, name: str) -> Callable[[_Status], Optional[float]]:
    """Function that finds a number in a part of a status, None if either is not known."""
    return lambda status: status[key] and status[key][name]


# There is no counter among them: each number is that of the moment, or of the last minutes.
_MACHINE = (
    _Family("cpus", "CPUs that this machine may use.", lambda status: status["cpus"]),
    _Family("load1", "Load average of the last minute.", lambda status: status["load"]),
    _Family("memory_size_bytes", "Memory of this machine.", _part("memory", "size")),
    _Family("memory_free_bytes", "Memory that programs can have without swapping.", _part("memory", "free")),
    _Family("redis_up", "Whether the Redis of this machine answers.", lambda status: status["redis"]),
    _Family(
        "database_backup_timestamp_seconds",
        "Of when the newest dump of the database is that has left this machine.",
        _part("database", "backup"),
    ),
    _Family(
        "database_nightly_dump_timestamp_seconds",
        "When the newest nightly dump on this machine was made.",
        lambda status: max((dump["time"] for dump in (status["database"] or {"dumps": []})["dumps"]), default=None),
    ),
)
_DISK = (
    _Family("disk_size_bytes", "Size of a disk.", lambda disk: disk["size"], lambda disk: {"path": disk["path"]}),
    _Family("disk_free_bytes", "Bytes left on a disk.", lambda disk: disk["free"], lambda disk: {"path": disk["path"]}),
)
_SITE = (
    _Family(
        "release_info",
        "The release that serves.",
        lambda site: site["release"] and 1,
        lambda site: {"release": site["release"]},
    ),
    _Family("release_timestamp_seconds", "Since when the release serves.", lambda site: site["since"]),
    _Family(
        "release_rolled_back",
        "Whether a rollback has put an older release in place of the last one.",
        lambda site: site["release"] and bool(site["rolled_back"]),
    ),
    _Family("maintenance", "Whether the site is closed for maintenance.", lambda site: bool(site["maintenance"])),
    _Family("processes", "Processes that run the application.", _part("workers", "processes")),
    _Family("workers_busy", "Requests in work.", _part("workers", "busy")),
    _Family("workers_idle", "Requests that could be taken beside those in work.", _part("workers", "idle")),
    _Family("queue_connections", "Connections that no worker has accepted.", _part("workers", "queue")),
    _Family("application_memory_bytes", "Memory of the application's processes.", _part("workers", "memory")),
    _Family("requests_window_seconds", "Seconds that the numbers of requests are of.", _part("requests", "seconds")),
    _Family("requests_per_second", "Requests a second in these seconds.", _part("requests", "rate")),
    _Family("request_errors_ratio", "Share of requests with a status of 5xx, 0 to 1.", _part("requests", "errors")),
    _Family("request_p95_seconds", "Time in which 95 % of the requests were answered.", _part("requests", "p95")),
    _Family(
        "certificate_end_timestamp_seconds",
        "When the certificate of the site's domain ends.",
        _part("certificate", "ends"),
        lambda site: {"domain": site["certificate"]["domain"]},
    ),
    _Family("backup_timestamp_seconds", "When the site's data were copied last.", lambda site: site["backup"]),
)


def text(status: _Status) -> str:
    """A status of status.of_machine as the body of an answer."""
    lines = _lines(_MACHINE, [({}, status)])
    lines += _lines(_DISK, [({}, disk) for disk in status["disks"]])
    lines += _lines(_SITE, [({"site": site["name"]}, site) for site in status["sites"]])
    return "".join(line + "\n" for line in lines)


def _lines(families: Tuple[_Family, ...], statuses: List[Tuple[Dict[str, str], _Status]]) -> List[str]:
    """The lines of families, each with all that have its number. statuses: labels and status of each of them."""
    found = []
    for family in families:
        samples = [(labels, status, family.value(status)) for labels, status in statuses]
        known = [
            (dict(labels, **family.labels(status)), value) for labels, status, value in samples if value is not None
        ]
        if known:
            name = _PREFIX + family.name
            found += ["# HELP {} {}".format(name, family.meaning), "# TYPE {} gauge".format(name)]
            found += ["{}{} {!r}".format(name, _labels(labels), _number(value)) for labels, value in known]
    return found


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _labels(labels: Dict[str, str]) -> str:
    escaped = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
    each = ['{}="{}"'.format(name, value.translate(escaped)) for name, value in labels.items()]
    return "{" + ",".join(each) + "}" if each else ""
