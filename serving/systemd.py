"""systemd as the process manager: a hardened unit, or a forking one for a server that goes into the background.

https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
"""

from serving import layout
from serving.server import AppServer, Program
from serving.systems import System
from serving.templates import render
from settings import Settings


def program(settings: Settings, system: System, server: AppServer) -> Program:
    """The unit's file, with placeholders of layout.FACTS."""
    place = layout.place(settings)
    name = f"wsgi-{place.name}-@@slot@@.service"
    chosen = settings.uwsgi.gid if server.name == "uwsgi" else settings.gunicorn.group
    text = render(
        "templates/systemd/app.service.j2",
        command=" ".join(map(_quoted, layout.with_env(place, server.command, place.log))),
        systemd=settings.systemd,
        server=server,
        system=system,
        place=place,
        group=chosen,
    )
    return Program(
        manager="systemd",
        name=name,
        config="app.service",
        link=f"/etc/systemd/system/{name}",
        configs={"app.service": text},
    )


def _quoted(argument: str) -> str:
    """An argument of ExecStart; a percent sign and a dollar are systemd's own."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if " " in escaped else escaped
