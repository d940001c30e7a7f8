"""Settings → the plan of each machine."""

from dataclasses import replace

from contract import paths
from contract.numbers import number
from contract.placeholders import APP_PORT
from contract.resources import FRONT_MACHINE, MEMBERS, RELEASE_MACHINE
from kinds.place import Place
from kinds.process_managers import NO_PROGRAM
from kinds.processes import Workers, workers
from kinds.schedule import Schedule, timers
from kinds.service import Service
from serving import acme, drop_ins, metrics, nginx, server, store, updates
from serving.documents import host_document, readied, release_document, release_host, surroundings
from serving.plan import Directory, Machine, Role, ServingPlan, SitePlan, User
from settings import SiteSettings, StackSettings

_DIRECTORIES = (
    Directory(paths.ROOT, "root:root", "0755"),
    Directory(paths.host_root(), "root:root", "0755"),
    Directory(paths.sites(), "root:root", "0755"),
    Directory(paths.venvs(), "root:root", "0755"),
    Directory(paths.ETC, "root:root", "0755"),
    Directory(paths.LOG, "root:root", "0755"),
    Directory("/var/lib/wsgi-ecs", "root:root", "0755"),
    Directory(paths.incoming(), "root:root", "0700"),
)


def machines(stack: StackSettings) -> tuple[Machine, ...]:
    """The servers of a stack; the first one has the public address."""

    def machine(name: str, group: str, plan: ServingPlan, own: str | None = None, part: str = "server") -> Machine:
        part = part if own else "server"
        return Machine(name, group, own or stack.server.instance_type, f"{part}.instance_type", plan)

    topology = stack.topology
    services = tuple(
        machine(service.machine, service.machine, make_service_plan(stack, service), service.instance_type, service.key)
        for service in stack.services
    )
    if topology.scaling:
        return (machine(RELEASE_MACHINE, RELEASE_MACHINE, make_release_plan(stack)), *services)
    if topology.is_balanced:
        # The first has the public address for SSH, and the others are reached through it.
        behind = stack.behind_balancer()
        leader, follower = make_plan(behind), make_plan(behind.without_schedule())
        members = (
            machine(name, "app" if number else name, follower if number else leader, topology.instance_type, "topology")
            for number, name in enumerate(topology.names)
        )
        return (*members, *services)
    if not stack.is_apart:
        return (machine("", "", make_plan(stack)), *services)
    front, app = make_plan(stack, "front"), make_plan(stack, "app")
    # The first app server has the timers, so that no command runs on two machines.
    others = make_plan(stack.without_schedule(), "app")
    apps = (
        machine(name, "app", others if number else app, topology.instance_type, "topology")
        for number, name in enumerate(topology.names)
    )
    return (machine(FRONT_MACHINE, "front", front), *apps, *services)


def members(stack: StackSettings) -> tuple[Machine, ...]:
    """What the members of a stack's scaling group have in common; nothing for a stack without one."""
    scaling = stack.topology.scaling
    if not scaling:
        return ()
    plan = make_plan(stack.behind_balancer())
    plan = replace(
        plan,
        packages=(*plan.packages, stack.system.nfs_client),
        bootstrap_files={**plan.bootstrap_files, **store.member_files()},
        store_units=(paths.STORE_UNIT, paths.MEMBER_UNIT),
    )
    key = "topology.scaling.instance_types" if scaling.instance_types else "server.instance_type"
    return (Machine(MEMBERS, MEMBERS, scaling.types(stack.server.instance_type)[0], key, plan),)


def make_release_plan(stack: StackSettings) -> ServingPlan:
    """The plan of the machine that brings releases to the members of a scaling group: nothing of a site runs there."""
    system, folder = stack.system, f"{paths.host_root()}/current"
    return ServingPlan(
        role="release",
        system=system,
        packages=(*system.packages, system.nfs_client),
        services=(),
        groups=(),
        users=(),
        directories=_DIRECTORIES,
        bootstrap_files=store.release_files(),
        has_nginx=False,
        configs={
            **metrics.host_files(stack, folder),
            **server.host_files(stack),
            **updates.host_files(stack, folder),
        },
        sources={},
        ports=(),
        host=release_host(stack),
        sites=(),
        store_units=(paths.STORE_UNIT,),
    )


def make_service_plan(stack: StackSettings, service: Service) -> ServingPlan:
    """The plan of a machine that has a service alone: no sites, and no users of theirs."""
    system = stack.system
    return ServingPlan(
        role="service",
        system=system,
        packages=(*system.packages, *service.packages(system)),
        # The release starts the service: the data disk of a database is attached only to a running machine.
        services=(),
        groups=(),
        users=(),
        directories=_DIRECTORIES,
        bootstrap_files={},
        has_nginx=False,
        configs={
            **service.configs(system),
            **metrics.host_files(stack, paths.ROOT),
            **server.host_files(stack),
            **updates.host_files(stack, paths.ROOT),
        },
        sources=service.sources(),
        ports=(service.port,),
        host=service.document(surroundings(stack, service))._replace(
            drop_ins=drop_ins.of_others(system, *service.restarted)
        ),
        sites=(),
        service=service,
    )


def make_plan(stack: StackSettings, role: Role = "whole") -> ServingPlan:
    """Settings → ServingPlan of one machine, without I/O beyond reading templates."""
    system = stack.system
    has_nginx = stack.front == "nginx" and role != "app"
    manager = stack.process_manager if role != "front" else None
    sites = tuple(make_site_plan(stack, site, role) for site in stack.sites)
    (builtin,) = (site.place for site in stack.with_builtin_page().sites)
    first = stack.sites[0].app_server
    database = readied(stack, role)
    run_group = first.runs_in_group if manager and manager.is_one_user else None
    return ServingPlan(
        role=role,
        system=system,
        packages=_packages(stack, role, has_nginx),
        services=(*(manager.services(system) if manager else ()), *(("nginx",) if has_nginx else ())),
        groups=(
            builtin.group,
            builtin.web_group,
            *((run_group,) if run_group not in (None, builtin.user) else ()),
        ),
        users=(
            User(builtin.user, "/nonexistent", (builtin.group, builtin.web_group)),
            User(paths.BUILD_USER, paths.BUILD_HOME, (builtin.web_group,)),
        ),
        directories=(
            *_DIRECTORIES,
            *_site_directories(builtin),
            *(Directory(path, f"root:{builtin.group}", "0750") for path in (manager.folders() if manager else ())),
        ),
        bootstrap_files=manager.bootstrap_files(stack.sites[0].place, first.runs_in_group, system) if manager else {},
        has_nginx=has_nginx,
        configs={
            **({**nginx.host_files(stack), **acme.host_files(stack)} if has_nginx else {}),
            **metrics.host_files(stack, f"{paths.host_root()}/current"),
            **server.host_files(stack),
            **updates.host_files(stack, f"{paths.host_root()}/current"),
            **(database.managed_configs() if database else {}),
        },
        sources={
            **({**stack.nginx.archives, **acme.sources(stack)} if has_nginx else {}),
            **(database.sources() if database else {}),
        },
        ports=tuple(sorted({port for site in sites for port in site.ports})),
        host=host_document(stack, sites, role),
        sites=sites,
        numbers={name: number(name) for name in (builtin.user, builtin.group, builtin.web_group)}
        if stack.numbers_accounts and role != "front"
        else {},
    )


def public_sites(stack: StackSettings, machine: Machine) -> list[SitePlan]:
    """The plans of a machine's sites, with the ports that the world reaches. machine: one that has the sites."""
    if not stack.topology.is_balanced:
        return list(machine.plan.sites)
    both = zip(machine.plan.sites, stack.sites, strict=True)
    return [replace(plan, ports=nginx.ports(site), secure=site.tls.enabled) for plan, site in both]


def _packages(stack: StackSettings, role: Role, has_nginx: bool) -> tuple[str, ...]:
    """The packages of a server; the OS's nginx serves until the first release."""
    system, has_app = stack.system, role != "front"
    builds_nginx = has_nginx and stack.nginx.install == "source"
    from_os = dict.fromkeys(name for site in stack.sites for name in site.app_server.packages(system))
    chosen = (
        (system.packages, True),
        # They compile the application server and whatever else comes as source.
        (system.compiler_packages, has_app or builds_nginx),
        (("nginx", "logrotate"), has_nginx),
        (stack.process_manager.packages(system), has_app),
        (tuple(from_os), has_app),
        (system.nginx_build_packages, builds_nginx),
    )
    return tuple(name for names, is_needed in chosen if is_needed for name in names)


def _site_directories(place: Place) -> tuple[Directory, ...]:
    return tuple(
        Directory(path, f"root:{place.web_group}", "0750")
        for path in (place.root, f"{place.root}/releases", f"{place.root}/slots", place.logs)
    )


def make_site_plan(stack: StackSettings, site: SiteSettings, role: Role) -> SitePlan:
    """A site's settings → its plan on a machine of that role."""
    has_app, has_nginx = role != "front", site.serving.front == "nginx" and role != "app"
    process = stack.process(site)
    # The page before the first release is user data, which stay as they are.
    confined = "" if stack.is_page else stack.confinement.of_program(stack.system)
    program = site.process_manager.program(process, site.place, stack.system, confined) if has_app else NO_PROGRAM
    beside = Workers()
    if has_app and (found := workers(site.processes, site.place)):
        beside = site.process_manager.processes(found, process.group, site.place, stack.system, confined)
    of_site = (site.schedule, process.group, site.place, stack.system)
    planned = timers(*of_site, confined, bool(stack.topology.scaling)) if has_app else Schedule()
    if has_nginx:
        ports = nginx.ports(site)
    else:
        ports = process.ports.get(APP_PORT) or (int(process.endpoint.address.rpartition(":")[2]),)
    # nginx redirects from the first port to the last one; an app server's two ports are alike.
    port = ports[-1] if has_nginx else ports[0]
    return SitePlan(
        place=site.place,
        pins=(*stack.system_of(site).build_pins, *process.pins),
        configs={
            **(nginx.site_files(stack, site, process) if has_nginx else {}),
            **(process.configs if has_app else {}),
            **program.configs,
            **beside.configs,
            **planned.configs,
        },
        program=program,
        server=process.name,
        sources={**site.python.archives, **site.app_server.archives} if has_app else {},
        ports=ports,
        secure=site.tls.enabled,
        host=site.site.host,
        location=site.site.location,
        release=release_document(stack, site, process, program, beside, planned, role, port),
    )
