"""uWSGI's emperor as the process manager: a folder of vassals, one ini file for each slot of a site.

Adding, touching or removing one vassal leaves the others alone. The emperor itself is a service of
systemd and runs as the application's user: https://uwsgi-docs.readthedocs.io/en/latest/Emperor.html
"""

from serving import layout
from serving.server import AppServer, Program
from serving.systems import System
from serving.templates import render
from settings import Settings

VASSALS = f"{layout.ETC}/vassals"
# Not in a release: the emperor outlives each.
WRAPPER = "/usr/local/lib/wsgi-ecs/vassal.py"
STATS = "/run/wsgi-emperor/stats.sock"
SERVICE = "wsgi-emperor.service"


def program(settings: Settings, system: System, server: AppServer) -> Program:
    """The vassal's file is the server's own ini."""
    # With the release's id: the emperor makes a name that failed wait before its next start.
    name = f"{settings.site.name}-@@slot@@-@@release@@.ini"
    return Program("emperor", name, "uwsgi.ini", f"{VASSALS}/{name}", {})


def bootstrap_files(settings: Settings, system: System) -> dict[str, str]:
    """Path → text of the emperor's own files, which a server gets once."""
    place = layout.place(settings)
    values = {
        "layout": layout,
        "place": place,
        "vassals": VASSALS,
        "stats": STATS,
        "wrapper": WRAPPER,
        "facts": layout.BOOTSTRAP_FACTS,
        "system": system,
    }
    return {
        f"{layout.ETC}/emperor.ini": render("templates/emperor/emperor.ini.j2", **values),
        f"/etc/systemd/system/{SERVICE}": render(
            "templates/emperor/emperor.service.j2", systemd=settings.systemd, group=settings.uwsgi.gid, **values
        ),
    }
