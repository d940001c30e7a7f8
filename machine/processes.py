"""The programs beside a site's application server: processes.<name>, under supervisor or as units of systemd.

A slot has its own, as it has its application server: the new ones start before the switch and are stopped with their
slot. Each function takes the state of a slot and touches no other program. Python 3.6, standard library only.
"""

import os
import time
from typing import Dict, List, NamedTuple, Optional, Type

import causes
import files
from commands import ReleaseError, Say, run
from contract.documents import SlotState
from contract.processes import Process, Processes
from logs import printed, size
from managers import FAILED, RUNNING, STARTING, add_to_supervisor

# Seconds that programs may take to be started, beside those that they must stay up.
_PATIENCE = 30.0
_PAUSE = 0.5
# The last lines of a program reach its log a moment after its end.
_LOG_SECONDS = 0.3


class Found(NamedTuple):
    """What a process manager says of a program. state: RUNNING, STARTING or FAILED. words: as it says it."""

    state: str
    pid: str
    words: str


class Group:
    """The programs of a slot, as a process manager knows them."""

    def __init__(self, processes: Processes, folder: str) -> None:
        self.group = processes.group
        self.units = [process.unit for process in processes.programs]
        # File of the slot → where the process manager looks for it.
        self.links = {os.path.join(folder, name): link for name, link in processes.links.items()}

    def found(self) -> Dict[str, Found]:
        """Unit → what the process manager says of it; a unit that it does not know is absent."""
        raise NotImplementedError

    def add(self) -> None:
        """Start all programs, whose files are new. Raises ReleaseError."""
        raise NotImplementedError

    def remove(self) -> None:
        """Stop all programs at the same time, each of which has its own time to finish, and forget them."""
        raise NotImplementedError

    def retry(self, unit: str) -> None:
        """Start a program at once that does not run."""
        raise NotImplementedError


class SupervisorGroup(Group):
    """A group of supervisor: http://supervisord.org/configuration.html#group-x-section-settings"""

    def found(self) -> Dict[str, Found]:
        found = {}
        for line in run("supervisorctl", "status", self.group + ":*", check=False).splitlines():
            unit, _, words = line.partition(" ")
            words = " ".join(words.split())
            if unit in self.units and words.split(" ")[0].isupper():
                state = {"RUNNING": RUNNING, "STARTING": STARTING}.get(words.split(" ")[0], FAILED)
                pid = words.partition("pid ")[2].partition(",")[0]
                found[unit] = Found(state, pid, words)
        return found

    def add(self) -> None:
        for path, link in self.links.items():
            files.link(path, link)
        add_to_supervisor("group", self.group)

    def remove(self) -> None:
        if self.found():
            run("supervisorctl", "stop", self.group + ":*", check=False)
            run("supervisorctl", "remove", self.group, check=False)
        for link in self.links.values():
            files.remove(link)
        run("supervisorctl", "reread", check=False)

    def retry(self, unit: str) -> None:
        # `start` refuses a program that waits for its next attempt (BACKOFF).
        run("supervisorctl", "restart", unit, check=False)


class SystemdUnits(Group):
    """Units made from templates: https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html"""

    def found(self) -> Dict[str, Found]:
        asked = "Id,LoadState,ActiveState,SubState,MainPID,ActiveEnterTimestamp"
        found = {}
        for block in run("systemctl", "show", "-p", asked, *self.units, check=False).split("\n\n"):
            says = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            active = says.get("ActiveState", "")
            if says.get("LoadState") != "loaded" or active == "inactive":
                continue
            words = "{} ({}) since {}".format(active, says.get("SubState"), says.get("ActiveEnterTimestamp") or "never")
            found[says.get("Id", "")] = Found(RUNNING if active == "active" else FAILED, says.get("MainPID", ""), words)
        return found

    def add(self) -> None:
        for path, link in self.links.items():
            # The unit is a copy, because CentOS 7's systemd accepts no link.
            files.copy(path, link, 0o644)
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "-q", *self.units)
        run("systemctl", "start", *self.units)

    def remove(self) -> None:
        if any(map(os.path.lexists, self.links.values())):
            run("systemctl", "stop", *self.units, check=False)
            run("systemctl", "disable", "-q", *self.units, check=False)
            run("systemctl", "reset-failed", *self.units, check=False)
        for link in self.links.values():
            files.remove(link)
        run("systemctl", "daemon-reload")

    def retry(self, unit: str) -> None:
        run("systemctl", "reset-failed", unit, check=False)
        run("systemctl", "start", unit, check=False)


_GROUPS: Dict[str, Type[Group]] = {"supervisor": SupervisorGroup, "systemd": SystemdUnits}


def _group(state: SlotState, folder: str) -> Optional[Group]:
    """The programs of a slot, None when it has none."""
    return _GROUPS[state.processes.manager](state.processes, folder) if state.processes else None


def start(state: SlotState, folder: str, user: str, say: Say) -> None:
    """Start the programs of a slot, and wait until each has stayed up long enough. Raises ReleaseError."""
    group = _group(state, folder)
    if group is None or state.processes is None:
        return
    programs = state.processes.programs
    say("starting {}".format(_named(programs)))
    for program in programs:
        files.log(program.log, user)
    offsets = {program.unit: size(program.log) for program in programs}
    group.add()
    _hold(group, programs, offsets)


def _hold(group: Group, programs: List[Process], offsets: Dict[str, int]) -> None:
    """Wait until each program has stayed up for its start_seconds. Raises ReleaseError when one ends."""
    began = time.monotonic()
    first: Dict[str, str] = {}
    while True:
        found = group.found()
        passed = time.monotonic() - began
        waiting = None
        for program in programs:
            now = found.get(program.unit)
            if now and now.state != FAILED and first.get(program.unit, now.pid) == now.pid:
                if now.state == RUNNING:
                    first[program.unit] = now.pid
                if now.state == RUNNING and passed >= program.start_seconds:
                    continue
                if passed < program.start_seconds + _PATIENCE:
                    waiting = program
                    continue
            time.sleep(_LOG_SECONDS)
            raise _refused(program, now, offsets[program.unit])
        if waiting is None:
            return
        time.sleep(_PAUSE)


def _refused(program: Process, found: Optional[Found], offset: int) -> ReleaseError:
    lines = printed(program.log, offset)
    # A site's logs are in a folder of its name.
    advice = causes.advice(os.path.basename(os.path.dirname(program.log)), lines)
    advice = advice or "fix processes.{}.command or what it needs, and run up again".format(program.name)
    return ReleaseError(
        "{} does not stay up for {} seconds ({})".format(
            _name(program), program.start_seconds, found.words if found else "it is not running"
        ),
        lines,
        "{}; all that it printed is in {}".format(advice, program.log),
    )


def stop(state: SlotState, folder: str) -> None:
    """Stop the programs of a slot and forget them."""
    group = _group(state, folder)
    if group:
        group.remove()


def ensure_running(state: SlotState, folder: str) -> None:
    """Start the programs of a slot again that the process manager no longer knows."""
    group = _group(state, folder)
    if group and set(group.found()) != set(group.units):
        group.remove()
        group.add()


def retry(state: SlotState, folder: str) -> None:
    """Start the programs of a slot at once that do not run."""
    ensure_running(state, folder)
    group = _group(state, folder)
    for unit, found in group.found().items() if group else ():
        if group and found.state == FAILED:
            group.retry(unit)


def are_up(state: SlotState, folder: str) -> bool:
    """Whether all programs of a slot run."""
    group = _group(state, folder)
    if group is None:
        return True
    found = group.found()
    return all(unit in found and found[unit].state != FAILED for unit in group.units)


def lines(state: SlotState, folder: str) -> List[str]:
    """What the process manager says of each program, a line each."""
    group = _group(state, folder)
    if group is None or state.processes is None:
        return []
    found = group.found()
    return [
        "{}: {}".format(_name(program), found[program.unit].words if program.unit in found else "not running")
        for program in state.processes.programs
    ]


def _name(program: Process) -> str:
    return "process {} {}".format(program.name, program.number)


def _named(programs: List[Process]) -> str:
    counts: Dict[str, int] = {}
    for program in programs:
        counts[program.name] = counts.get(program.name, 0) + 1
    return ", ".join("{} x {}".format(count, name) for name, count in counts.items())
