"""Settings that make no sense together, refused with the reason.

One rule is one line: the key to name, whether it is broken, and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from settings.models import Settings


def check(settings: Settings) -> None:
    """Raise ValueError with `<key>: <reason>; allowed: …` for the first combination that makes no sense."""
    rules = (_serving, _sources, _uwsgi, _gunicorn, _ports)
    for key, broken, reason in (rule for part in rules for rule in part(settings)):
        if broken:
            raise ValueError(f"{key}: {reason}")


Rule = tuple[str, bool, str]


def _serving(settings: Settings) -> Iterator[Rule]:
    serving, uwsgi, gunicorn = settings.serving, settings.uwsgi, settings.gunicorn
    is_uwsgi = serving.app_server == "uwsgi"
    yield (
        "serving.process_manager",
        serving.process_manager == "emperor" and not is_uwsgi,
        "the emperor rules uWSGI alone; allowed with gunicorn: supervisor, systemd",
    )
    yield (
        "serving.front",
        serving.front == "none" and is_uwsgi and not uwsgi.http,
        "without nginx the app server answers HTTP itself; allowed: nginx, or uwsgi.http such as 0.0.0.0:8080",
    )
    yield (
        "serving.front",
        serving.front == "none" and not is_uwsgi and gunicorn.bind == "unix",
        "without nginx the app server answers HTTP itself; allowed: nginx, or gunicorn.bind such as 0.0.0.0:8000",
    )
    for key, listen in (("uwsgi.http", uwsgi.http), ("gunicorn.bind", gunicorn.bind if not is_uwsgi else None)):
        yield (
            key,
            serving.front == "none" and str(listen).startswith("127."),
            "without nginx the world would not reach it there; allowed: 0.0.0.0 and a port, or serving.front: nginx",
        )
    yield (
        "nginx",
        serving.front == "none" and bool(settings.nginx.model_fields_set),
        "set, but serving.front is none; allowed: serving.front: nginx",
    )
    for key, unused in (("uwsgi", not is_uwsgi), ("gunicorn", is_uwsgi)):
        yield (
            key,
            unused and bool(getattr(settings, key).model_fields_set),
            f"set, but serving.app_server is {serving.app_server}; allowed: serving.app_server: {key}",
        )
    yield (
        "supervisor",
        serving.process_manager != "supervisor" and bool(settings.supervisor.model_fields_set),
        f"set, but serving.process_manager is {serving.process_manager}; allowed: serving.process_manager: supervisor",
    )
    yield (
        "systemd",
        serving.process_manager == "supervisor" and bool(settings.systemd.model_fields_set),
        "set, but serving.process_manager is supervisor; allowed: serving.process_manager: systemd or emperor",
    )
    yield (
        "app.module",
        settings.app.wsgi_file is not None and "module" in settings.app.model_fields_set,
        "set beside app.wsgi_file; allowed: one of them",
    )
    yield (
        "app.wsgi_file",
        settings.app.wsgi_file is not None and not is_uwsgi,
        "gunicorn imports modules; allowed with gunicorn: app.module",
    )


def _sources(settings: Settings) -> Iterator[Rule]:
    for name, server in (("uwsgi", settings.uwsgi), ("nginx", settings.nginx)):
        from_source = server.install == "source"
        for key in ("version", "archive", "sha256"):
            yield (
                f"{name}.{key}",
                from_source and getattr(server, key) is None,
                f"required with {name}.install: source, which builds one version from one archive",
            )
        for key in ("prefix", "archive", "sha256"):
            yield (
                f"{name}.{key}",
                not from_source and key in server.model_fields_set,
                f"set, but {name}.install is {server.install}; allowed: {name}.install: source",
            )
        yield (
            f"{name}.version",
            server.install == "os" and server.version is not None,
            f"the OS decides it with {name}.install: os; allowed: {name}.install: source",
        )
    yield (
        "nginx.prefix",
        settings.nginx.prefix == settings.uwsgi.prefix,
        "uwsgi.prefix is the same; allowed: a folder for each",
    )
    yield (
        "uwsgi.http",
        settings.uwsgi.install == "os" and bool(settings.uwsgi.http),
        "the OS's uWSGI has no router; allowed: uwsgi.http_socket, or uwsgi.install: index",
    )


def _uwsgi(settings: Settings) -> Iterator[Rule]:
    serving, uwsgi = settings.serving, settings.uwsgi
    ways = [name for name in ("socket", "http_socket", "http") if getattr(uwsgi, name)]
    yield (
        f"uwsgi.{ways[-1] if ways else 'socket'}",
        len(ways) > 1,
        f"set beside uwsgi.{ways[0] if ways else ''}; allowed: one of them",
    )
    yield (
        "uwsgi.http",
        bool(uwsgi.http) and serving.front == "nginx" and not str(uwsgi.http).startswith("127."),
        "behind nginx only this machine needs it; allowed: 127.0.0.1 and a port, or serving.front: none",
    )
    yield (
        "uwsgi.chmod_socket",
        uwsgi.chmod_socket[1] == "0" and settings.nginx.user != "wsgi-app" and serving.front == "nginx",
        "nginx could not connect to a socket of another user; allowed: 660, or nginx.user: wsgi-app",
    )
    yield (
        "uwsgi.thunder_lock",
        uwsgi.thunder_lock and uwsgi.processes == 1,
        "one process has nobody to take turns with; allowed: two processes or more",
    )
    yield (
        "uwsgi.cheaper",
        uwsgi.cheaper is not None and (uwsgi.processes == "auto" or uwsgi.cheaper >= uwsgi.processes),
        "it is the least number of processes; allowed: less than uwsgi.processes, which must be a number",
    )
    yield (
        "uwsgi.daemonize",
        uwsgi.daemonize and serving.process_manager != "systemd",
        f"{serving.process_manager} would lose a program that goes into the background; "
        "allowed with serving.process_manager: systemd, which gets a forking unit",
    )
    yield (
        "uwsgi.logto",
        uwsgi.logto and uwsgi.daemonize,
        "uwsgi.daemonize names the same log; allowed: one of them",
    )
    yield (
        "uwsgi.config",
        uwsgi.config == "command_line" and serving.process_manager == "emperor",
        "a vassal is an ini file; allowed with the emperor: ini",
    )
    yield (
        "uwsgi.dynamic",
        uwsgi.dynamic and (serving.front != "nginx" or bool(uwsgi.http or uwsgi.http_socket)),
        "uwsgi_param travels by uWSGI's own protocol from nginx; allowed with uwsgi.socket and serving.front: nginx",
    )
    yield (
        "uwsgi.dynamic",
        uwsgi.dynamic and settings.app.wsgi_file is not None,
        "UWSGI_SCRIPT names a module; allowed: app.module",
    )


def _gunicorn(settings: Settings) -> Iterator[Rule]:
    gunicorn = settings.gunicorn
    yield (
        "gunicorn.threads",
        gunicorn.threads > 1 and gunicorn.worker_class != "gthread",
        f"a {gunicorn.worker_class} worker has no threads; allowed with gunicorn.worker_class: gthread",
    )
    yield (
        "gunicorn.worker_connections",
        gunicorn.worker_connections is not None and gunicorn.worker_class != "gevent",
        f"a {gunicorn.worker_class} worker does not read it; allowed with gunicorn.worker_class: gevent",
    )
    yield (
        "gunicorn.max_requests_jitter",
        gunicorn.max_requests_jitter > 0 and gunicorn.max_requests == 0,
        "without max_requests no worker is replaced; allowed with gunicorn.max_requests",
    )


def _ports(settings: Settings) -> Iterator[Rule]:
    used: dict[int, str] = {22: "SSH"}
    uwsgi, gunicorn, serving = settings.uwsgi, settings.gunicorn, settings.serving
    wanted: list[tuple[str, int]] = []
    if serving.app_server == "uwsgi":
        wanted += [("uwsgi.stats", uwsgi.stats), ("uwsgi.stats", uwsgi.stats + 1)]
        for name in ("socket", "http_socket", "http"):
            wanted += _pair(f"uwsgi.{name}", getattr(uwsgi, name), serving.front)
    else:
        wanted += _pair("gunicorn.bind", gunicorn.bind, serving.front)
    if serving.front == "nginx":
        wanted.append(("nginx.listen", settings.nginx.listen))
    for key, port in wanted:
        yield key, port in used, f"port {port} is taken by {used.get(port)}"
        used[port] = key


def _pair(key: str, listen: str | None, front: str) -> list[tuple[str, int]]:
    """Behind nginx two releases take two ports in turn, the one that is set and the next."""
    if listen in (None, "unix"):
        return []
    port = int(str(listen).rsplit(":", 1)[1])
    return [(key, port), (key, port + 1)] if front == "nginx" else [(key, port)]
