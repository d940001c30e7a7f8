"""What the release tool needs to know: of what the sites of a machine share, and of a site's release."""

from contract.documents import Entrance, Host, HostSite, Probe, Release
from contract.placeholders import ADDRESS, facts_in
from kinds.app_servers import Process
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
        packages=packages.document(stack, names) if (names := _packages(stack, role, has_nginx)) else None,
        disk_gib=stack.data_gib if role != "front" else None,
    )


def surroundings(stack: StackSettings, service: Service) -> Surroundings:
    """What a service of the stack may know beside its own settings."""
    return Surroundings(
        system=stack.system,
        network=stack.network.cidr,
        instance_type=service.instance_type or stack.server.instance_type,
        packages=packages.document(stack, service.packages(stack.system)),
        generation=stack.generation,
    )


def _packages(stack: StackSettings, role: Role, has_nginx: bool) -> tuple[str, ...]:
    """The packages of the OS that a running machine gets, too. The bootstrap installs logrotate beside nginx."""
    own = stack.server.own_packages if role != "front" else ()
    return own if has_nginx else tuple(dict.fromkeys((*own, "logrotate")))


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
    place, has_app = site.place, role != "front"
    own = stack.dependencies.get(site.site.name)
    computed = process.computed if has_app else ""
    return Release(
        site=place.name,
        user=place.user,
        group=place.group,
        web_group=place.web_group,
        env_file=place.env_file,
        system=stack.system.name,
        python=stack.system.python,
        build_pins=list(stack.system.build_pins),
        server_pins=list(process.pins),
        # Nothing is installed where the application does not run.
        uv=UV if has_app and stack.system.python_version >= UV_PYTHON else "",
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
        before=[list(command) for command in site.release.before] if has_app else [],
        before_seconds=site.release.before_seconds,
        after=[list(command) for command in site.release.after] if has_app else [],
        after_seconds=site.release.after_seconds,
        builds=list(process.builds) if has_app else [],
        log=place.log,
        front="apart" if role == "app" else site.serving.front,
        # nginx on the other machine retries a failed port after fail_timeout.
        handover_seconds=site.nginx.upstream.fail_timeout + 1,
        probe=_probe(site, process, port),
        stop_seconds=site.process_manager.stop_seconds,
        keep=site.release.keep,
        generation=site.release.generation,
        redis_port=stack.redis_beside.port if stack.redis_beside else None,
        processes=workers.document,
        schedule=schedule.jobs,
        start_seconds=site.app.start_seconds,
        persistent=list(site.app.persistent) if has_app else [],
        served=sorted(set(site.data.served.values())) if has_app else [],
    )


def _probe(site: SiteSettings, process: Process, port: int) -> Probe:
    """The request that decides whether a release is healthy."""
    return Probe(
        path=site.health,
        host=site.site.host or f"@@{ADDRESS}@@",
        port=port,
        tls=site.tls.enabled,
        uwsgi_params=process.uwsgi_params or {},
    )
