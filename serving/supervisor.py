"""supervisor as the process manager: http://supervisord.org/configuration.html#program-x-section-values"""

import shlex

from serving import layout
from serving.server import AppServer, Program
from serving.systems import System
from serving.templates import render
from settings import Settings


def program(settings: Settings, system: System, server: AppServer) -> Program:
    """The program's file, with placeholders of layout.FACTS."""
    place = layout.place(settings)
    name = f"{place.name}-@@slot@@"
    text = render(
        "templates/supervisor/program.conf.j2",
        name=name,
        # A percent sign is supervisor's own.
        command=shlex.join(layout.with_env(place, server.command)).replace("%", "%%"),
        supervisor=settings.supervisor,
        server=server,
        system=system,
        place=place,
        log="NONE" if server.owns_log else place.log,
    )
    return Program(
        manager="supervisor",
        name=name,
        config="supervisor.conf",
        link=f"{system.supervisor_programs}/{name}{system.supervisor_suffix}",
        configs={"supervisor.conf": text},
    )
