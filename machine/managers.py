"""What starts an application server and starts it again: supervisor, systemd, or uWSGI's emperor.

Each method takes the state of a slot and touches no other program. Python 3.6, standard library only.
"""

import json
import os
import socket
import time
from typing import Any, Dict, Optional, Tuple, Type

import files
from commands import ReleaseError, run
from contract import paths
from contract.documents import SlotState

RUNNING, STARTING, FAILED = "RUNNING", "STARTING", "FAILED"


class Manager:
    """A process manager. state: RUNNING, STARTING or FAILED, None when it has no such program."""

    def status(self, slot: SlotState) -> Optional[str]:
        """What the process manager says of a program, None when it has none of that name."""
        raise NotImplementedError

    def state(self, slot: SlotState) -> Optional[str]:
        raise NotImplementedError

    def add(self, slot: SlotState, folder: str) -> None:
        """Start a program whose configuration, a file of `folder`, is new. Raises ReleaseError."""
        raise NotImplementedError

    def remove(self, slot: SlotState, seconds: int) -> None:
        """Stop a program, which finishes its requests within `seconds`, and forget it."""
        raise NotImplementedError

    def is_down(self, slot: SlotState) -> bool:
        """Whether a program neither runs nor starts just now."""
        return self.state(slot) not in (RUNNING, STARTING)

    def is_stopped(self, slot: SlotState) -> bool:
        """Whether somebody has stopped a program by hand."""
        return False

    def retry(self, slot: SlotState, folder: str) -> None:
        """Start a program at once that does not run. Raises ReleaseError."""
        if self.state(slot) is None:
            self.add(slot, folder)


def add_to_supervisor(what: str, name: str) -> None:
    """Have supervisor read its files and start what is new. what: program or group. Raises ReleaseError."""
    answer = run("supervisorctl", "reread", check=False)
    if "ERROR" not in answer:
        # CentOS 7's supervisorctl exits with 0 whatever happens, so only its words tell of an error.
        answer = run("supervisorctl", "add", name, check=False)
        if "added process group" in answer:
            return
    raise ReleaseError(
        "supervisor does not accept the {} {}".format(what, name),
        answer,
        then="check on the server that supervisor runs and reads its files (supervisorctl reread); run up again",
    )


class Supervisor(Manager):
    """http://supervisord.org/subprocess.html#process-states"""

    def status(self, slot: SlotState) -> Optional[str]:
        """What supervisor says of a program after its name, such as RUNNING pid 12, uptime 0:00:02; or None."""
        words = run("supervisorctl", "status", slot.program, check=False).split()
        found = len(words) > 1 and words[0] == slot.program and words[1].isupper()
        return " ".join(words[1:]) if found else None

    def state(self, slot: SlotState) -> Optional[str]:
        status = self.status(slot)
        if status is None:
            return None
        word = status.partition(" ")[0]
        return {"RUNNING": RUNNING, "STARTING": STARTING, "STOPPED": STARTING}.get(word, FAILED)

    def add(self, slot: SlotState, folder: str) -> None:
        files.link(os.path.join(folder, slot.program_config), slot.program_link)
        add_to_supervisor("program", slot.program)

    def remove(self, slot: SlotState, seconds: int) -> None:
        if self.status(slot) is not None:
            run("supervisorctl", "stop", slot.program, check=False)
            run("supervisorctl", "remove", slot.program, check=False)
        files.remove(slot.program_link)
        run("supervisorctl", "reread", check=False)

    def is_down(self, slot: SlotState) -> bool:
        return (self.status(slot) or "").partition(" ")[0] not in (RUNNING, STARTING)

    def is_stopped(self, slot: SlotState) -> bool:
        return (self.status(slot) or "").startswith("STOPPED")

    def retry(self, slot: SlotState, folder: str) -> None:
        super().retry(slot, folder)
        if self.is_down(slot):
            # `start` refuses a program that waits for its next attempt (BACKOFF).
            run("supervisorctl", "restart", slot.program, check=False)


class Systemd(Manager):
    """https://www.freedesktop.org/software/systemd/man/latest/systemctl.html"""

    def status(self, slot: SlotState) -> Optional[str]:
        """What systemd says of a unit, such as active (running); None when there is none."""
        answer = run("systemctl", "show", "-p", "LoadState,ActiveState,SubState", slot.program, check=False)
        found = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
        if found.get("LoadState") != "loaded":
            return None
        return "{} ({})".format(found.get("ActiveState"), found.get("SubState"))

    def state(self, slot: SlotState) -> Optional[str]:
        status = self.status(slot)
        if status is None or status.startswith("inactive"):
            return None
        if status.startswith("active"):
            return RUNNING
        return STARTING if status.startswith("activating (start") else FAILED

    def is_stopped(self, slot: SlotState) -> bool:
        return (self.status(slot) or "").startswith("inactive")

    def retry(self, slot: SlotState, folder: str) -> None:
        super().retry(slot, folder)
        if self.is_down(slot):
            run("systemctl", "reset-failed", slot.program, check=False)
            run("systemctl", "start", slot.program, check=False)

    def add(self, slot: SlotState, folder: str) -> None:
        # The unit is a copy, because CentOS 7's systemd accepts no link and also knows a unit by its target's name.
        files.copy(os.path.join(folder, slot.program_config), slot.program_link, 0o644)
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "-q", slot.program)
        # state() asks how the start goes; waiting for a forking unit would last until its timeout.
        run("systemctl", "start", "--no-block", slot.program)

    def remove(self, slot: SlotState, seconds: int) -> None:
        if os.path.lexists(slot.program_link):
            run("systemctl", "stop", slot.program, check=False)
            run("systemctl", "disable", "-q", slot.program, check=False)
            run("systemctl", "reset-failed", slot.program, check=False)
        files.remove(slot.program_link)
        run("systemctl", "daemon-reload")


class Emperor(Manager):
    """https://uwsgi-docs.readthedocs.io/en/latest/Emperor.html, seen through its statistics."""

    def __init__(self) -> None:
        # Failures that were counted before the program was added.
        self.failures: Dict[str, int] = {}

    def _stats(self) -> Tuple[Dict[str, Any], Dict[str, int]]:
        """The vassals by name, and for each that failed the number of its starts."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(paths.EMPEROR_STATS)
                with client.makefile("rb") as answer:
                    stats = json.loads(answer.read().decode("utf-8", "replace"))
        except (OSError, ValueError) as error:
            raise ReleaseError(
                "uWSGI's emperor does not answer: {}".format(error),
                then="look at systemctl status wsgi-emperor on the server, and run up again",
            ) from error
        return (
            {vassal["id"]: vassal for vassal in stats.get("vassals", [])},
            {entry["id"]: entry["attempt"] for entry in stats.get("blacklist", [])},
        )

    def status(self, slot: SlotState) -> Optional[str]:
        name = slot.program
        vassals, failures = self._stats()
        failed = failures.get(name, 0) - self.failures.get(name, 0)
        if failed > 0:
            return "failed {} times".format(failed)
        if name in vassals:
            return "ready" if vassals[name].get("ready") else "starting"
        return "not seen yet" if os.path.lexists(slot.program_link) else None

    def state(self, slot: SlotState) -> Optional[str]:
        status = self.status(slot)
        if status is None:
            return None
        return {"ready": RUNNING, "starting": STARTING, "not seen yet": STARTING}.get(status, FAILED)

    def is_stopped(self, slot: SlotState) -> bool:
        return not os.path.lexists(slot.program_link)

    def retry(self, slot: SlotState, folder: str) -> None:
        super().retry(slot, folder)
        if self.is_down(slot):
            raise ReleaseError("it fails, and the emperor tries again within three minutes")

    def add(self, slot: SlotState, folder: str) -> None:
        self.failures = self._stats()[1]
        files.link(os.path.join(folder, slot.program_config), slot.program_link)

    def remove(self, slot: SlotState, seconds: int) -> None:
        # The release is in the name, so that nothing else replaces what a killed run left of the link.
        files.remove(slot.program_link + ".new")
        files.remove(slot.program_link)
        deadline = time.monotonic() + seconds
        while slot.program in self._stats()[0]:
            if time.monotonic() > deadline:
                raise ReleaseError(
                    "the emperor's vassal {} does not end within {} seconds".format(slot.program, seconds),
                    then="look at systemctl status wsgi-emperor on the server, and run up again",
                )
            time.sleep(0.1)


class NoProgram(Manager):
    """In place of a process manager where the application runs on other machines."""

    def status(self, slot: SlotState) -> Optional[str]:
        return "running elsewhere"

    def state(self, slot: SlotState) -> Optional[str]:
        return RUNNING

    def add(self, slot: SlotState, folder: str) -> None:
        pass

    def remove(self, slot: SlotState, seconds: int) -> None:
        pass


MANAGERS: Dict[str, Type[Manager]] = {
    "supervisor": Supervisor,
    "systemd": Systemd,
    "emperor": Emperor,
    "none": NoProgram,
}
