"""The servers' own settings: directives under the names that their manuals use, in snake_case."""

from typing import Annotated, Literal

from pydantic import Field

from settings import text
from settings.base import Count, Model, Seconds

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

    bind: text.Listen = Field("unix", description="unix, or an address and port such as 127.0.0.1:8000.")
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
    uwsgi_read_timeout: Seconds = Field(60, description="Seconds between two reads from a uWSGI socket.")
    proxy_read_timeout: Seconds = Field(60, description="Seconds between two reads from an HTTP app server.")
    static: dict[text.Location, text.InsidePath] = Field(
        default_factory=lambda: {"/static/": "static"},
        description="URL path below site.location to folder of the application that nginx serves itself.",
    )


class Supervisor(Model):
    """http://supervisord.org/configuration.html#program-x-section-settings"""

    startsecs: int = Field(1, ge=0, le=600, description="Seconds a program must run to count as started.")
    startretries: int = Field(3, ge=0, le=100, description="Starts that may fail before giving up.")
    stopwaitsecs: int = Field(
        30, ge=2, le=3600, description="Seconds a stopping program may take to finish its requests."
    )


class Systemd(Model):
    """https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"""

    restart_sec: int = Field(1, ge=0, le=600, description="Seconds before a program that ended is started again.")
    timeout_stop_sec: int = Field(
        30, ge=2, le=3600, description="Seconds a stopping program may take to finish its requests."
    )
