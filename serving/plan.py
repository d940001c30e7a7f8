"""The serving plan: what a server has and runs, as plain values, printable before a deploy."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from contract.documents import (
    CONFIG_FOLDER,
    CONTRACT,
    DATABASE_TOOL,
    HOST_FILE,
    RELEASE_FILE,
    TOOL,
    TOOL_FOLDER,
    Database,
    Endpoint,
    Entrance,
    Host,
    HostSite,
    Probe,
    Release,
    encode,
)
from contract.placeholders import facts_in
from serving import acme, drop_ins, emperor, gunicorn, layout, mysql, nginx, sources, supervisor, systemd, uwsgi
from serving.server import APP_PORT, AppServer, Program
from serving.systems import SYSTEMS, System
from serving.templates import source
from settings import Settings
from settings.database import HOST
from settings.models import App, Site
from settings.servers import Nginx
from settings.tls import Tls


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


# What a machine does: both, nginx alone, the application alone for nginx on another machine, or MySQL alone.
Role = Literal["whole", "front", "app", "db"]


@dataclass(frozen=True)
class SitePlan:
    """A site: its program, its part of nginx's configuration, its releases.

    place: its names on the server. pins: what its virtual environments hold beside the application's
    requirements. configs: file name → text with @@fact@@ placeholders, part of every release. program: how
    the process manager is told. server: uwsgi or gunicorn. sources: archives that travel with a release,
    name in it → path on this machine. ports: where its clients reach it, by its URL at the last. secure: over
    TLS there. server_name: its domain, None for any. release: what the release tool needs to know.
    """

    place: layout.Place
    pins: tuple[str, ...]
    configs: dict[str, str]
    program: Program
    server: str
    sources: dict[str, str]
    ports: tuple[int, ...]
    secure: bool
    server_name: str | None
    location: str
    release: Release

    def url(self, address: str) -> str:
        """URL of the site: its domain, or the server's address when it has none."""
        scheme, usual = ("https", 443) if self.secure else ("http", 80)
        port = "" if self.ports[-1] == usual else f":{self.ports[-1]}"
        return f"{scheme}://{_host(self.server_name) or address}{port}{self.location}"


@dataclass(frozen=True)
class ServingPlan:
    """All that is known of a server before it runs.

    role: what it does. system: facts of its operating system. groups, users, directories: made once, by cloud-init.
    bootstrap_files: path → text that a server gets once. configs: file name → text of what its sites
    share. sources: as a site's. ports: the TCP ports that its clients reach, the world or nginx. host: what the
    release tool needs to know of the machine.
    """

    role: Role
    system: System
    packages: tuple[str, ...]
    services: tuple[str, ...]
    groups: tuple[str, ...]
    users: tuple[User, ...]
    directories: tuple[Directory, ...]
    bootstrap_files: dict[str, str]
    has_nginx: bool
    configs: dict[str, str]
    sources: dict[str, str]
    ports: tuple[int, ...]
    host: Host | Database
    sites: tuple[SitePlan, ...]

    @property
    def bootstrap_version(self) -> str:
        """Changes when, and only when, a server must be built anew: OS, packages, users, directories."""
        parts = (
            self.system.name,
            self.packages,
            self.services,
            sorted(self.bootstrap_files.items()),
            self.groups,
            [(user.name, user.home, user.groups) for user in self.users],
            [(directory.path, directory.owner, directory.mode) for directory in self.directories],
        )
        return f"{self.system.name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


_DIRECTORIES = (
    Directory(layout.ROOT, "root:root", "0755"),
    Directory(layout.HOST, "root:root", "0755"),
    Directory(layout.SITES, "root:root", "0755"),
    Directory(f"{layout.ROOT}/venvs", "root:root", "0755"),
    Directory(layout.ETC, "root:root", "0755"),
    Directory(layout.LOG, "root:root", "0755"),
    Directory("/var/lib/wsgi-ecs", "root:root", "0755"),
    Directory(layout.INCOMING, "root:root", "0700"),
)

_PROGRAMS = {"supervisor": supervisor.program, "systemd": systemd.program, "emperor": emperor.program}


def _host(server_name: str | None) -> str | None:
    """A name that the site answers to: of *.example.com the first that one would try."""
    return server_name.replace("*.", "www.") if server_name else None


@dataclass(frozen=True)
class Machine:
    """One server of a stack. name: empty, front, app-<number> or db. group: its security group's.

    instance_type: of ECS, as the setting `key` has it.
    """

    name: str
    group: str
    instance_type: str
    key: str
    plan: ServingPlan


def machines(settings: Settings) -> tuple[Machine, ...]:
    """The servers of a stack; the first one is what the world reaches."""

    def machine(name: str, group: str, plan: ServingPlan, own: str | None = None, part: str = "server") -> Machine:
        part = part if own else "server"
        return Machine(name, group, own or settings.server.instance_type, f"{part}.instance_type", plan)

    mysql, topology = settings.mysql, settings.topology
    database = (
        (machine(HOST, "db", _database(settings), mysql.instance_type, "mysql"),) if settings.has_database else ()
    )
    if not settings.is_apart:
        return (machine("", "", make_plan(settings)), *database)
    front, app = make_plan(settings, "front"), make_plan(settings, "app")
    apps = (machine(name, "app", app, topology.instance_type, "topology") for name in layout.app_servers(settings))
    return (machine("front", "front", front), *apps, *database)


def _database(settings: Settings) -> ServingPlan:
    """The plan of a machine that has MySQL alone: no sites, and no users of theirs."""
    system = SYSTEMS[settings.server.os]
    return ServingPlan(
        role="db",
        system=system,
        packages=(*system.packages, *system.mysql_packages),
        # Not before its data disk is there, which is attached to a machine that runs.
        services=(),
        groups=(),
        users=(),
        directories=_DIRECTORIES,
        bootstrap_files={},
        has_nginx=False,
        configs=mysql.configs(settings, system),
        sources=mysql.schema(settings),
        ports=(settings.mysql.port,),
        host=mysql.document(settings, system),
        sites=(),
    )


def make_plan(settings: Settings, role: Role = "whole") -> ServingPlan:
    """Settings → ServingPlan of one machine, without I/O beyond reading templates."""
    system = SYSTEMS[settings.server.os]
    serving = settings.serving
    sites = tuple(_site(site, system, role) for site in settings.each)
    has_nginx = serving.front == "nginx" and role != "app"
    has_app = role != "front"
    is_emperor = serving.process_manager == "emperor" and has_app
    builtin = layout.place(builtin_settings(settings))
    return ServingPlan(
        role=role,
        system=system,
        packages=system.packages_for(
            nginx=has_nginx,
            supervisor=has_app and serving.process_manager == "supervisor",
            uwsgi=has_app and any(site.uwsgi.install == "os" for site in settings.each),
            nginx_from_source=has_nginx and settings.nginx.install == "source",
            compiler=has_app,
        ),
        services=_services(system, serving.process_manager if has_app else "none", has_nginx),
        groups=(
            builtin.group,
            builtin.web_group,
            *((settings.uwsgi.gid,) if is_emperor and settings.uwsgi.gid not in (None, builtin.user) else ()),
        ),
        users=(
            User(builtin.user, "/nonexistent", (builtin.group, builtin.web_group)),
            User(layout.BUILD_USER, layout.BUILD_HOME, (builtin.web_group,)),
        ),
        directories=(
            *_DIRECTORIES,
            *_site_directories(builtin),
            *((Directory(emperor.VASSALS, f"root:{builtin.group}", "0750"),) if is_emperor else ()),
        ),
        bootstrap_files=emperor.bootstrap_files(settings.each[0], system) if is_emperor else {},
        has_nginx=has_nginx,
        configs={**nginx.host_files(settings, system), **acme.host_files(settings, system)} if has_nginx else {},
        sources={**sources.archives("nginx", settings.nginx), **acme.sources(settings)} if has_nginx else {},
        ports=tuple(sorted({port for site in sites for port in site.ports})),
        host=_host_facts(settings, system, sites, role),
        sites=sites,
    )


def builtin_settings(settings: Settings) -> Settings:
    """The same servers with the built-in page in place of the sites."""
    first = settings.each[0]
    uwsgi = first.uwsgi
    is_emperor = first.serving.process_manager == "emperor"
    changes: dict[str, Any] = {
        "site": Site(),
        "app": App(module="builtin"),
        "uwsgi": uwsgi.model_copy(
            update={
                "pythonpath": (),
                "static_map": {},
                "processes": 1,
                "cheaper": None,
                "chmod_socket": "660",
                "install": "index",
                "version": uwsgi.version if uwsgi.install == "index" else None,
                # The emperor stays what it is; any other program's user comes with its release.
                "uid": uwsgi.uid if is_emperor else None,
                "gid": uwsgi.gid if is_emperor else None,
            }
        ),
        # Built-in: what is there without a release, which brings the archives.
        "nginx": Nginx(listen=first.nginx.listen),
        "gunicorn": first.gunicorn.model_copy(update={"workers": 1, "user": None, "group": None}),
        # Its certificate comes later.
        "tls": Tls(),
        "sites": {},
    }
    return first.model_copy(update=changes)


def _site_directories(place: layout.Place) -> tuple[Directory, ...]:
    return (
        *(
            Directory(path, f"root:{place.web_group}", "0750")
            for path in (place.root, f"{place.root}/releases", f"{place.root}/slots", place.logs)
        ),
    )


# A site of a machine that has nginx alone.
_NO_PROGRAM = Program("none", "", "", "", {})


def _site(settings: Settings, system: System, role: Role) -> SitePlan:
    server = _app_server(settings, system)
    told = _PROGRAMS[settings.serving.process_manager](settings, system, server)
    program = _NO_PROGRAM if role == "front" else told
    has_nginx = settings.serving.front == "nginx" and role != "app"
    front = nginx.site_files(settings, server) if has_nginx else {}
    if has_nginx:
        ports = nginx.ports(settings)
    else:
        ports = server.ports.get(APP_PORT) or (int(server.endpoint.address.rpartition(":")[2]),)
    # nginx redirects from the first port to the last one; an app server's two ports are alike.
    port = ports[-1] if has_nginx else ports[0]
    return SitePlan(
        place=layout.place(settings),
        pins=(*system.build_pins, *server.pins),
        configs={**front, **(server.configs if role != "front" else {}), **program.configs},
        program=program,
        server=server.name,
        sources=sources.archives("uwsgi", settings.uwsgi) if role != "front" else {},
        ports=ports,
        secure=settings.tls.enabled,
        server_name=settings.site.server_name,
        location=settings.site.location,
        release=_release(settings, system, server, program, role, port),
    )


def _app_server(settings: Settings, system: System) -> AppServer:
    if settings.serving.app_server == "gunicorn":
        return gunicorn.app_server(settings, system, stop_seconds(settings))
    return uwsgi.app_server(settings, system, stop_seconds(settings))


def stop_seconds(settings: Settings) -> int:
    """Seconds a stopping program may take to finish its requests."""
    if settings.serving.process_manager == "supervisor":
        return settings.supervisor.stopwaitsecs
    return settings.systemd.timeout_stop_sec


def _services(system: System, manager: str, has_nginx: bool) -> tuple[str, ...]:
    """Units of systemd that a new server starts, in this order."""
    services = {"supervisor": (system.supervisor_service,), "emperor": (emperor.SERVICE,), "systemd": (), "none": ()}
    return (*services[manager], *(("nginx",) if has_nginx else ()))


def _host_facts(settings: Settings, system: System, sites: tuple[SitePlan, ...], role: Role) -> Host:
    """What machine/host.py needs to know."""
    has_nginx = settings.serving.front == "nginx" and role != "app"
    manager = settings.serving.process_manager if role != "front" else "none"
    return Host(
        has_nginx=has_nginx,
        nginx_user=settings.nginx.user or system.nginx_user,
        builds=sources.nginx(settings, system) if has_nginx else [],
        stop_seconds=stop_seconds(settings),
        sites=[
            HostSite(
                name=site.place.name,
                user=site.place.user,
                group=site.place.group,
                web_group=site.place.web_group,
                run_group=own.uwsgi.gid if own.serving.app_server == "uwsgi" else own.gunicorn.group,
                waiting=nginx.waiting_files(own) if has_nginx else {},
                entrance=Entrance(site.release.probe.host, site.release.probe.port, site.release.probe.tls),
            )
            for own, site in zip(settings.each, sites, strict=True)
        ],
        generation=settings.release.generation,
        given=acme.given(settings) if has_nginx else [],
        acme=acme.domains(settings) if has_nginx else [],
        drop_ins=drop_ins.texts(system, manager, has_nginx, stop_seconds(settings)),
    )


def _release(settings: Settings, system: System, server: AppServer, program: Program, role: Role, port: int) -> Release:
    """What machine/release.py needs to know, with placeholders of facts."""
    place = layout.place(settings)
    has_app = role != "front"
    computed = server.computed if has_app else ""
    return Release(
        site=place.name,
        user=place.user,
        group=place.group,
        web_group=place.web_group,
        env_file=place.env_file,
        system=system.name,
        python=system.python,
        build_pins=list(system.build_pins),
        server_pins=list(server.pins),
        # Nothing is installed where the application does not run.
        requirements=settings.app.requirements if has_app else None,
        ports={name: list(ports) for name, ports in server.ports.items()} if has_app else {},
        manager=program.manager,
        program=program.name,
        program_config=program.config,
        program_link=program.link,
        endpoint=Endpoint(server.endpoint.protocol, server.endpoint.address) if has_app else None,
        pidfile=place.pidfile,
        command=server.command[0],
        computed=computed,
        sized_by=facts_in(computed),
        builds=sources.uwsgi(settings, system) if has_app and server.name == "uwsgi" else [],
        log=place.log,
        front="apart" if role == "app" else settings.serving.front,
        # nginx on the other machine retries a failed port after fail_timeout.
        handover_seconds=settings.nginx.upstream.fail_timeout + 1,
        probe=Probe(
            path=layout.health(settings),
            host=_host(settings.site.server_name) or "localhost",
            port=port,
            tls=settings.tls.enabled,
            uwsgi_params=nginx.uwsgi_params(settings),
        ),
        stop_seconds=stop_seconds(settings),
        keep=settings.release.keep,
        generation=settings.release.generation,
    )


def release_files(site: SitePlan) -> dict[str, str]:
    """Relative path → text of what a site's release carries beside the application."""
    return {RELEASE_FILE: encode(site.release), **_config_files(site.configs), **_tool_files(TOOL)}


def host_files(plan: ServingPlan) -> dict[str, str]:
    """Relative path → text of what a machine's own release carries."""
    tool = (*TOOL, *DATABASE_TOOL) if plan.role == "db" else TOOL
    return {HOST_FILE: encode(plan.host), **_config_files(plan.configs), **_tool_files(tool)}


def _config_files(configs: dict[str, str]) -> dict[str, str]:
    return {f"{CONFIG_FOLDER}{name}": text for name, text in configs.items()}


def _tool_files(names: tuple[str, ...]) -> dict[str, str]:
    """The release tool's modules, and the contract package that they import."""
    modules = {f"{TOOL_FOLDER}{name}.py": source(f"machine/{name}.py") for name in names}
    return modules | {f"{TOOL_FOLDER}contract/{name}.py": source(f"contract/{name}.py") for name in CONTRACT}
