"""uWSGI as the application server: https://uwsgi-docs.readthedocs.io/en/latest/Options.html"""

from serving import layout, sources
from serving.server import AppServer, Endpoint, endpoint
from serving.systems import System
from serving.templates import render
from settings import Settings
from settings.servers import STATS_PORTS

VERSION = "2.0.31"
STATS_PORT = "stats_port"
Option = tuple[str, str | bool]


def app_server(settings: Settings, system: System, stop_seconds: int) -> AppServer:
    """Settings → uWSGI, as an ini file or as a command line: the same options from one list."""
    uwsgi = settings.uwsgi
    where, ports = _endpoint(settings)
    chosen = options(settings, where, stop_seconds)
    if uwsgi.install == "os":
        # The OS's uWSGI has its Python apart.
        chosen.insert(0, ("plugin", system.uwsgi_plugin))
    program = binary(settings)
    if uwsgi.config == "command_line":
        configs, command = {}, (program, *_arguments(chosen))
    else:
        text = render("templates/uwsgi/uwsgi.ini.j2", options=chosen)
        configs, command = {"uwsgi.ini": text}, (program, "--ini", "@@slot_dir@@/uwsgi.ini")
    return AppServer(
        name="uwsgi",
        configs=configs,
        command=command,
        pins=(f"uWSGI=={uwsgi.version or VERSION}",) if uwsgi.install == "index" else (),
        endpoint=where,
        ports={**ports, STATS_PORT: _stats_ports(uwsgi.stats)},
        stop_signal="TERM",
        forks=uwsgi.daemonize,
        owns_log=_owns_log(settings),
        computed="@@cpus@@ processes: one per CPU" if uwsgi.processes == "auto" else "",
    )


def binary(settings: Settings) -> str:
    """Path of uWSGI. From source it is one version's, not the link's: a release keeps its own."""
    if settings.uwsgi.install == "source":
        return f"{sources.folder(settings.uwsgi)}/bin/uwsgi"
    return "/usr/bin/uwsgi" if settings.uwsgi.install == "os" else "@@venv@@/bin/uwsgi"


def _stats_ports(stats: str | int) -> tuple[int, ...]:
    """Two in turn; where nobody chose, enough for every site of a machine."""
    return tuple(STATS_PORTS) if isinstance(stats, str) else (stats, stats + 1)


def _owns_log(settings: Settings) -> bool:
    """Whether uWSGI writes its log itself: the emperor's own log would mix those of all vassals."""
    return settings.uwsgi.logto or settings.uwsgi.daemonize or settings.serving.process_manager == "emperor"


def _endpoint(settings: Settings) -> tuple[Endpoint, dict[str, tuple[int, ...]]]:
    uwsgi, public, place = settings.uwsgi, settings.serving.front == "none", layout.place(settings)
    if uwsgi.http:
        return endpoint("http", uwsgi.http, public, place)
    if uwsgi.http_socket:
        return endpoint("http", uwsgi.http_socket, False, place)
    return endpoint("uwsgi", settings.socket or "unix", False, place)


def options(settings: Settings, where: Endpoint, stop_seconds: int) -> list[Option]:
    """All options in uWSGI's own names; True for one without a value."""
    uwsgi, place = settings.uwsgi, layout.place(settings)
    found: list[Option] = [
        ("strict", True),
        ("master", True),
        *_application(settings),
        *_listening(settings, where),
        ("processes", "@@cpus@@" if uwsgi.processes == "auto" else str(uwsgi.processes)),
    ]
    if uwsgi.threads > 1:
        found.append(("threads", str(uwsgi.threads)))
    for name, wanted in (
        ("enable-threads", uwsgi.enable_threads),
        ("thunder-lock", uwsgi.thunder_lock),
        ("vacuum", uwsgi.vacuum),
        ("stats-http", uwsgi.stats_http),
    ):
        if wanted:
            found.append((name, True))
    for name, value in (
        ("cheaper", uwsgi.cheaper),
        ("harakiri", uwsgi.harakiri),
        ("max-requests", uwsgi.max_requests),
        ("reload-on-rss", uwsgi.reload_on_rss),
    ):
        if value is not None:
            found.append((name, str(value)))
    found += [("static-map", f"{url.rstrip('/')}=@@release_dir@@/app/{path}") for url, path in uwsgi.static_map.items()]
    if uwsgi.pidfile or uwsgi.daemonize:
        found.append(("pidfile", place.pidfile))
    if uwsgi.daemonize:
        found.append(("daemonize2", place.log))
    elif _owns_log(settings):
        found.append(("logto2", place.log))
    return [
        *found,
        ("stats", f"127.0.0.1:@@{STATS_PORT}@@"),
        ("disable-logging", True),
        ("log-4xx", True),
        ("log-5xx", True),
        # The process manager stops with TERM, which by itself would make uWSGI reload:
        # finish the requests and leave.
        ("hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
        ("worker-reload-mercy", str(stop_seconds - 1)),
    ]


def _application(settings: Settings) -> list[Option]:
    app = settings.app
    paths: list[Option] = [("pythonpath", f"@@release_dir@@/app/{path}") for path in settings.uwsgi.pythonpath]
    if settings.uwsgi.dynamic:
        # nginx names the application with each request: https://uwsgi-docs.readthedocs.io/en/latest/Nginx.html
        return paths
    file = f"@@release_dir@@/app/{app.wsgi_file}" if app.wsgi_file else ""
    location = settings.site.location.rstrip("/")
    if location:
        # The application sees its own paths, and this one as SCRIPT_NAME.
        name = file or f"{app.module}:{app.callable}"
        loaded: list[Option] = [("manage-script-name", True), ("mount", f"{location}={name}")]
    else:
        loaded = [("wsgi-file", file) if file else ("module", app.module)]
    return [
        ("need-app", True),
        ("single-interpreter", True),
        ("virtualenv", "@@venv@@"),
        ("chdir", "@@release_dir@@/app"),
        *paths,
        *loaded,
        ("callable", app.callable),
    ]


def _listening(settings: Settings, where: Endpoint) -> list[Option]:
    uwsgi = settings.uwsgi
    name = "http" if uwsgi.http else "http-socket" if uwsgi.http_socket else "socket"
    address = where.address.removeprefix("unix:")
    found: list[Option] = [(name, address)]
    if where.address.startswith("unix:"):
        found.append(("chmod-socket", uwsgi.chmod_socket))
    found += [
        ("listen", "@@somaxconn@@" if uwsgi.listen == "auto" else str(uwsgi.listen)),
        ("buffer-size", str(uwsgi.buffer_size)),
    ]
    if settings.nginx.request_buffering:
        # Read all of a body before the application is asked: one that answers without reading it would have the
        # connection closed under nginx, which makes 502 of the answer. Above so many bytes it waits in a file.
        # https://uwsgi-docs.readthedocs.io/en/latest/ThingsToKnow.html
        found.append(("post-buffering", "65536"))
    return found


def _arguments(chosen: list[Option]) -> list[str]:
    # With =, since some options, such as chmod-socket, take a value only this way.
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in chosen]
