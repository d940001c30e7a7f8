"""uWSGI as the application server: https://uwsgi-docs.readthedocs.io/en/latest/Options.html"""

from serving import layout
from serving.templates import render
from settings import Settings

PIN = "uWSGI==2.0.31"

# Two releases overlap while one takes over, so each port has a second one to alternate with.
STATS_PORT = "stats_port"


def files(settings: Settings) -> dict[str, str]:
    """File name → text of uWSGI's configuration, with placeholders of layout.FACTS."""
    return {
        "uwsgi.ini": render(
            "templates/uwsgi/uwsgi.ini.j2",
            module=settings.app.module,
            callable=settings.app.callable,
            uwsgi=settings.uwsgi,
            mercy=settings.supervisor.stopwaitsecs - 1,
            layout=layout,
        )
    }


def ports(settings: Settings) -> dict[str, tuple[int, int]]:
    """Placeholder → the two loopback ports that releases take in turn."""
    return {STATS_PORT: (settings.uwsgi.stats, settings.uwsgi.stats + 1)}
