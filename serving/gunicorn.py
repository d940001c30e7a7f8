"""gunicorn as the application server: https://docs.gunicorn.org/en/stable/settings.html"""

from serving import layout
from serving.server import AppServer, endpoint
from serving.systems import System
from serving.templates import render
from settings import Settings


def app_server(settings: Settings, system: System, stop_seconds: int) -> AppServer:
    """Settings → gunicorn with its gconf.py."""
    gunicorn, place = settings.gunicorn, layout.place(settings)
    where, ports = endpoint("http", settings.bind, settings.serving.front == "none", place)
    text = render(
        "templates/gunicorn/gconf.py.j2",
        gunicorn=gunicorn,
        bind=where.address,
        is_apart=settings.is_apart,
        pidfile=place.pidfile,
        graceful_timeout=gunicorn.graceful_timeout or stop_seconds - 1,
        # gunicorn takes the application's place on the site from here.
        script_name=settings.site.location.rstrip("/"),
    )
    return AppServer(
        name="gunicorn",
        configs={"gconf.py": text},
        command=(
            "@@venv@@/bin/gunicorn",
            "--config",
            "@@slot_dir@@/gconf.py",
            f"{settings.app.module}:{settings.app.callable}",
        ),
        pins=system.gunicorn_pins + (system.gevent_pins if gunicorn.worker_class == "gevent" else ()),
        endpoint=where,
        ports=ports,
        stop_signal="TERM",
        computed="@@workers@@ workers: 2 × @@cpus@@ CPUs + 1" if gunicorn.workers == "auto" else "",
    )
