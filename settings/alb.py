"""The load balancer of the cloud in front of the servers: its settings, and what it does not go together with.

https://www.alibabacloud.com/help/en/slb/application-load-balancer/ has its limits.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from schema.base import Model, Rule
from schema.from_source import FromSource
from settings.tls import Tls

if TYPE_CHECKING:
    from settings.site import SiteSettings
    from settings.stack import StackSettings

# Seconds that a listener waits for an answer at most, and characters of the path and of the domain of a health check.
LONGEST = 600
_PATH = 80
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]+")
_EVERYBODY = ("0.0.0.0/0",)
_SQLITE = (".sqlite3", ".sqlite", ".db")
_DOCS = "docs/beyond-one-machine.md"


class Alb(Model):
    drain_seconds: int = Field(
        60,
        ge=10,
        le=900,
        description="Seconds that the requests of a server that leaves, or fails its health check, have to end.",
    )
    sticky_seconds: int | None = Field(
        None,
        ge=1,
        le=86400,
        description="Seconds for which a browser's requests reach the same server, by a cookie of the balancer; none: "
        "any server answers any request.",
    )
    tls_policy: Literal[
        "tls_cipher_policy_1_2_strict_with_1_3", "tls_cipher_policy_1_2_strict", "tls_cipher_policy_1_2"
    ] = Field(
        "tls_cipher_policy_1_2_strict_with_1_3",
        description="Security policy of the HTTPS listeners: TLS 1.3 and 1.2 with forward secrecy, 1.2 with forward "
        "secrecy, or 1.2.",
    )
    http2: bool = Field(True, description="Whether the HTTPS listeners speak HTTP/2.")


@dataclass(frozen=True)
class Balancer:
    """What a server behind the balancer knows of it. cidr: its addresses. https: names of the sites with HTTPS."""

    cidr: str
    https: frozenset[str]


def behind(site: "SiteSettings", cidr: str) -> "SiteSettings":
    """A site behind a balancer with these addresses, which has its certificate and says who its clients are."""
    return site.model_copy(
        update={
            "tls": Tls(listen=site.tls.listen, hsts=site.tls.hsts if site.tls.enabled else None),
            "nginx": site.nginx.model_copy(update={"set_real_ip_from": (*site.nginx.set_real_ip_from, cidr)}),
        }
    )


def rules(stack: "StackSettings") -> Iterator[Rule]:
    """Yield the rules of a stack that may have a balancer."""
    topology, network = stack.topology, stack.network
    if not topology.is_balanced:
        reason, way = "set, but topology.entrance is nginx", "topology.entrance: alb"
        yield "topology.alb", "alb" in topology.model_fields_set, reason, way
        yield "network.entrance_cidr", network.entrance_cidr is not None, reason, way
        return
    yield (
        "topology.entrance",
        stack.front == "none",
        "each server behind the balancer has nginx, and serving.front is none",
        "serving.front: nginx",
    )
    none = "the balancer has no server to send requests to"
    allowed = "1 or more, and 2 for releases of the OS; or topology.scaling"
    yield "topology.app_servers", topology.servers == 0, none, allowed
    limited = stack.access.http != _EVERYBODY
    yield "access.http", limited, "the balancer answers everybody", "0.0.0.0/0, with the networks in nginx.allow"
    enabled = any(site.tls.enabled for site in stack.sites)
    for key in ("tls_policy", "http2"):
        is_unused = key in topology.alb.model_fields_set and not enabled
        yield f"topology.alb.{key}", is_unused, "set, but no site has a certificate", "tls.certificate"
    for site in stack.sites:
        for key, is_broken, reason, allowed in _of_site(site, topology.servers):
            yield f"{stack.key_of(site)}{key}", is_broken, reason, allowed


def _of_site(site: "SiteSettings", servers: int) -> Iterator[Rule]:
    yield (
        "tls.acme",
        site.tls.acme,
        "topology.entrance is alb, and no server behind it can prove the domain to a CA",
        f"tls.certificate and tls.private_key, which another ACME client renews ({_DOCS})",
    )
    long = f"the balancer asks for a path of {_PATH} characters at most"
    yield "app.health", len(site.health) > _PATH, long, "a shorter path"
    name = site.site.host
    is_asked = name is None or (len(name) <= _PATH and _DOMAIN.fullmatch(name.lower()) is not None)
    reason = f"the balancer cannot ask for {site.site.server_name}"
    yield "site.server_name", not is_asked, reason, "a domain such as www.example.com"
    speaks_http = site.app_server.speaks_http
    timeout = site.nginx.read_timeout(speaks_http)
    key = "proxy_read_timeout" if speaks_http else "uwsgi_read_timeout"
    yield f"nginx.{key}", timeout >= LONGEST, f"the balancer waits {LONGEST} s at most", f"{LONGEST - 1} or less"
    yield (
        "nginx.upstream",
        bool(site.nginx.upstream.model_fields_set),
        "topology.entrance is alb, and each nginx has one app server",
        "topology.entrance: nginx",
    )
    yield (
        "data.served",
        bool(site.data.served) and servers > 1 and not site.data.shared,
        "a file that is written on one server is on no other",
        "data.shared: true, topology.app_servers: 1, or files that the application keeps elsewhere",
    )
    for path in site.app.persistent:
        is_shared = servers > 1 and path.endswith(_SQLITE)
        yield "app.persistent", is_shared, f"{path} would be another database on each server", "mysql.password, or none"
    for part in (site.app_server, site.python, site.nginx):
        if isinstance(part, FromSource):
            reason = "a server behind the balancer has no way to the internet"
            yield f"{part.key}.archive", part.install == "source" and part.is_remote, reason, "a file on this computer"
