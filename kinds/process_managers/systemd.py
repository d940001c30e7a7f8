"""systemd: a hardened unit, or a forking one for a server that goes into the background.

https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
"""

from typing import ClassVar

from pydantic import Field

from contract.processes import Processes
from kinds import processes as beside
from kinds.app_servers import Process
from kinds.place import Place
from kinds.process_managers.base import ProcessManager, Program
from kinds.processes import Worker, Workers
from kinds.systems import System
from templates import render


class Systemd(ProcessManager):
    """https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"""

    name: ClassVar[str] = "systemd"
    key: ClassVar[str] = "systemd"
    stop_key: ClassVar[str] = "systemd.timeout_stop_sec"

    restart_sec: int = Field(1, ge=0, le=600, description="Seconds before a program that ended is started again.")
    timeout_stop_sec: int = Field(
        30, ge=2, le=3600, description="Seconds a stopping program may take to finish its requests."
    )

    @property
    def stop_seconds(self) -> int:
        return self.timeout_stop_sec

    def program(self, process: Process, place: Place, system: System, confined: str) -> Program:
        name = f"wsgi-{place.name}-@@slot@@.service"
        text = render(
            "templates/systemd/app.service.j2",
            command=" ".join(map(_quoted, place.with_env(process.command, place.log))),
            systemd=self,
            server=process,
            system=system,
            place=place,
            group=process.group,
            confined=confined,
        )
        return Program(
            manager=self.name,
            name=name,
            config="app.service",
            link=f"/etc/systemd/system/{name}",
            configs={"app.service": text},
        )

    def processes(
        self, workers: tuple[Worker, ...], group: str | None, place: Place, system: System, confined: str
    ) -> Workers:
        texts = {
            f"process-{worker.name}.service": render(
                "templates/systemd/process.service.j2",
                worker=worker,
                systemd=self,
                system=system,
                place=place,
                group=group,
                confined=confined,
            )
            for worker in workers
        }
        links = {
            f"process-{worker.name}.service": f"/etc/systemd/system/wsgi-{worker.section}@.service"
            for worker in workers
        }
        programs = beside.programs(workers, place, lambda worker, number: f"wsgi-{worker.section}@{number}.service")
        return Workers(Processes("systemd", "", links, programs), {**texts, **beside.scripts(workers, place, system)})


def _quoted(argument: str) -> str:
    """Quote an argument of ExecStart, where a percent sign and a dollar are systemd's own."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if " " in escaped else escaped
