"""What the release tool needs to know: of what the sites of a machine share, and of a site's release."""

from typing import Any

from contract import paths
from contract.documents import Entrance, Host, HostSite, Probe, Release, Shared
from contract.placeholders import ADDRESS, facts_in, fill
from contract.service_documents import Packages
from kinds.app_servers import Process
from kinds.databases import Mysql
from kinds.pins import hashed
from kinds.process_managers import Program
from kinds.processes import Workers
from kinds.schedule import Schedule
from kinds.service import Service, Surroundings
from kinds.systems.base import UV, UV_PYTHON
from serving import acme, drop_ins, nginx, packages
from serving.plan import Role, SitePlan
from settings import SiteSettings, StackSettings


def host_document(stack: StackSettings, sites: tuple[SitePlan, ...], role: Role) -> Host:
    """What machine/host.py needs to know."""
    has_nginx = stack.front == "nginx" and role != "app"
    manager = stack.process_manager
    return Host(
        has_nginx=has_nginx,
        nginx_user=stack.nginx.user or stack.system.nginx_user,
        builds=nginx.builds(stack) if has_nginx else [],
        stop_seconds=manager.stop_seconds,
        sites=[
            HostSite(
                name=site.place.name,
                user=site.place.user,
                group=site.place.group,
                web_group=site.place.web_group,
                run_group=own.app_server.runs_in_group,
                waiting=nginx.waiting_files(own) if has_nginx else {},
                entrance=Entrance(own.site.host or "", site.release.probe.port, site.release.probe.tls),
                has_data=role != "front",
            )
            for own, site in zip(stack.sites, sites, strict=True)
        ],
        generation=stack.generation,
        given=acme.given(stack) if has_nginx else [],
        acme=acme.domains(stack) if has_nginx else [],
        redis=redis.beside(surroundings(stack, redis)) if (redis := stack.redis_beside) else None,
        drop_ins=drop_ins.texts(
            stack.system,
            manager if role != "front" else None,
            has_nginx,
            max((process.stop_seconds for site in stack.sites for process in site.processes.values()), default=0),
        ),
        confinement=drop_ins.confinement(
            stack.confinement, stack.system, manager if role != "front" else None, has_nginx
        ),
        packages=_packages(stack, role, has_nginx),
        disk_gib=stack.data_gib if role != "front" else None,
        database=database.managed_document() if (database := readied(stack, role)) else None,
        shared=_shared(stack, sites) if has_shared_data(stack, role) else None,
    )


def release_host(stack: StackSettings) -> Host:
    """What machine/host.py needs to know of a machine that brings releases to others, and serves none."""
    return Host(
        has_nginx=False,
        nginx_user=stack.nginx.user or stack.system.nginx_user,
        builds=[],
        stop_seconds=stack.process_manager.stop_seconds,
        sites=[],
        generation=stack.generation,
        given=[],
        acme=[],
        drop_ins=drop_ins.of_others(stack.system),
        packages=packages.document(stack, ("logrotate",)),
    )


def has_shared_data(stack: StackSettings, role: Role) -> bool:
    """Whether a machine of that role mounts the file system that machines share."""
    return stack.shares_data and role in ("whole", "app")


def _shared(stack: StackSettings, sites: tuple[SitePlan, ...]) -> Shared:
    """The sites' programs are units of their own, or belong to a process manager that is one."""
    units = list(stack.process_manager.drop_ins(stack.system, 0))
    if not units:
        units = [fill(site.program.name, {"slot": slot}) for site in sites for slot in paths.SLOTS]
    return Shared(units, is_several=stack.numbers_accounts)


def readied(stack: StackSettings, role: Role) -> Mysql | None:
    """The managed database that a machine of that role brings its schema, None for any other machine."""
    return stack.managed if stack.is_first and role in ("whole", "app") else None


def surroundings(stack: StackSettings, service: Service) -> Surroundings:
    """What a service of the stack may know beside its own settings."""
    return Surroundings(
        system=stack.system,
        network=stack.network.both_cidrs if stack.topology.scaling else stack.network.cidr,
        instance_type=service.instance_type or stack.server.instance_type,
        packages=packages.document(stack, service.packages(stack.system)),
        generation=stack.generation,
    )


def _packages(stack: StackSettings, role: Role, has_nginx: bool) -> Packages | None:
    """The packages of the OS that a running machine gets, too. The bootstrap installs logrotate beside nginx."""
    has_app = role != "front"
    own = stack.server.own_packages if has_app else ()
    of_pythons = {name: "python.install" for site in stack.sites for name in site.python.packages(stack.system)}
    asked_by = {name: key for name, key in of_pythons.items() if name not in own} if has_app else {}
    if readied(stack, role):
        asked_by.setdefault(stack.system.mysql_client, "mysql.managed")
    if has_shared_data(stack, role):
        asked_by.setdefault(stack.system.nfs_client, "data.shared")
    names = tuple(dict.fromkeys((*own, *asked_by, *(() if has_nginx else ("logrotate",)))))
    return packages.document(stack, names)._replace(asked_by=asked_by) if names else None


def release_document(
    stack: StackSettings,
    site: SiteSettings,
    process: Process,
    program: Program,
    workers: Workers,
    schedule: Schedule,
    role: Role,
    port: int,
) -> Release:
    """What machine/release.py needs to know, with placeholders of facts."""
    place, has_app, system = site.place, role != "front", stack.system_of(site)
    own = stack.dependencies.get(site.site.name)
    computed = process.computed if has_app else ""
    return Release(
        site=place.name,
        user=place.user,
        group=place.group,
        web_group=place.web_group,
        env_file=place.env_file,
        system=stack.system.name,
        python=system.python,
        build_pins=[hashed(pin, *system.pythons) for pin in system.build_pins],
        server_pins=[hashed(pin, *system.pythons) for pin in process.pins],
        # Nothing is installed where the application does not run.
        uv=hashed(UV, *system.pythons) if has_app and system.python_version >= UV_PYTHON else "",
        requirements=site.app.requirements if has_app else None,
        locked=own.text if own and has_app else None,
        has_project=own.has_project if own and has_app else False,
        ports={name: list(ports) for name, ports in process.ports.items()} if has_app else {},
        manager=program.manager,
        program=program.name,
        program_config=program.config,
        program_link=program.link,
        endpoint=process.endpoint if has_app else None,
        pidfile=place.pidfile,
        command=process.command[0],
        computed=computed,
        sized_by=facts_in(computed),
        builds=[*site.python.builds(system), *process.builds] if has_app else [],
        log=place.log,
        front="apart" if role == "app" else site.serving.front,
        # nginx on the other machine retries a failed port after fail_timeout.
        handover_seconds=site.nginx.upstream.fail_timeout + 1,
        probe=_probe(stack, site, process, port),
        stop_seconds=site.process_manager.stop_seconds,
        managed=sorted({name for service in stack.remote for name in service.env}) if has_app else [],
        redis_port=stack.redis_beside.port if stack.redis_beside else None,
        processes=workers.document,
        schedule=schedule.jobs,
        start_seconds=site.app.start_seconds,
        persistent=list(site.app.persistent) if has_app else [],
        served=sorted(set(site.data.served.values())) if has_app else [],
        maintenance=site.nginx.maintenance.enabled,
        closes_connections=bool(site.app_server.closes_connections) if has_app else False,
        **_of_release(site, has_app),
    )


def _of_release(site: SiteSettings, has_app: bool) -> dict[str, Any]:
    """The fields that the settings of `release` decide."""
    return {
        "keep": site.release.keep,
        "generation": site.release.generation,
        "irreversible": site.release.irreversible,
        "before": [list(command) for command in site.release.before] if has_app else [],
        "before_seconds": site.release.before_seconds,
        "after": [list(command) for command in site.release.after] if has_app else [],
        "after_seconds": site.release.after_seconds,
    }


def _probe(stack: StackSettings, site: SiteSettings, process: Process, port: int) -> Probe:
    """The request that decides whether a release is healthy."""
    return Probe(
        path=site.health,
        host=site.site.host or f"@@{ADDRESS}@@",
        port=port,
        tls=site.tls.enabled,
        uwsgi_params=process.uwsgi_params or {},
        https=stack.balancer is not None and site.site.name in stack.balancer.https,
    )
