"""The process managers, by the name that serving.process_manager gives them."""

from typing import Literal

from kinds.process_managers.base import NO_PROGRAM, ProcessManager, Program
from kinds.process_managers.emperor import Emperor
from kinds.process_managers.supervisor import Supervisor
from kinds.process_managers.systemd import Systemd

Name = Literal["supervisor", "systemd", "emperor"]

PROCESS_MANAGERS: dict[str, type[ProcessManager]] = {kind.name: kind for kind in (Supervisor, Systemd, Emperor)}

__all__ = ["NO_PROGRAM", "PROCESS_MANAGERS", "Name", "ProcessManager", "Program", "Supervisor", "Systemd"]
