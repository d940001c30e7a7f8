"""nginx in front of the application: its settings, and the rules between them."""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, collapse_addresses
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kinds.app_servers import AppServer
from schema import http, text
from schema.base import Cidrs, Count, Port, Rule, Seconds
from schema.from_source import FromSource
from settings.nginx_parts import Cache, LimitReq, Maintenance, Upstream

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Sent with every answer of a site, unless its application sends one of that name itself.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}


_LOOPBACK = IPv4Network("127.0.0.0/8")


class Nginx(FromSource):
    """https://nginx.org/en/docs/dirindex.html"""

    key: ClassVar[str] = "nginx"

    install: Literal["os", "source"] = Field(
        "os", description="Whether it comes from the OS's packages or is built on the server."
    )
    version: Annotated[str, text.version("1.22.1")] | None = Field(None, description="Version to install.")
    prefix: text.Prefix = Field(
        "/usr/local/nginx",
        description="A build from source is installed in <prefix>-<version>; <prefix> becomes a link to it.",
    )
    listen: Port = Field(80, description="Port of the site; the security group opens it.")
    user: text.User | None = Field(None, description="User of the workers; none: the package's own.")
    charset: text.Charset = Field("utf-8", description="Charset of text responses, or off.")
    client_max_body_size: text.Size = Field("16m", description="Largest request body.")
    keepalive_timeout: int = Field(65, ge=0, le=3600, description="Seconds an idle connection stays open.")
    client_header_timeout: Seconds = Field(20, description="Seconds within which a request's headers must arrive.")
    large_client_header_buffers: text.HeaderBuffers = Field(
        "4 8k",
        description="Number and size of the buffers for a request's headers, of all sites of a server; the app servers "
        "accept what fits.",
    )
    client_body_timeout: Seconds = Field(30, description="Seconds between two reads of a request's body.")
    send_timeout: Seconds = Field(30, description="Seconds between two writes to a client.")
    reset_timedout_connection: bool = Field(True, description="Free the memory of a timed-out connection at once.")
    uwsgi_read_timeout: Seconds = Field(60, description="Seconds between two reads from a uWSGI socket.")
    proxy_read_timeout: Seconds = Field(60, description="Seconds between two reads from an HTTP app server.")
    websocket: tuple[text.StaticLocation, ...] = Field(
        (),
        description="URL paths below site.location for WebSockets and server-sent events: nothing is buffered, and a "
        "connection may be silent for an hour.",
    )
    upstream: Upstream = Field(Upstream(), description="How requests are shared among several app servers.")
    static: dict[text.StaticLocation, text.InsidePath] = Field(
        default_factory=lambda: {"/static/": "static"},
        description="URL path below site.location to folder or file of the application that nginx serves itself; a "
        "folder's path ends in /. Unless it is set, the folder is Flask's static folder, Django's STATIC_ROOT, or "
        "static.",
    )
    static_expires: text.Expires = Field(
        "1h", description="How long a browser uses a static file without revalidating it."
    )
    static_immutable: bool = Field(
        False, description="Browsers do not revalidate static files even on reload; use it for versioned file names."
    )
    gzip: bool = Field(True, description="Compress responses; an existing .gz of a static file is sent in any case.")
    gzip_types: tuple[text.MimeType, ...] = Field(
        (
            "text/css",
            "text/csv",
            "text/javascript",
            "text/plain",
            "text/xml",
            "application/javascript",
            "application/json",
            "application/xml",
            "application/rss+xml",
            "image/svg+xml",
        ),
        description="Media types that are compressed, beside text/html.",
    )
    gzip_min_length: int = Field(1024, ge=0, le=1048576, description="Smallest response that is compressed, in bytes.")
    gzip_comp_level: int = Field(
        5, ge=1, le=9, description="Compression level: 1 is the fastest, 9 gives the smallest responses."
    )
    buffering: bool = Field(
        True, description="Read a response from the app server at once, however slow the client is."
    )
    request_buffering: bool = Field(True, description="Read a whole request before it is passed to the app server.")
    error_page: dict[Annotated[int, Field(ge=400, le=599)], text.InsidePath] = Field(
        default_factory=dict,
        description="Status to file of the application that nginx sends instead of its own error page.",
    )
    intercept_errors: bool = Field(
        False, description="Use nginx.error_page for error responses of the application, too."
    )
    access_log_format: Literal["combined", "json"] = Field(
        "combined",
        description="Lines of access.log: nginx's combined format, or JSON with times and release.",
    )
    maintenance: Maintenance = Field(Maintenance(), description="Close the site for a while with 503 and a page.")
    cache: Cache | None = Field(None, description="Cache responses of the application; none: no cache.")
    limit_req: LimitReq | None = Field(None, description="Request rate of one client; none: unlimited.")
    max_conns: Literal["auto"] | Annotated[int, Field(ge=1, le=65535)] | None = Field(
        "auto",
        description="Requests that each worker of nginx (one per CPU) has with an app server at once, waiting ones "
        "included; more get 503 with Retry-After at once. auto: 1024 for each thread of a worker, and no limit for "
        "gevent and ASGI; null: no limit.",
    )
    pools: dict[text.StaticLocation, Count] = Field(
        default_factory=dict,
        description="URL path below site.location to the requests for it that each worker of nginx (one per CPU) has "
        "with an app server at once; more get 503 with Retry-After at once. Pages that are slow leave the other "
        "workers of the app server to all others.",
    )
    limit_conn: Count | None = Field(None, description="Simultaneous requests of one client; none: unlimited.")
    set_real_ip_from: Cidrs = Field(
        (),
        description="Proxies, as IPv4 CIDRs, whose X-Forwarded-For and X-Forwarded-Proto are trusted; "
        "those of other clients are ignored.",
    )
    allow: Cidrs = Field((), description="IPv4 CIDRs that may reach the site; all others get 403.")
    deny: Cidrs = Field((), description="IPv4 CIDRs that may not reach the site; it is checked before nginx.allow.")
    auth_basic: http.Realm | None = Field(
        None, description="Name of the protected area, which the browser shows when it asks for the password."
    )
    auth_basic_users: dict[http.WebUser, http.PasswordHash] = Field(
        default_factory=dict, description="User to hash of the password, as `openssl passwd -6` prints it. Secret."
    )
    add_header: dict[http.AddedHeader, http.HeaderValue | None] = Field(
        default_factory=dict,
        description="Header to its value in every response in which the application has not set it; "
        "null removes a default: " + ", ".join(HEADERS),
    )
    hide_header: tuple[http.HeaderName, ...] = Field(
        ("X-Powered-By", "Server"), description="Headers of the application that are removed from its responses."
    )
    methods: tuple[Method, ...] = Field(
        (),
        description="Methods that reach the application (GET includes HEAD); others get 405. None named: all methods.",
    )
    extra: text.Directives | None = Field(
        None, description="Raw directives for the site's server block, beside its location."
    )

    def read_timeout(self, speaks_http: bool) -> int:
        """Seconds between two reads from an app server of that protocol."""
        return self.proxy_read_timeout if speaks_http else self.uwsgi_read_timeout

    @property
    def built_version(self) -> tuple[int, ...]:
        """The version of nginx that is built here; the OS's is older than any that matters."""
        return tuple(map(int, re.findall("[0-9]+", self.version or "0")))

    @property
    def counts_requests(self) -> bool:
        """Whether it limits the requests that it passes on: older versions do so in the commercial one alone."""
        return self.install == "os" or self.built_version >= (1, 11, 5)

    @property
    def header_buffers(self) -> tuple[int, int]:
        """Number and bytes of the buffers for a request's headers."""
        number, _, size = self.large_client_header_buffers.partition(" ")
        return int(number), int(size.removesuffix("k")) * 1024

    @property
    def headers(self) -> dict[str, str]:
        """add_header over its defaults, whatever the case of their names."""
        own = {name.lower() for name in self.add_header}
        kept = {name: value for name, value in HEADERS.items() if name.lower() not in own}
        return {**kept, **{name: value for name, value in self.add_header.items() if value is not None}}

    @property
    def known_methods(self) -> tuple[str, ...]:
        """methods, and HEAD where there is GET."""
        return tuple(
            dict.fromkeys(name for one in self.methods for name in ((one, "HEAD") if one == "GET" else (one,)))
        )

    @property
    def pages(self) -> dict[str, str]:
        """Setting to the file of the application that it names as a page."""
        found = {f"nginx.error_page.{status}": page for status, page in self.error_page.items()}
        page = self.maintenance.page
        return {**found, **({"nginx.maintenance.page": page} if page else {})}

    @property
    def guards_health(self) -> bool:
        """Whether nginx keeps something from the site that the probe of a release must get past."""
        return bool(self.auth_basic or self.allow or self.deny or self.cache)

    def rules(self, server: AppServer, health: str) -> Iterator[Rule]:
        """Yield the rules of a site's part. server: the application server behind it. health: path of the probe."""
        for key, other, is_unused, protocol in (
            ("uwsgi_read_timeout", "proxy_read_timeout", server.speaks_http, "HTTP"),
            ("proxy_read_timeout", "uwsgi_read_timeout", not server.speaks_http, "uWSGI's own protocol"),
        ):
            unread = is_unused and key in self.model_fields_set
            yield f"nginx.{key}", unread, f"the app server speaks {protocol}", f"nginx.{other}"
        yield from self._connection_rules(server, health)
        yield from self._access_rules(health)
        path = health.partition("?")[0]
        yield f"nginx.static.{path}", path in self.static, "app.health is there", "another URL path"
        yield from self._answer_rules()
        yield from self.maintenance.rules()
        yield from self._header_rules()

    def _connection_rules(self, server: AppServer, health: str) -> Iterator[Rule]:
        yield (
            "nginx.websocket",
            bool(self.websocket and server.no_websocket),
            server.no_websocket,
            "serving.app_server: gunicorn with gunicorn.worker_class: gthread or gevent; server-sent events need only "
            "the header X-Accel-Buffering: no in their answer",
        )
        for path in self.websocket:
            yield "nginx.websocket", path in self.static, f"{path} is in nginx.static", "one of them"
            yield "nginx.websocket", self.websocket.count(path) > 1, f"{path} stands there twice", "each path once"
        yield "nginx.pools", bool(self.pools) and not self.counts_requests, f"nginx {self.version}", "1.11.5 or newer"
        for path in self.pools:
            yield "nginx.pools", path in self.static, f"{path} is in nginx.static", "one of them"
            yield "nginx.pools", path in self.websocket, f"{path} is in nginx.websocket", "one of them"
            probed = health.partition("?")[0]
            is_health = path == probed if self.guards_health else probed.startswith(path)
            yield "nginx.pools", is_health, f"app.health ({probed}) is there, and must not wait", "another path"
        number, size = self.header_buffers
        yield (
            "nginx.large_client_header_buffers",
            number * size > 65536 and server.key == "uwsgi",
            f"{number} times {size // 1024}k is more than the 64k of uWSGI",
            "64k in all, or another serving.app_server",
        )

    def _access_rules(self, health: str) -> Iterator[Rule]:
        yield (
            "nginx.auth_basic",
            self.auth_basic is None and bool(self.auth_basic_users),
            "required with nginx.auth_basic_users",
            "what the password is for, such as Staff",
        )
        yield (
            "nginx.auth_basic_users",
            self.auth_basic is not None and not self.auth_basic_users,
            "required with nginx.auth_basic, or nobody gets in",
            "user to hash of the password",
        )
        yield (
            "nginx.cache",
            self.cache is not None and self.auth_basic is not None,
            "an answer to somebody with a password is nobody else's",
            "one of nginx.cache and nginx.auth_basic",
        )
        yield (
            "nginx.cache",
            self.cache is not None and not self.buffering,
            "what is not buffered cannot be kept",
            "nginx.buffering: true",
        )
        without_get = bool(self.methods) and "GET" not in self.methods
        yield "nginx.methods", without_get, "app.health is asked by GET", "GET and others"
        yield (
            "app.health",
            "%" in health and self.guards_health,
            "what nginx.auth_basic, allow, deny and cache leave out is a plain path",
            "one without %",
        )

    def _answer_rules(self) -> Iterator[Rule]:
        given = self.model_fields_set
        for key in ("gzip_types", "gzip_min_length", "gzip_comp_level"):
            is_unused = key in given and not self.gzip
            yield f"nginx.{key}", is_unused, "set, but nginx.gzip is false", "nginx.gzip: true"
        for key in ("static_expires", "static_immutable"):
            is_unused = key in given and not self.static
            yield f"nginx.{key}", is_unused, "set, but nginx.static is empty", "folders in it"
        yield (
            "nginx.static_immutable",
            self.static_immutable and self.static_expires in ("off", "epoch"),
            f"nginx.static_expires is {self.static_expires}",
            "a time such as 365d, or max",
        )
        yield (
            "nginx.intercept_errors",
            self.intercept_errors and not self.error_page,
            "there is no page to send instead",
            "nginx.error_page with one",
        )
        yield "nginx.error_page", 499 in self.error_page, "499 is for clients that have gone", "any other status"

    def _header_rules(self) -> Iterator[Rule]:
        names = [name.lower() for name in self.add_header]
        both = self.cache is not None and "x-cache" in names
        yield "nginx.add_header", both, "nginx.cache sends X-Cache already", "one of them, or no nginx.cache"
        for name in self.add_header:
            yield "nginx.add_header", names.count(name.lower()) > 1, f"{name} stands there twice", "each header once"

    def reach_rules(self, reached_from: Sequence[str]) -> Iterator[Rule]:
        """Yield the rules between nginx's own lists and the networks that reach it, access.http."""
        denied, allowed, trusted = (
            tuple(map(IPv4Network, cidrs)) for cidrs in (self.deny, self.allow, self.set_real_ip_from)
        )
        # Merge adjacent networks: two halves deny the whole network.
        denied = tuple(collapse_addresses(denied))
        yield (
            "nginx.deny",
            any(network.prefixlen == 0 for network in denied),
            "it shuts everybody out",
            "nginx.allow alone, which denies all others",
        )
        for mine in allowed:
            for other in denied:
                reason = f"{mine} lies in nginx.deny's {other}, which goes before"
                yield "nginx.allow", mine.subnet_of(other), reason, "what it leaves"
        # The client behind a proxy has another address than the proxy, which is what access.http lets in.
        reached = () if trusted else tuple(map(IPv4Network, reached_from))
        yield (
            "nginx.deny",
            bool(reached) and all(any(network.subnet_of(other) for other in denied) for network in reached),
            "it shuts out all that access.http lets in",
            "a part of that, or nginx.allow alone",
        )
        for mine in allowed:
            yield (
                "nginx.allow",
                not trusted and not mine.overlaps(_LOOPBACK) and not any(map(mine.overlaps, reached)),
                f"access.http lets nobody from {mine} in",
                "networks that access.http has, too",
            )
        for network in trusted:
            yield (
                "nginx.set_real_ip_from",
                network.overlaps(_LOOPBACK),
                f"{network} holds the machine itself, whose probe is let through",
                "the proxies' own networks",
            )
