"""The settings of nginx that are maps of their own."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import Field

from kinds.app_servers import AppServer
from schema import http, text
from schema.base import Cidrs, Model, Rule, Seconds


class LimitReq(Model):
    """https://nginx.org/en/docs/http/ngx_http_limit_req_module.html"""

    rate: text.Rate = Field(
        "10r/s", description="Requests of one client, such as 10r/s or 30r/m; requests above the rate get 429."
    )
    burst: int = Field(20, ge=0, le=100000, description="Requests above the rate that a client may send at once.")
    nodelay: bool = Field(True, description="Answer a burst at once instead of at the rate.")


class Cache(Model):
    """https://nginx.org/en/docs/http/ngx_http_uwsgi_module.html#uwsgi_cache"""

    valid: Seconds = Field(5, description="Seconds that a response is cached, unless its Cache-Control says otherwise.")
    max_size: text.Size = Field("100m", description="Largest size of the cache on disk.")
    bypass_cookies: tuple[http.Cookie, ...] = Field(
        (), description="Cookies whose requests bypass the cache; none named: any cookie does."
    )
    bypass_header: http.HeaderName | None = Field(
        None, description="Request header whose requests bypass the cache, too."
    )


class Maintenance(Model):
    """A site that is closed for a while. machine/maintenance.py says when."""

    enabled: bool = Field(
        False,
        description="Answer 503 from the release that changes this value on; `./rehearse maintenance on` and `off` "
        "act until then.",
    )
    allow: Cidrs = Field((), description="IPv4 CIDRs that reach the site during maintenance.")
    retry_after: Seconds = Field(300, description="Seconds after which a client should try again: Retry-After.")
    page: text.InsidePath | None = Field(
        None,
        description="File of the application that is sent with the 503; nginx.static stays reachable for it. None: a "
        "built-in page, and nginx.static is closed, too.",
    )

    def rules(self) -> Iterator[Rule]:
        """Yield the rules of a site's maintenance."""
        yield (
            "nginx.maintenance.allow",
            any(IPv4Network(network).prefixlen == 0 for network in self.allow),
            "it closes the site to nobody",
            "networks such as 203.0.113.0/24",
        )


class Upstream(Model):
    """https://nginx.org/en/docs/http/ngx_http_upstream_module.html"""

    method: Literal["round_robin", "least_conn", "ip_hash"] = Field(
        "round_robin",
        description="How an app server is chosen for a request: in turn, the least busy one, or one per client.",
    )
    weights: dict[text.AppServer, Annotated[int, Field(ge=1, le=100)]] = Field(
        default_factory=dict, description="App server, such as app-1, to its weight; the other app servers have 1."
    )
    keepalive: int = Field(
        0,
        ge=0,
        le=1024,
        description="Idle connections kept to Granian, or to gunicorn's gthread and gevent workers, per worker of "
        "nginx.",
    )
    max_fails: int = Field(
        1, ge=1, le=100, description="Failures after which nginx skips an app server for nginx.upstream.fail_timeout."
    )
    fail_timeout: Annotated[int, Field(ge=1, le=60)] = Field(
        5, description="Seconds for which nginx skips a failed app server."
    )
    connect_timeout: Annotated[int, Field(ge=1, le=60)] = Field(
        2, description="Seconds to wait for a connection to an app server."
    )

    def rules(self, server: AppServer, app_servers: Sequence[str]) -> Iterator[Rule]:
        """Yield the rules of what nginx passes requests to. app_servers: names of the machines, if they are apart."""
        for name in self.weights:
            yield (
                "nginx.upstream.weights",
                name not in app_servers,
                f"{name} is none of the app servers",
                ", ".join(app_servers) or "topology.app_servers: 1 or more",
            )
        yield (
            "nginx.upstream.keepalive",
            self.keepalive > 0 and bool(server.closes_connections),
            server.closes_connections,
            "0, or serving.app_server: gunicorn with gunicorn.worker_class: gthread or gevent and its keepalive",
        )
        yield (
            "nginx.upstream",
            bool(self.model_fields_set) and not app_servers,
            "there is one app server",
            "topology.app_servers: 1 or more",
        )
