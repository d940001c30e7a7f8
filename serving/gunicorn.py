"""gunicorn as the application server: https://docs.gunicorn.org/en/stable/settings.html"""

from serving import layout
from serving.server import AppServer, endpoint
from serving.systems import System
from serving.templates import render
from settings import Settings

_PINS = {
    # The last releases that run on Python 3.6; gunicorn's gevent worker imports packaging.
    "centos7": (
        ("gunicorn==21.2.0", "packaging==21.3", "pyparsing==3.0.7"),
        ("gevent==22.10.2", "greenlet==2.0.2", "zope.event==4.6", "zope.interface==5.5.2"),
    ),
    "debian12": (
        ("gunicorn==23.0.0", "packaging==25.0"),
        ("gevent==25.9.1", "greenlet==3.2.4", "zope.event==6.0", "zope.interface==8.0.1"),
    ),
}


def app_server(settings: Settings, system: System, stop_seconds: int) -> AppServer:
    """Settings → gunicorn with its gconf.py."""
    gunicorn, place = settings.gunicorn, layout.place(settings)
    where, ports = endpoint("http", settings.bind, settings.serving.front == "none", place)
    plain, gevent = _PINS[system.name]
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
        pins=plain + (gevent if gunicorn.worker_class == "gevent" else ()),
        endpoint=where,
        ports=ports,
        stop_signal="TERM",
        computed="@@workers@@ workers: 2 × @@cpus@@ CPUs + 1" if gunicorn.workers == "auto" else "",
    )
