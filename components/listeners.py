"""What a load balancer does with a request: its listeners, their rules, and the servers behind them.

listener (port) ─┬─ default: the first site's servers
                 └─ rules: each site's servers by domain and path, or HTTPS in place of HTTP

A site has a group of servers of its own, because each site has a health check of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import pulumi
import pulumi_alicloud as alicloud

from components.balancer import Balancer
from components.server import Server
from contract.resources import servers_resource
from settings import SiteSettings, StackSettings
from settings.alb import LONGEST

# Seconds between two health checks and for an answer, and how many decide. A machine that is frozen is out in 21 s.
_EVERY, _PATIENCE, _ENOUGH = 2, 5, 3
# Seconds beside what nginx waits for an application, so that nginx's own answer comes first.
_MARGIN = 1


@dataclass(frozen=True)
class Member:
    """A server behind the load balancer: its name, its instance's id, and its private address."""

    name: str
    id: pulumi.Input[str]
    address: pulumi.Input[str]

    @classmethod
    def of(cls, name: str, server: Server) -> "Member":
        return cls(name, server.instance_id, server.private_address)


@dataclass(frozen=True)
class Front:
    """A listener: its port, its protocol, HTTP or HTTPS, and the sites that answer there, the first by default."""

    port: int
    protocol: str
    sites: tuple[SiteSettings, ...]

    def redirects(self, site: SiteSettings) -> bool:
        """Whether a site's requests are sent to HTTPS from here."""
        return self.protocol == "HTTP" and site.tls.enabled and site.tls.redirect


def fronts(sites: Sequence[SiteSettings]) -> tuple[Front, ...]:
    """The listeners of a stack's sites."""
    found: dict[tuple[int, str], list[SiteSettings]] = {}
    for site in sites:
        found.setdefault((site.nginx.listen, "HTTP"), []).append(site)
        if site.tls.enabled:
            found.setdefault((site.tls.listen, "HTTPS"), []).append(site)
    return tuple(Front(port, protocol, tuple(members)) for (port, protocol), members in found.items())


def priorities(sites: Sequence[SiteSettings]) -> dict[str, int]:
    """Site → priority of its rule, 1 to 10000: the longest path first.

    A site's priority hardly depends on the other sites, because no two rules of a listener may have the same, not even
    while they change.
    """
    found: dict[str, int] = {}
    for site in sites:
        wanted = (99 - min(len(site.site.location), 99)) * 100 + crc32(site.site.name.encode()) % 100 + 1
        while wanted in found.values():
            wanted += 1
        found[site.site.name] = wanted
    return found


def conditions(site: SiteSettings, is_alone: bool) -> list[dict[str, Any]]:
    """Which requests are a site's. is_alone: no other site answers at the port."""
    location, name = site.site.location, site.site.server_name
    paths = ["/*"] if location == "/" or is_alone else [f"{location}*", location.rstrip("/")]
    found: list[dict[str, Any]] = [{"type": "Path", "path_config": {"values": paths}}]
    if name and not is_alone:
        found.append({"type": "Host", "host_config": {"values": [name.lower()]}})
    return found


def to_https(site: SiteSettings) -> dict[str, Any]:
    """The action that sends a request to HTTPS, and to the site's own domain: a Host header may hold anything."""
    name = site.site.server_name or ""
    redirect = {
        "protocol": "HTTPS",
        "port": str(site.tls.listen),
        "host": "${host}" if name.startswith("*.") else name.lower(),
        "path": "${path}",
        "query": "${query}",
        "http_code": "301",
    }
    return {"order": 1, "type": "Redirect", "redirect_config": redirect}


@dataclass(frozen=True)
class ListenersArgs:
    """What a load balancer does.

    members: None where a scaling group puts its servers there. after: what must be there before a server gets requests.
    """

    stack: StackSettings
    balancer: Balancer
    vpc_id: pulumi.Input[str]
    members: Sequence[Member] | None
    tags: Mapping[str, str]
    after: Sequence[pulumi.Resource] = ()


class Listeners(pulumi.ComponentResource):
    """group_ids: of each site's servers, by its name."""

    group_ids: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: ListenersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:listeners:Listeners", name, None, opts)
        self.group_ids = {site.site.name: self._group(name, args, site).id for site in args.stack.sites}
        for front in fronts(args.stack.sites):
            listener = self._listener(name, args, front)
            self._rules(f"{name}-{front.protocol.lower()}-{front.port}", front, listener)
        self.register_outputs({"group_ids": self.group_ids})

    def _group(self, name: str, args: ListenersArgs, site: SiteSettings) -> alicloud.alb.ServerGroup:
        sticky = args.stack.topology.alb.sticky_seconds
        return alicloud.alb.ServerGroup(
            servers_resource(name, site.site.name),
            server_group_name=f"{name}-{site.site.name}",
            server_group_type="Instance",
            vpc_id=args.vpc_id,
            protocol="HTTP",
            scheduler="Wrr",
            health_check_config={
                "health_check_enabled": True,
                "health_check_protocol": "HTTP",
                "health_check_http_version": "HTTP1.1",
                "health_check_method": "GET",
                # As the probe of a release has it.
                "health_check_path": site.health,
                "health_check_host": (site.site.host or "").lower() or None,
                "health_check_codes": ["http_2xx"],
                "health_check_connect_port": 0,
                "health_check_interval": _EVERY,
                "health_check_timeout": _PATIENCE,
                "healthy_threshold": _ENOUGH,
                "unhealthy_threshold": _ENOUGH,
            },
            connection_drain_config={
                "connection_drain_enabled": True,
                "connection_drain_timeout": args.stack.topology.alb.drain_seconds,
            },
            sticky_session_config={
                "sticky_session_enabled": sticky is not None,
                **({"sticky_session_type": "Insert", "cookie_timeout": sticky} if sticky else {}),
            },
            # Everything is named that is read back: what is left out would differ for ever.
            servers=None
            if args.members is None
            else [
                {
                    "server_id": member.id,
                    "server_ip": member.address,
                    "server_type": "Ecs",
                    "port": site.nginx.listen,
                    "weight": 100,
                    "description": member.name,
                }
                for member in args.members
            ],
            tags=args.tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                # A server that is new has a release before it has requests.
                depends_on=args.after,
                # The run after a refresh would take out all servers that a scaling group has put there.
                ignore_changes=["servers"] if args.members is None else [],
            ),
        )

    def _listener(self, name: str, args: ListenersArgs, front: Front) -> alicloud.alb.Listener:
        is_secure = front.protocol == "HTTPS"
        found = (
            args.balancer.certificate_ids[(site.site.server_name or "").lower()] for site in front.sites if is_secure
        )
        first, *others = dict.fromkeys(found) or (None,)
        made = alicloud.alb.Listener(
            # Another port or protocol is another listener.
            f"{name}-{front.protocol.lower()}-{front.port}",
            load_balancer_id=args.balancer.load_balancer_id,
            listener_protocol=front.protocol,
            listener_port=front.port,
            listener_description=f"{name}: {front.protocol}",
            default_actions=[self._forward(front.sites[0])],
            certificates={"certificate_id": first} if first else None,
            security_policy_id=args.stack.topology.alb.tls_policy if is_secure else None,
            http2_enabled=args.stack.topology.alb.http2 if is_secure else None,
            gzip_enabled=False,
            idle_timeout=min(args.stack.nginx.keepalive_timeout, LONGEST),
            request_timeout=_timeout(front.sites),
            x_forwarded_for_config={
                "x_forwarded_for_enabled": True,
                "x_forwarded_for_processing_mode": "append",
                "x_forwarded_for_proto_enabled": True,
            },
            tags=args.tags,
            # It is read back whether it is asked for or not.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["access_log_tracing_config"]),
        )
        for number, other in enumerate(others, 1):
            alicloud.alb.ListenerAdditionalCertificateAttachment(
                f"{name}-{front.protocol.lower()}-{front.port}-certificate-{number}",
                listener_id=made.id,
                certificate_id=other,
                opts=pulumi.ResourceOptions(parent=self),
            )
        return made

    def _forward(self, site: SiteSettings) -> dict[str, Any]:
        groups = [{"server_group_id": self.group_ids[site.site.name]}]
        return {"type": "ForwardGroup", "forward_group_config": {"server_group_tuples": groups}}

    def _rules(self, name: str, front: Front, listener: alicloud.alb.Listener) -> None:
        """Make the rules of a listener. A site that is alone needs none but that of its redirect."""
        is_alone = len(front.sites) == 1
        for site in front.sites:
            if is_alone and not front.redirects(site):
                continue
            action = to_https(site) if front.redirects(site) else {"order": 1, **self._forward(site)}
            alicloud.alb.Rule(
                f"{name}-{site.site.name}",
                listener_id=listener.id,
                rule_name=f"{name}-{site.site.name}",
                priority=priorities(front.sites)[site.site.name],
                rule_conditions=conditions(site, is_alone),
                rule_actions=[action],
                opts=pulumi.ResourceOptions(parent=self),
            )


def _timeout(sites: Sequence[SiteSettings]) -> int:
    """Seconds that a listener waits for an answer: longer than nginx, and for a WebSocket as long as there is."""
    if any(site.nginx.websocket for site in sites):
        return LONGEST
    return max(site.nginx.read_timeout(site.app_server.speaks_http) for site in sites) + _MARGIN
