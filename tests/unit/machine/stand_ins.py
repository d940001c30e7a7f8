"""Stand-ins for the process managers, each of which reads its folder of programs as the real one does, and accounts."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.unit.machine.application import Application

Answer = tuple[int, str]


class Manager:
    """folder: where it looks for its programs' files. programs: what runs, by site and slot such as app-a.

    refuses: what it fails at. command: the name that it is asked by.
    """

    command = ""

    def __init__(self, folder: Path, start: Callable[[Path], Application]) -> None:
        self.folder, self._begin = folder, start
        self.programs: dict[str, Application] = {}
        self.refuses: set[str] = set()

    def answer(self, *arguments: str) -> Answer:
        raise NotImplementedError

    def boot(self) -> None:
        """Start what lies in the folder, as at the machine's boot."""
        for file in self.folder.iterdir():
            self._start(file.name)

    def look(self) -> None:
        """Time passes."""

    def _start(self, name: str) -> None:
        self.programs[key_of(name)] = self._begin(self.folder / name)

    def _stop(self, name: str) -> None:
        program = self.programs.pop(key_of(name), None)
        if program:
            program.stop()


def key_of(name: str) -> str:
    """Site and slot of a program such as app-a, wsgi-app-a.service or app-a-<release>.ini: app-a."""
    return re.sub("^(?:wsgi-)?(.+?-[ab])(?:[.-].*)?$", r"\1", name)


class Supervisor(Manager):
    command = "supervisorctl"

    def answer(self, *arguments: str) -> Answer:
        what, name = (*arguments, "")[:2]
        program = self.programs.get(key_of(name)) if name else None
        if what == "status":
            if program is None:
                return 4, f"{name}: ERROR (no such process)"
            if self.stopped(program):
                return 3, f"{name}   STOPPED   Jul 01 09:00 AM"
            crashed = program.behaviour == "crash"
            return 0, f"{name}   " + ("BACKOFF   Exited too quickly" if crashed else "RUNNING   pid 9, uptime 0:00:01")
        if what == "pid":
            return 0, "1"
        if what == "reread":
            return (2, "ERROR: CANT_REREAD") if "reread" in self.refuses else (0, "No config updates to processes")
        if what == "add":
            # As supervisor 3 does: an error in words, and the status of success.
            if program or not (self.folder / f"{name}.conf").exists():
                return 0, f"ERROR: no such process/group: {name}"
            if "add" in self.refuses:
                return 0, f"ERROR: process group already active: {name}"
            self._start(name + ".conf")
            return 0, f"{name}: added process group"
        if what == "remove":
            if program and not self.stopped(program):
                return 0, f"ERROR: process/group still running: {name}"
            self._stop(name)
        elif program:
            # Known as STOPPED until it is removed.
            program.stop()
        return 0, ""

    @staticmethod
    def stopped(program: Application) -> bool:
        return program.listener.fileno() == -1


class Systemd(Manager):
    command = "systemctl"

    def boot(self) -> None:
        super().boot()
        self.loaded = {file.name for file in self.folder.iterdir()}

    def answer(self, *arguments: str) -> Answer:
        what, name = arguments[0], arguments[-1]
        if name == "nginx":
            return 1, "Job for nginx.service failed"
        if name == "systemd-journald" or name.startswith("wsgi-ecs-"):
            # The machine's own units, which lie elsewhere and are no programs of a site.
            return 0, ""
        if what in self.refuses:
            return 1, f"Failed to {what} {name}: Access denied"
        if what == "daemon-reload":
            self.loaded = {file.name for file in self.folder.iterdir()}
        elif what == "show":
            return 0, self._show(name)
        elif what == "enable":
            if not (self.folder / name).exists():
                return 1, f"Failed to enable unit: Unit file {name} does not exist."
        elif what == "start":
            if name not in self.loaded:
                return 5, f"Failed to start {name}: Unit {name} not found."
            self._start(name)
        elif what == "stop":
            self._stop(name)
        elif what == "disable":
            # It removes the link to a unit that lies elsewhere.
            (self.folder / name).unlink(missing_ok=True)
        else:
            assert what == "reset-failed", what
        return 0, ""

    def _show(self, name: str) -> str:
        program = self.programs.get(key_of(name))
        if name not in self.loaded:
            found = ("not-found", "inactive", "dead")
        elif program is None:
            found = ("loaded", "inactive", "dead")
        elif program.behaviour == "crash":
            found = ("loaded", "activating", "auto-restart")
        else:
            found = ("loaded", "active", "running")
        return "LoadState={}\nActiveState={}\nSubState={}".format(*found)


class Emperor(Manager):
    """Its statistics tell of the folder as it was at its last look, and then it looks again."""

    command = "emperor"

    def __init__(self, folder: Path, start: Callable[[Path], Application]) -> None:
        super().__init__(folder, start)
        self.vassals: dict[str, str] = {}
        self.attempts: dict[str, int] = {}

    def answer(self, *_: str) -> Answer:
        stats = {
            "vassals": [{"id": name, "ready": int(self.programs[key].listens)} for key, name in self.vassals.items()],
            "blacklist": [{"id": name, "attempt": number} for name, number in self.attempts.items()],
        }
        self.look()
        return 0, json.dumps(stats)

    def boot(self) -> None:
        self.look()

    def look(self) -> None:
        wanted = {key_of(file.name): file.name for file in self.folder.glob("*.ini")}
        for key, name in list(self.vassals.items()):
            if wanted.get(key) != name:
                self._stop(name)
                del self.vassals[key]
        for key, name in wanted.items():
            if key not in self.vassals:
                self._start(name)
                self.vassals[key] = name
            elif self.programs[key].behaviour == "crash":
                self.attempts[name] = self.attempts.get(name, 0) + 1


MANAGERS: dict[str, type[Manager]] = {"supervisor": Supervisor, "systemd": Systemd, "emperor": Emperor}


class Accounts:
    """Users and groups, in a file that the tool's own look-ups read. users: their names. groups: name → members."""

    COMMANDS = ("groupadd", "useradd", "usermod", "userdel", "groupdel")

    def __init__(self, file: Path, users: list[str], groups: dict[str, list[str]]) -> None:
        self.file, self.users, self.groups = file, users, groups
        self._save()

    def answer(self, command: str, *arguments: str) -> Answer:
        name = arguments[-1]
        if command == "groupadd":
            if name in self.groups:
                return 9, f"groupadd: group '{name}' already exists"
            self.groups[name] = []
        elif command == "useradd":
            if name in self.users or (name in self.groups) == ("--user-group" in arguments):
                return 9, f"useradd: user or group {name} exists, or its group does not"
            self.users.append(name)
            self.groups.setdefault(name, [])
        elif command == "usermod":
            self.groups[arguments[-2]].append(name)
        elif name not in (self.users if command == "userdel" else self.groups):
            return 6, f"{command}: '{name}' does not exist"
        else:
            if command == "userdel":
                self.users.remove(name)
                for members in self.groups.values():
                    members[:] = [member for member in members if member != name]
            # A user's own group goes with the user.
            self.groups.pop(name, None)
        self._save()
        return 0, ""

    def _save(self) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"users": self.users, "groups": self.groups}))
        new.rename(self.file)
