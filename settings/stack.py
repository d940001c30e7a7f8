"""A stack's settings: what its machines have in common, and each of its sites.

Document (as the user writes it: one model a key) ─▶ read ─▶ StackSettings ─▶ SiteSettings, one a site
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from kinds.app_servers import Process, Surroundings, listening_rules
from kinds.confinement import Confinement
from kinds.databases import DATABASES, Database, Mysql
from kinds.process_managers import ProcessManager
from kinds.redis import Redis
from kinds.service import Service
from kinds.systems import System
from schema import text
from schema.app import App, Site
from schema.base import Rule, check_rules, printable
from schema.from_source import FromSource
from settings import alb, between_sites, data, ports, scaling
from settings.alarms import Alarms
from settings.locks import Dependencies
from settings.metrics import Metrics
from settings.nginx import Nginx
from settings.python import Python
from settings.server import Access, Network, Server, Topology
from settings.site import SiteSettings, site_of
from settings.tls import Tls, unused_rules

# The sections that a site in `sites` may have; all other sections belong to the machine.
SITE_KEYS = tuple(SiteSettings.model_fields)
# These keys belong to the machine, although they are below SITE_KEYS.
MACHINE_KEYS = {
    "site": ("name",),
    "serving": ("process_manager", "front"),
    "nginx": (
        "install", "version", "archive", "sha256", "prefix", "user", "keepalive_timeout", "client_header_timeout",
    ),
    "tls": ("directory", "ca"),
    "data": ("disk_gib", "shared", "protect"),
}  # fmt: skip


class Document(SiteSettings):
    """A stack's file, key by key: its site, or what its sites have in common, and what its machines have."""

    server: Server = Server()
    network: Network = Network()
    topology: Topology = Topology()
    access: Access = Access()
    metrics: Metrics = Metrics()
    alarms: Alarms = Alarms()
    confinement: Confinement = Confinement()
    mysql: Mysql = Mysql()
    redis: Redis | None = None
    sites: dict[text.SiteName, dict[str, dict[str, Any]]] = Field(
        default_factory=dict,
        description="Name of a site to its own settings. A site inherits unset settings from the stack level.",
        # The secrets of a site are plain text until its own settings have been read.
        repr=False,
    )

    @model_validator(mode="after")
    def _site_keys(self) -> Self:
        for name, own in self.sites.items():
            for part, values in own.items():
                if part not in SITE_KEYS:
                    raise ValueError(f"sites.{name}.{printable(part)}: unknown key; allowed: {', '.join(SITE_KEYS)}")
                for key in values:
                    if key in MACHINE_KEYS.get(part, ()):
                        where = "the site's key in sites" if key == "name" else f"{part}.{key}, for all sites"
                        raise ValueError(f"sites.{name}.{part}.{key}: one for the machine; allowed: {where}")
        return self


@dataclass(frozen=True)
class StackSettings:
    """What the machines of a stack have, and their sites.

    database, redis: None without one. process_manager, front, nginx: the machine's, for all sites. acme_directory,
    acme_ca: the CA that machines ask for certificates, and the file with its root, None for the known ones.
    generation: of what the sites share. data_gib: size of the data disk, None without one. shares_data: whether the
    sites' data are in a file system that the machines share. sites: at least one.
    dependencies: of the sites without a requirements file, by name. is_named: `sites` names them, so that a site's key
    is sites.<name>.<key>. notes: what a preview says of the settings, such as which file was found.
    is_first: whether a machine with the application is the one that does what only one of them may do. balancer: in
    front of the server that these settings are for.
    """

    server: Server
    network: Network
    topology: Topology
    access: Access
    metrics: Metrics
    alarms: Alarms
    confinement: Confinement
    database: Database | None
    redis: Redis | None
    process_manager: ProcessManager
    front: Literal["nginx", "none"]
    nginx: Nginx
    acme_directory: str
    acme_ca: str | None
    generation: int
    data_gib: int | None
    shares_data: bool
    protects_data: bool
    sites: tuple[SiteSettings, ...]
    is_named: bool
    dependencies: Mapping[str, Dependencies] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_page: bool = False
    is_first: bool = True
    balancer: alb.Balancer | None = None

    @property
    def system(self) -> System:
        """Facts of the servers' operating system."""
        return self.server.system

    def system_of(self, site: SiteSettings) -> System:
        """Facts of the servers' operating system, with the Python of a site."""
        return site.python.on(self.system)

    @property
    def is_apart(self) -> bool:
        """Whether the application runs on other machines than nginx."""
        return self.topology.is_apart

    @cached_property
    def app_servers(self) -> tuple[str, ...]:
        """Names of the machines that run the application, where they have names."""
        return tuple(self.topology.names)

    @property
    def has_app_servers(self) -> bool:
        """Whether the application runs on machines that another machine may stand beside."""
        return self.topology.servers > 0

    def key_of(self, site: SiteSettings) -> str:
        """What a site's keys begin with in a message: `sites.<name>.` where sites have names, else nothing."""
        return f"sites.{site.site.name}." if self.is_named else ""

    @property
    def numbers_accounts(self) -> bool:
        """Whether users have the same numbers on several machines, because these write the same files."""
        return self.shares_data and self.has_app_servers

    @property
    def redis_beside(self) -> Redis | None:
        """Redis on the application's server."""
        return self.redis if self.redis and self.redis.is_beside(self.has_app_servers) else None

    @property
    def has_standby(self) -> bool:
        """Whether something is in a second zone, beside a load balancer."""
        return self.topology.scaling is not None or bool(self.managed and self.managed.high_availability)

    @property
    def managed(self) -> Mysql | None:
        """The database, if it is an engine of the cloud."""
        return self.database if isinstance(self.database, Mysql) and self.database.managed else None

    @property
    def managed_redis(self) -> Redis | None:
        """Redis, if it is an engine of the cloud."""
        return self.redis if self.redis and self.redis.managed else None

    @property
    def remote(self) -> tuple[Service, ...]:
        """What the applications reach by a name: services, and engines of the cloud."""
        return tuple(filter(None, (self.database, None if self.redis_beside else self.redis)))

    @property
    def services(self) -> tuple[Service, ...]:
        """What has a server of its own."""
        return tuple(service for service in self.remote if not service.is_managed)

    @property
    def provided(self) -> dict[str, tuple[str, ...]]:
        """Section of the settings → names that it adds to the environment of each application."""
        return {service.key: tuple(service.env) for service in (self.database, self.redis) if service}

    def env(self, site: SiteSettings) -> dict[str, SecretStr]:
        """The environment of a site's application: its own over what is the same for all, and where its data are."""
        # What the application prints reaches its log at once.
        found = {"PYTHONUNBUFFERED": SecretStr("1")}
        if site.app.timezone:
            found["TZ"] = SecretStr(site.app.timezone)
        of_services = {name: value for service in self.remote for name, value in service.env.items()}
        return {**found, **data.env(site.place.name), **site.app.env, **of_services}

    def around(self, site: SiteSettings) -> Surroundings:
        """What a site's application server may know beside its own settings."""
        return Surroundings(
            place=site.place,
            system=self.system_of(site),
            app=site.app,
            site=site.site,
            behind_nginx=site.serving.front == "nginx",
            is_apart=self.is_apart,
            nginx_user=site.nginx.user,
            request_buffering=site.nginx.request_buffering,
            process_manager=site.serving.process_manager,
            stop_seconds=site.process_manager.stop_seconds,
            stop_key=site.process_manager.stop_key,
            read_timeout=site.nginx.read_timeout(site.app_server.speaks_http),
            silent_paths=tuple(f"{site.site.prefix}{path}" for path in site.nginx.websocket),
            header_buffers=self.nginx.header_buffers,
            is_page=self.is_page,
        )

    def process(self, site: SiteSettings) -> Process:
        """A site's application server, ready to be managed."""
        return site.app_server.process(self.around(site))

    def without_schedule(self) -> "StackSettings":
        """The same sites without what runs on one machine alone."""
        sites = tuple(site.model_copy(update={"schedule": {}}) for site in self.sites)
        return replace(self, sites=sites, is_first=False)

    def behind_balancer(self) -> "StackSettings":
        """The same sites behind the balancer, which has their certificates and says who their clients are."""
        cidr = self.network.balancer_cidr
        https = frozenset(site.site.name for site in self.sites if site.tls.enabled)
        behind = tuple(alb.behind(site, cidr) for site in self.sites)
        return replace(self, sites=behind, balancer=alb.Balancer(cidr, https))

    def with_builtin_page(self) -> "StackSettings":
        """The same servers with the built-in page in place of the sites."""
        first = self.sites[0]
        server = first.app_server.for_builtin_page(keeps_user=self.process_manager.is_one_user)
        changes: dict[str, Any] = {
            "site": Site(),
            # Its app server's configuration is user data, which must not say more than it needs.
            "app": App(module="builtin", start_seconds=1),
            server.key: server,
            # The built-in page has the OS's nginx, because the archive of another nginx arrives with a release.
            "nginx": Nginx(listen=first.nginx.listen),
            # The certificate arrives with a release, too.
            "tls": Tls(),
            # Its Python is the OS's, because the archive of another Python arrives with a release.
            "python": Python(),
            "processes": {},
            "schedule": {},
        }
        sites = (first.model_copy(update=changes),)
        # The metrics arrive with a release, too.
        return replace(self, nginx=changes["nginx"], metrics=Metrics(), sites=sites, is_named=False, is_page=True)


def read(config: Mapping[str, Any]) -> StackSettings:
    """A stack's structured config (key → map) → its settings.

    Raises SiteValidationError or pydantic.ValidationError for a value, ValueError with `<key>: <reason>; allowed: …`
    for values that do not go together.
    """
    document = Document.model_validate(config)
    shared = {key: value for key, value in document.model_dump(exclude_unset=True).items() if key in SITE_KEYS}
    sites = tuple(site_of(shared, name, own) for name, own in document.sites.items())
    first = SiteSettings.model_validate(shared)
    stack = StackSettings(
        server=document.server,
        network=document.network,
        topology=document.topology,
        access=document.access,
        metrics=document.metrics,
        alarms=document.alarms,
        confinement=document.confinement,
        database=next((found for key in DATABASES if (found := getattr(document, key)).is_wanted), None),
        redis=document.redis,
        process_manager=first.process_manager,
        front=document.serving.front,
        nginx=document.nginx,
        acme_directory=document.tls.directory,
        acme_ca=document.tls.ca,
        generation=document.release.generation,
        data_gib=document.data.disk_gib,
        shares_data=document.data.shared,
        protects_data=document.data.is_protected,
        sites=sites or (first,),
        is_named=bool(sites),
    )
    _check(stack)
    return stack


def _check(stack: StackSettings) -> None:
    check_rules(stack.topology.rules(stack.front))
    check_rules(scaling.rules(stack))
    check_rules(alb.rules(stack))
    check_rules(stack.server.rules())
    for site in stack.sites:
        try:
            check_rules(_rules(stack, site))
        except ValueError as error:
            raise ValueError(f"{stack.key_of(site)}{error}") from None
    check_rules(between_sites.rules(stack))
    check_rules(_for_all_sites(stack))


def _rules(stack: StackSettings, site: SiteSettings) -> Iterator[Rule]:
    """Yield every rule of one site."""
    server, around = site.app_server, stack.around(site)
    for kind, names in stack.provided.items():
        for name in names:
            yield f"app.env.{name}", name in site.app.env, f"{kind} sets it", f"app.env without it, or no {kind}"
    yield from site.python.rules(stack.system, stack.is_apart)
    yield from data.rules(site, stack.system.name, stack.is_apart)
    yield from site.nginx.upstream.rules(server, stack.app_servers if stack.is_apart else ())
    yield from site.rules()
    for name, job in site.schedule.items():
        unknown = job.timezone not in (None, "UTC") and not stack.system.timers_know_zones
        reason = f"systemd of {stack.system.name} knows no time zones"
        yield f"schedule.{name}.timezone", unknown, reason, "UTC, or none for the server's own"
    yield from listening_rules(server, around)
    yield from site.nginx.rules(server, site.app.health)
    yield from site.nginx.reach_rules(stack.access.http)
    yield from site.nginx.source_rules()
    sources = [part for part in (server, site.python, site.nginx) if isinstance(part, FromSource)]
    for first, second in combinations(sources, 2):
        same = first.prefix == second.prefix
        yield f"{second.key}.prefix", same, f"{first.key}.prefix is the same", "a folder for each"
    yield from server.rules(around)
    yield from site.tls.rules(site.serving.front, site.site.server_name, site.nginx.listen)
    yield from ports.rules(site, stack.is_apart)


def _for_all_sites(stack: StackSettings) -> Iterator[Rule]:
    """Yield the rules of what is set for all sites and needs one that it is for."""
    yield from stack.confinement.rules(stack.system)
    named = list(ports.named(stack.sites, stack.is_apart, stack.key_of))
    if stack.redis:
        yield from stack.redis.rules(named, stack.has_app_servers)
    reason, allowed = "set, but nothing is in a second zone", "mysql.managed: true or topology.scaling with it"
    yield "network.standby_cidr", bool(stack.network.standby_cidr) and not stack.has_standby, reason, allowed
    of_services = [(f"{service.key}.port", service.port) for service in (stack.database, stack.redis) if service]
    yield from stack.metrics.rules([*named, *of_services], bool(stack.access.metrics))
    yield from stack.alarms.rules(stack.access.http, stack.managed is not None, stack.managed_redis is not None)
    yield from unused_rules([site.tls for site in stack.sites])
