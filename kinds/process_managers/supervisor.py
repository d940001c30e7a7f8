"""supervisor: http://supervisord.org/configuration.html#program-x-section-values"""

import shlex
from typing import ClassVar

from pydantic import Field

from contract.processes import Processes
from kinds import processes as beside
from kinds.app_servers import Process
from kinds.confinement import Confinement
from kinds.place import Place
from kinds.process_managers.base import ProcessManager, Program
from kinds.processes import Worker, Workers
from kinds.systems import System
from templates import render

# Seconds that systemd itself gives a service that stops, and what supervisor needs beside its programs.
_TIMEOUT_STOP = 90
_REST_SECONDS = 10


class Supervisor(ProcessManager):
    """http://supervisord.org/configuration.html#program-x-section-settings"""

    name: ClassVar[str] = "supervisor"
    key: ClassVar[str] = "supervisor"
    stop_key: ClassVar[str] = "supervisor.stopwaitsecs"
    sets_group: ClassVar[bool] = False

    startsecs: int = Field(1, ge=0, le=600, description="Seconds a program must run to count as started.")
    startretries: int = Field(
        100_000,
        ge=0,
        le=1_000_000,
        description="Starts that may fail before supervisor gives up for good (FATAL). Each retry waits a second "
        "longer than the one before, so the default never gives up.",
    )
    stopwaitsecs: int = Field(
        30, ge=2, le=3600, description="Seconds a stopping program may take to finish its requests."
    )

    @property
    def stop_seconds(self) -> int:
        return self.stopwaitsecs

    @classmethod
    def packages(cls, system: System) -> tuple[str, ...]:
        return ("supervisor",)

    @classmethod
    def services(cls, system: System) -> tuple[str, ...]:
        return (system.supervisor_service,)

    def drop_ins(self, system: System, stop_seconds: int) -> dict[str, int | None]:
        # supervisor ends when its last program has ended.
        seconds = max(_TIMEOUT_STOP, max(self.stopwaitsecs, stop_seconds) + _REST_SECONDS)
        return dict.fromkeys(super().drop_ins(system, stop_seconds), seconds)

    @classmethod
    def confinement(cls, confinement: Confinement, system: System) -> dict[str, str]:
        return {f"{system.supervisor_service}.service": confinement.of_supervisor(system)}

    def program(self, process: Process, place: Place, system: System, confined: str) -> Program:
        name = f"{place.name}-@@slot@@"
        text = render(
            "templates/supervisor/program.conf.j2",
            name=name,
            # A percent sign is supervisor's own.
            command=shlex.join(place.with_env(process.command)).replace("%", "%%"),
            supervisor=self,
            server=process,
            system=system,
            place=place,
            log="NONE" if process.owns_log else place.log,
        )
        return Program(
            manager=self.name,
            name=name,
            config="supervisor.conf",
            link=f"{system.supervisor_programs}/{name}{system.supervisor_suffix}",
            configs={"supervisor.conf": text},
        )

    def processes(
        self, workers: tuple[Worker, ...], group: str | None, place: Place, system: System, confined: str
    ) -> Workers:
        name = f"{place.name}-@@slot@@.processes"
        config = "supervisor-processes.conf"
        text = render(
            "templates/supervisor/processes.conf.j2", group=name, workers=workers, supervisor=self, place=place
        )
        programs = beside.programs(workers, place, lambda worker, number: f"{name}:{worker.name}-{number}")
        link = f"{system.supervisor_programs}/{name}{system.supervisor_suffix}"
        return Workers(
            Processes(self.name, name, {config: link}, programs),
            {config: text, **beside.scripts(workers, place, system)},
        )
