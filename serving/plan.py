"""The serving plan: what a server has and runs, as plain values, printable before a deploy."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from serving import emperor, gunicorn, layout, nginx, sources, supervisor, systemd, uwsgi
from serving.server import LOG, PIDFILE, AppServer, Program
from serving.systems import SYSTEMS, System
from serving.templates import source
from settings import Settings


@dataclass(frozen=True)
class File:
    """A text file of a server. `mode` is octal text such as 0644; the owner is root."""

    path: str
    text: str
    mode: str = "0644"


@dataclass(frozen=True)
class Directory:
    """A directory of a server. `owner` is user:group, `mode` octal text."""

    path: str
    owner: str
    mode: str


@dataclass(frozen=True)
class User:
    """A system user without a login, beside its own group a member of `groups`."""

    name: str
    home: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class ServingPlan:
    """All that is known of a server before it runs.

    system: facts of its operating system. groups, users, directories: made once, by cloud-init.
    pins: what its virtual environments hold beside the application's requirements.
    configs: file name → text with @@fact@@ placeholders, part of every release.
    bootstrap_files: path → text that a server gets once. program: how the process manager is told.
    server: uwsgi or gunicorn. sources: archives that travel with a release, name in it → path on this machine.
    ports: the TCP ports that the world may reach. server_name: the site's domain, None for any.
    release: what the release tool needs to know.
    """

    system: System
    packages: tuple[str, ...]
    services: tuple[str, ...]
    nginx_user: str
    groups: tuple[str, ...]
    users: tuple[User, ...]
    directories: tuple[Directory, ...]
    pins: tuple[str, ...]
    configs: dict[str, str]
    bootstrap_files: dict[str, str]
    program: Program
    server: str
    sources: dict[str, str]
    has_nginx: bool
    ports: tuple[int, ...]
    server_name: str | None
    release: dict[str, Any]

    def url(self, address: str) -> str:
        """URL of the site: its domain, or the server's address when it has none."""
        port = "" if self.ports[0] == 80 else f":{self.ports[0]}"
        return f"http://{_host(self.server_name) or address}{port}/"

    @property
    def bootstrap_version(self) -> str:
        """Changes when, and only when, a server must be built anew: OS, packages, users, directories."""
        parts = (
            self.system.name,
            self.packages,
            self.services,
            self.nginx_user,
            sorted(self.bootstrap_files.items()),
            self.groups,
            [(user.name, user.home, user.groups) for user in self.users],
            [(directory.path, directory.owner, directory.mode) for directory in self.directories],
        )
        return f"{self.system.name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


_TOOL = (
    "release",
    "unpacked",
    "slots",
    "venvs",
    "builds",
    "servers",
    "files",
    "probe",
    "facts",
    "with_env",
    "managers",
    "vassal",
)

_DIRECTORIES = (
    Directory(layout.ROOT, "root:root", "0755"),
    Directory(layout.INCOMING, "root:root", "0700"),
    Directory(f"{layout.ROOT}/venvs", "root:root", "0755"),
    Directory(layout.SITE_ROOT, f"root:{layout.SHARED_GROUP}", "0750"),
    Directory(f"{layout.SITE_ROOT}/releases", f"root:{layout.SHARED_GROUP}", "0750"),
    Directory(f"{layout.SITE_ROOT}/slots", f"root:{layout.SHARED_GROUP}", "0750"),
    Directory(layout.ETC, "root:root", "0755"),
    Directory(layout.LOG, f"root:{layout.APP_USER}", "0750"),
    Directory("/var/lib/wsgi-ecs", "root:root", "0755"),
)
_VASSALS = (Directory(emperor.VASSALS, f"root:{layout.APP_USER}", "0750"),)


# What the state of a slot keeps of its release, with the slot's own names filled in.
STATE_NAMES = ("manager", "program", "program_config", "program_link", "endpoint", "pidfile", "log", "nginx", "command")

_PROGRAMS = {"supervisor": supervisor.program, "systemd": systemd.program, "emperor": emperor.program}


def _host(server_name: str | None) -> str | None:
    """A name that the site answers to: of *.example.com the first that one would try."""
    return server_name.replace("*.", "www.") if server_name else None


def make_plan(settings: Settings) -> ServingPlan:
    """Settings → ServingPlan, without I/O beyond reading templates."""
    system = SYSTEMS[settings.server.os]
    serving = settings.serving
    server = _app_server(settings, system)
    program = _PROGRAMS[serving.process_manager](settings, system, server)
    front = nginx.files(settings, system, server) if serving.front == "nginx" else {}
    once = emperor.bootstrap_files(settings, system) if serving.process_manager == "emperor" else {}
    port = settings.nginx.listen if front else int(server.endpoint.address.rpartition(":")[2])
    return ServingPlan(
        system=system,
        packages=system.packages_for(
            nginx=bool(front),
            supervisor=program.manager == "supervisor",
            uwsgi=settings.uwsgi.install == "os",
            nginx_from_source=settings.nginx.install == "source",
        ),
        services=_services(system, program, bool(front)),
        groups=(layout.SHARED_GROUP,),
        users=(
            User(layout.APP_USER, "/nonexistent", (layout.SHARED_GROUP,)),
            User(layout.BUILD_USER, layout.BUILD_HOME, (layout.SHARED_GROUP,)),
        ),
        nginx_user=settings.nginx.user or system.nginx_user,
        directories=(*_DIRECTORIES, *(_VASSALS if program.manager == "emperor" else ())),
        pins=(*system.build_pins, *server.pins),
        configs={**front, **server.configs, **program.configs},
        bootstrap_files=once,
        program=program,
        server=server.name,
        sources=sources.archives(settings),
        has_nginx=bool(front),
        ports=(port,),
        server_name=settings.site.server_name,
        release=_release(settings, system, server, program, port),
    )


def _app_server(settings: Settings, system: System) -> AppServer:
    if settings.serving.app_server == "gunicorn":
        return gunicorn.app_server(settings, system)
    return uwsgi.app_server(settings, system, stop_seconds(settings))


def stop_seconds(settings: Settings) -> int:
    """Seconds a stopping program may take to finish its requests."""
    if settings.serving.process_manager == "supervisor":
        return settings.supervisor.stopwaitsecs
    return settings.systemd.timeout_stop_sec


def _services(system: System, program: Program, has_nginx: bool) -> tuple[str, ...]:
    """Units of systemd that a new server starts, in this order."""
    manager = {"supervisor": (system.supervisor_service,), "emperor": (emperor.SERVICE,), "systemd": ()}
    return (*manager[program.manager], *(("nginx",) if has_nginx else ()))


def _release(settings: Settings, system: System, server: AppServer, program: Program, port: int) -> dict[str, Any]:
    """What machine/release.py needs to know, with placeholders of layout.FACTS."""
    return {
        "site": layout.SITE,
        "system": system.name,
        "build_pins": list(system.build_pins),
        "server_pins": list(server.pins),
        "requirements": settings.app.requirements,
        "ports": {name: list(pair) for name, pair in server.ports.items()},
        "manager": program.manager,
        "program": program.name,
        "program_config": program.config,
        "program_link": program.link,
        "endpoint": {"protocol": server.endpoint.protocol, "address": server.endpoint.address},
        "pidfile": PIDFILE,
        # What the emperor's vassal starts.
        "command": server.command[0],
        **sources.in_release(settings, system),
        "log": LOG,
        "front": settings.serving.front,
        "probe": {
            "path": settings.app.health,
            "host": _host(settings.site.server_name) or "localhost",
            "port": port,
            "uwsgi_params": nginx.uwsgi_params(settings),
        },
        "stop_seconds": stop_seconds(settings),
        "keep": settings.release.keep,
        "generation": settings.release.generation,
    }


def release_files(plan: ServingPlan) -> dict[str, str]:
    """Relative path → text of what a release carries beside the application."""
    return {
        **{f"config/{name}": text for name, text in plan.configs.items()},
        "release.json": json.dumps(plan.release, indent=1, sort_keys=True) + "\n",
        **{f"tool/{name}.py": source(f"machine/{name}.py") for name in _TOOL},
    }
