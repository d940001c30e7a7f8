"""Directives of systemd say what the programs of a server may not do; they know no application.

https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#Sandboxing
"""

from collections.abc import Iterator

from pydantic import Field

from kinds.systems import System
from schema.base import Model, Percent, Rule
from templates import render

# A service that starts as root and runs its programs as other users keeps this much of root's power.
_CHANGES_USERS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
# nginx listens below 1024 and raises its own limit of open files.
_NGINX = (*_CHANGES_USERS, "NET_BIND_SERVICE", "SYS_RESOURCE")


class Confinement(Model):
    enabled: bool = Field(
        True,
        description="Confine the applications, nginx and the process manager: no new privileges, no namespaces, no "
        "system calls that only the system's own programs need, no core dumps. Set false for an application that "
        "needs such a thing, as sudo or sendmail.",
    )
    memory_max: Percent = Field(
        90,
        description="Memory that a program of a site may have, percent of the server's; the kernel ends a process of "
        "the program that has more. Under supervisor and the emperor all programs together. Not on centos7.",
    )
    tasks_max: Percent = Field(
        15,
        description="Processes and threads that a program of a site may have, percent of what the server can have. "
        "Under supervisor and the emperor all programs together. Not on centos7.",
    )
    metadata: bool = Field(
        False,
        description="Let users other than root reach the cloud's metadata of the server (100.100.100.200 and "
        "169.254.169.254), as an application does that uses the server's RAM role.",
    )

    def rules(self, system: System) -> Iterator[Rule]:
        """Yield the rules of limits that nothing would keep."""
        for key in ("memory_max", "tasks_max"):
            is_set = key in self.model_fields_set
            off = "set, but confinement.enabled is false"
            yield f"confinement.{key}", is_set and not self.enabled, off, "confinement.enabled: true"
            # Both are younger than the groups of system calls.
            old = f"the systemd of {system.name} knows no such limit"
            yield f"confinement.{key}", is_set and not system.has_call_groups, old, "another server.os"

    def of_program(self, system: System) -> str:
        """Directives of a unit of a site's program, beside those that the unit has in any case."""
        return self._directives(system, has_programs=True, hides_processes=True)

    def of_emperor(self, system: System) -> str:
        """Text of a drop-in for a unit that is the site's user from its start on."""
        return self._drop_in(self.of_program(system))

    def of_supervisor(self, system: System) -> str:
        """Text of a drop-in for a unit that is root and starts each of its programs as the program's user."""
        # A program may read what somebody has put into a home folder for it.
        return self._drop_in(self._directives(system, capabilities=_CHANGES_USERS, has_programs=True, is_os_unit=True))

    def of_nginx(self, system: System) -> str:
        """Text of a drop-in for nginx."""
        return self._drop_in(self._directives(system, capabilities=_NGINX, is_os_unit=True, hides_processes=True))

    def _directives(
        self,
        system: System,
        capabilities: tuple[str, ...] = (),
        has_programs: bool = False,
        is_os_unit: bool = False,
        hides_processes: bool = False,
    ) -> str:
        """Directives of a unit's [Service], "" without confinement.

        has_programs: whether it runs programs of sites, which have limits. is_os_unit: whether the unit is the OS's
        own, which has nothing of what our own units have.
        """
        if not self.enabled:
            return ""
        return render(
            "templates/systemd/confinement.conf.j2",
            confinement=self,
            system=system,
            capabilities=" ".join(f"CAP_{name}" for name in capabilities),
            has_programs=has_programs,
            is_os_unit=is_os_unit,
            hides_processes=hides_processes,
        )

    @staticmethod
    def _drop_in(directives: str) -> str:
        return f"# Written by wsgi-ecs.\n[Service]\n{directives}" if directives else ""
