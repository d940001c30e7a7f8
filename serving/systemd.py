"""systemd as the process manager: a hardened unit, or a forking one for a server that goes into the background.

https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
"""

from serving import layout
from serving.server import LOG, PIDFILE, AppServer, Program
from serving.systems import System
from serving.templates import render
from settings import Settings


def program(settings: Settings, system: System, server: AppServer) -> Program:
    """The unit's file, with placeholders of layout.FACTS."""
    name = f"wsgi-{layout.SITE}-@@slot@@.service"
    text = render(
        "templates/systemd/app.service.j2",
        command=" ".join(map(_quoted, layout.with_env(server.command, LOG))),
        systemd=settings.systemd,
        server=server,
        system=system,
        layout=layout,
        pidfile=PIDFILE,
    )
    return Program(
        manager="systemd",
        name=name,
        config=f"{layout.SITE}.service",
        link=f"/etc/systemd/system/{name}",
        configs={f"{layout.SITE}.service": text},
    )


def _quoted(argument: str) -> str:
    """An argument of ExecStart; a percent sign and a dollar are systemd's own."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if " " in escaped else escaped
