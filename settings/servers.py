"""The servers' own settings: directives under the names that their manuals use, in snake_case."""

from typing import Annotated, Literal

from pydantic import Field

from settings import text
from settings.base import Cidrs, Count, Model, Seconds

# Where uWSGI's statistics are when nobody chose: enough for two releases of every site of a machine.
STATS_PORTS = range(9191, 9291)
Port = Annotated[int, Field(ge=1, le=65535)]
# Below 1024 a port is root's, and no application server runs as root.
AppPort = Annotated[int, Field(ge=1024, le=65534)]


class Serving(Model):
    """Which servers stand on the machine."""

    app_server: Literal["uwsgi", "gunicorn"] = Field("uwsgi", description="What runs the application.")
    process_manager: Literal["supervisor", "systemd", "emperor"] = Field(
        "supervisor", description="What starts the application server and starts it again; emperor is uWSGI's own."
    )
    front: Literal["nginx", "none"] = Field("nginx", description="What the world talks to; none: the app server.")


class _FromSource(Model):
    """Where a server that is built on the machine comes from, and where it goes."""

    version: text.Version | None = Field(None, description="Version to install.")
    archive: text.Archive | None = Field(
        None, description="Its sources: a file here, which travels with the release, or a URL; for install: source."
    )
    sha256: text.Sha256 | None = Field(None, description="SHA-256 of the archive; another one is refused.")

    @property
    def is_remote(self) -> bool:
        """Whether the server downloads the archive itself."""
        return "://" in (self.archive or "")


class Uwsgi(_FromSource):
    """https://uwsgi-docs.readthedocs.io/en/latest/Options.html"""

    install: Literal["index", "os", "source"] = Field(
        "index", description="From the package index, the OS's packages, or built on the server."
    )
    prefix: text.Prefix = Field(
        "/usr/local/uwsgi", description="Link to <prefix>-<version>, where the one from source is installed."
    )
    config: Literal["ini", "command_line"] = Field("ini", description="Where its options stand.")
    socket: text.Listen | None = Field(
        None, description="uWSGI's own protocol: unix (the default) or an address and port such as 127.0.0.1:8080."
    )
    http_socket: text.Listen | None = Field(
        None, description="HTTP instead of uWSGI's protocol, for proxy_pass: unix, or an address and port."
    )
    http: text.HostPort | None = Field(
        None, description="HTTP by uWSGI's router process, to be reached directly: an address and port."
    )
    chmod_socket: text.Mode = Field("660", description="Mode of the unix socket; 600 wants nginx.user to be its owner.")
    pythonpath: tuple[text.InsidePath, ...] = Field((), description="Folders of the application to import from.")
    processes: Literal["auto"] | Count = Field(
        "auto", description="Worker processes; auto: one per CPU of the machine."
    )
    threads: Count = Field(1, description="Threads per process; more than one costs CPU per request.")
    enable_threads: bool = Field(False, description="Let the application start threads of its own.")
    thunder_lock: bool = Field(False, description="Let one process at a time wait for a request.")
    cheaper: Count | None = Field(None, description="Processes kept when there is little to do.")
    # uWSGI does not start with more than net.core.somaxconn, which the bootstrap sets.
    listen: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="Length of the queue of connections; auto: what the kernel allows (somaxconn)."
    )
    buffer_size: int = Field(
        32768, ge=4096, le=65535, description="Bytes of request headers; the default takes what nginx takes."
    )
    harakiri: Seconds | None = Field(None, description="Kill a request after this many seconds.")
    max_requests: int | None = Field(None, ge=1, description="Replace a worker after this many requests.")
    reload_on_rss: int | None = Field(None, ge=16, description="Replace a worker above this much memory, MiB.")
    vacuum: bool = Field(True, description="Remove the socket and the pidfile at the end.")
    pidfile: bool = Field(False, description="Write the master's process id into /run/wsgi-ecs/<site>/<slot>.pid.")
    uid: text.User | None = Field(None, description="User that it runs as; none: one of the site's own.")
    gid: text.User | None = Field(None, description="Group that it runs as, with systemd; none: the user's.")
    stats: Literal["auto"] | AppPort = Field(
        "auto",
        description="Port of the statistics on loopback, in turn with the next one; auto: a free one from 9191 on.",
    )
    stats_http: bool = Field(False, description="Give the statistics over HTTP.")
    static_map: dict[text.Location, text.InsidePath] = Field(
        default_factory=dict, description="URL path to folder of the application that uWSGI serves itself."
    )
    logto: bool = Field(False, description="Let uWSGI write its log itself, rather than the process manager.")
    daemonize: bool = Field(False, description="Go into the background: a forking unit of systemd alone can follow.")
    dynamic: bool = Field(
        False, description="Load the application that nginx names by uwsgi_param (UWSGI_CHDIR, UWSGI_SCRIPT, …)."
    )


class Gunicorn(Model):
    """https://docs.gunicorn.org/en/stable/settings.html"""

    bind: text.Listen | None = Field(
        None, description="unix (the default), or an address and port such as 127.0.0.1:8000."
    )
    worker_class: Literal["sync", "gthread", "gevent"] = Field("sync", description="Kind of worker.")
    workers: Literal["auto"] | Count = Field("auto", description="Workers; auto: 2 × CPUs of the machine + 1.")
    threads: Count = Field(1, description="Threads of a gthread worker.")
    worker_connections: int | None = Field(None, ge=1, le=65535, description="Clients of a gevent worker at once.")
    backlog: int = Field(2048, ge=64, le=65535, description="Length of the queue of connections.")
    timeout: Seconds = Field(30, description="Seconds after which a silent worker is killed.")
    graceful_timeout: Seconds | None = Field(
        None,
        description="Seconds a stopping worker may take to finish its requests; none: one less than its manager's.",
    )
    keepalive: int = Field(2, ge=0, le=3600, description="Seconds to wait for the next request of a connection.")
    max_requests: int = Field(0, ge=0, description="Replace a worker after this many requests; 0: never.")
    max_requests_jitter: int = Field(0, ge=0, description="At most this much is added to max_requests at random.")
    loglevel: Literal["debug", "info", "warning", "error", "critical"] = Field("info", description="What is logged.")
    accesslog: bool = Field(False, description="Log each request, which nginx does already.")
    pidfile: bool = Field(False, description="Write the master's process id into /run/wsgi-ecs/<site>/<slot>.pid.")
    user: text.User | None = Field(None, description="User that it runs as; none: one of the site's own.")
    group: text.User | None = Field(None, description="Group that it runs as, with systemd; none: the user's.")


class LimitReq(Model):
    """https://nginx.org/en/docs/http/ngx_http_limit_req_module.html"""

    rate: text.Rate = Field("10r/s", description="Requests of one client, such as 10r/s or 30r/m; more get 429.")
    burst: int = Field(20, ge=0, le=100000, description="Requests above the rate that a client may make at once.")
    nodelay: bool = Field(True, description="Answer a burst at once, rather than at the rate.")


class Cache(Model):
    """https://nginx.org/en/docs/http/ngx_http_uwsgi_module.html#uwsgi_cache"""

    valid: Seconds = Field(5, description="Seconds that an answer is given again, unless its Cache-Control says.")
    max_size: text.Size = Field("100m", description="Largest size on disk.")
    bypass_cookies: tuple[text.Cookie, ...] = Field(
        (), description="Cookies that lead past the cache; none named: any cookie does."
    )
    bypass_header: text.HeaderName | None = Field(None, description="Request header that leads past it too.")


Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Sent with every answer of a site, unless its application sends one of that name itself.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}


class Upstream(Model):
    """https://nginx.org/en/docs/http/ngx_http_upstream_module.html"""

    method: Literal["round_robin", "least_conn", "ip_hash"] = Field(
        "round_robin", description="Which app server gets a request: each in turn, the least busy, one per client."
    )
    weights: dict[text.AppServer, Annotated[int, Field(ge=1, le=100)]] = Field(
        default_factory=dict, description="App server, such as app-1, to its share of the requests; the others have 1."
    )
    keepalive: int = Field(
        0, ge=0, le=1024, description="Idle connections kept to gthread and gevent workers, per worker of nginx."
    )
    max_fails: int = Field(1, ge=1, le=100, description="Failures after which an app server is left out for a while.")
    fail_timeout: Annotated[int, Field(ge=1, le=60)] = Field(5, description="Seconds that it is left out.")
    connect_timeout: Annotated[int, Field(ge=1, le=60)] = Field(
        2, description="Seconds to wait for an app server that does not even refuse."
    )


class Nginx(_FromSource):
    """https://nginx.org/en/docs/dirindex.html"""

    install: Literal["os", "source"] = Field("os", description="From the OS's packages, or built on the server.")
    prefix: text.Prefix = Field(
        "/usr/local/nginx", description="Link to <prefix>-<version>, where the one from source is installed."
    )
    listen: Port = Field(80, description="Port of the site; the security group opens it.")
    user: text.User | None = Field(None, description="User of the workers; none: the package's own.")
    charset: text.Charset = Field("utf-8", description="Charset of text answers, or off.")
    client_max_body_size: text.Size = Field("16m", description="Largest request body.")
    keepalive_timeout: int = Field(65, ge=0, le=3600, description="Seconds an idle connection stays open.")
    client_header_timeout: Seconds = Field(20, description="Seconds in which a request's headers must be here.")
    client_body_timeout: Seconds = Field(30, description="Seconds between two reads of a request's body.")
    send_timeout: Seconds = Field(30, description="Seconds between two writes to a client.")
    reset_timedout_connection: bool = Field(True, description="Forget at once what a client that is late has left.")
    uwsgi_read_timeout: Seconds = Field(60, description="Seconds between two reads from a uWSGI socket.")
    proxy_read_timeout: Seconds = Field(60, description="Seconds between two reads from an HTTP app server.")
    upstream: Upstream = Field(Upstream(), description="How requests are shared among several app servers.")
    static: dict[text.Location, text.InsidePath] = Field(
        default_factory=lambda: {"/static/": "static"},
        description="URL path below site.location to folder of the application that nginx serves itself.",
    )
    static_expires: text.Expires = Field("1h", description="How long a browser keeps a static file without asking.")
    static_immutable: bool = Field(False, description="No reload asks either: for files whose names have versions.")
    gzip: bool = Field(True, description="Compress answers; of static files an existing .gz is sent in any case.")
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
    gzip_min_length: int = Field(1024, ge=0, le=1048576, description="Bytes from which compression begins.")
    gzip_comp_level: int = Field(5, ge=1, le=9, description="1 is the fastest, 9 the smallest.")
    buffering: bool = Field(True, description="Take an answer from the app server at once, however slow the client is.")
    request_buffering: bool = Field(True, description="Take a whole request before the app server gets it.")
    error_page: dict[Annotated[int, Field(ge=400, le=599)], text.InsidePath] = Field(
        default_factory=dict, description="Status to file of the application that is sent in place of nginx's page."
    )
    intercept_errors: bool = Field(False, description="error_page also in place of what the application answers.")
    cache: Cache | None = Field(None, description="Give answers of the application again for a while.")
    limit_req: LimitReq | None = Field(None, description="Requests that one client may make; none: any number.")
    limit_conn: Count | None = Field(None, description="Requests that one client may have under way at once.")
    set_real_ip_from: Cidrs = Field(
        (),
        description="Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, IPv4 CIDRs; nobody else's are.",
    )
    allow: Cidrs = Field((), description="Who may reach the site, IPv4 CIDRs; all others get 403.")
    deny: Cidrs = Field((), description="Who may not, IPv4 CIDRs, before nginx.allow.")
    auth_basic: text.Realm | None = Field(None, description="What the browser says the password is for.")
    auth_basic_users: dict[text.WebUser, text.PasswordHash] = Field(
        default_factory=dict, description="User to hash of the password, as `openssl passwd -6` prints it. Secret."
    )
    add_header: dict[text.AddedHeader, text.HeaderValue | None] = Field(
        default_factory=dict,
        description="Header to value of every answer that has none from the application; null drops a default: "
        + ", ".join(HEADERS),
    )
    hide_header: tuple[text.HeaderName, ...] = Field(
        ("X-Powered-By", "Server"), description="Headers of the application that do not go out."
    )
    methods: tuple[Method, ...] = Field(
        (), description="Methods that the application gets, GET with HEAD; others get 405; none named: all."
    )
    extra: text.Directives | None = Field(
        None, description="Directives as they are for the site's server block, beside its location."
    )

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


class Supervisor(Model):
    """http://supervisord.org/configuration.html#program-x-section-settings"""

    startsecs: int = Field(1, ge=0, le=600, description="Seconds a program must run to count as started.")
    startretries: int = Field(
        100_000,
        ge=0,
        le=1_000_000,
        description="Starts that may fail before supervisor gives up for good (FATAL). Each retry waits a second "
        "longer than the one before, so the default never gives up.",
    )
    stopwaitsecs: int = Field(
        30, ge=2, le=3600, description="Seconds a stopping program may take to finish its requests."
    )


class Systemd(Model):
    """https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"""

    restart_sec: int = Field(1, ge=0, le=600, description="Seconds before a program that ended is started again.")
    timeout_stop_sec: int = Field(
        30, ge=2, le=3600, description="Seconds a stopping program may take to finish its requests."
    )
