"""The programs of a slot beside its application server: their names, their scripts, and how a process manager is told.

Each file of a process manager starts a script of the slot, so a user's command is quoted in one place, for one shell.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from contract.processes import Process as Program
from contract.processes import Processes
from kinds.place import Place
from kinds.systems import System
from schema.processes import Process
from templates import render


@dataclass(frozen=True)
class Workers:
    """A site's processes under its process manager.

    document: for the release tool, None without any. configs: file name → text.
    """

    document: Processes | None = None
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Worker:
    """A process of a site. section: its name on the machine. script: the slot's file that starts it."""

    name: str
    section: str
    script: str
    settings: Process

    def log(self, place: Place, number: object) -> str:
        """Log of one of its programs. number: from 1, or the process manager's own expression of it."""
        return f"{place.logs}/@@slot@@.{self.name}.{number}.log"


def workers(processes: Mapping[str, Process], place: Place) -> tuple[Worker, ...]:
    """The processes that run, by name."""
    return tuple(
        # A site's name has no dot, so nothing else on the machine has this name.
        Worker(name, f"{place.name}-@@slot@@.{name}", f"process-{name}.sh", settings)
        for name, settings in sorted(processes.items())
        if settings.command and settings.count
    )


def script(command: tuple[str, ...], place: Place, system: System, has_lease: bool = False) -> str:
    """Text of a script that becomes a command, with what the site's application server has around it.

    has_lease: whether it does so only on the member of a scaling group that has the lease.
    """
    values = {"command": shlex.join(command), "place": place, "system": system, "has_lease": has_lease}
    return render("templates/process/run.sh.j2", **values)


def scripts(found: tuple[Worker, ...], place: Place, system: System) -> dict[str, str]:
    """File name → text of the scripts that start processes."""
    return {worker.script: script(worker.settings.command or (), place, system) for worker in found}


def programs(found: tuple[Worker, ...], place: Place, unit: Callable[[Worker, int], str]) -> list[Program]:
    """What the release tool needs to know of each program. unit: its name in the process manager, by its number."""
    return [
        Program(
            name=worker.name,
            number=number,
            unit=unit(worker, number),
            log=worker.log(place, number),
            start_seconds=worker.settings.start_seconds,
        )
        for worker in found
        for number in range(1, worker.settings.count + 1)
    ]
