"""What a release's JSON files hold of the programs beside a site's application server."""

from typing import Dict, List, NamedTuple


class Process(NamedTuple):
    """One program of `processes.<name>`. number: from 1. unit: its name in the process manager. log: what it prints."""

    name: str
    number: int
    unit: str
    log: str
    start_seconds: int


class Processes(NamedTuple):
    """The programs of a slot. manager: supervisor or systemd. group: that they are in, of supervisor alone.

    links: file of the slot → path where the process manager looks for that file.
    """

    manager: str
    group: str
    links: Dict[str, str]
    programs: List[Process]


class Job(NamedTuple):
    """A command of `schedule.<name>`. timer, service: units of systemd. log: what it prints.

    links: file of the slot → path where systemd looks for that file.
    """

    name: str
    timer: str
    service: str
    log: str
    links: Dict[str, str]
