"""What a user may say of uWSGI, under the names of its own options."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kinds.app_servers.base import AppServer
from schema import text
from schema.base import AppPort, Count, Seconds
from schema.from_source import FromSource


class UwsgiSettings(FromSource, AppServer):
    """https://uwsgi-docs.readthedocs.io/en/latest/Options.html"""

    key: ClassVar[str] = "uwsgi"
    direct_example: ClassVar[str] = "uwsgi.http such as 0.0.0.0:8080"
    group_key: ClassVar[str] = "uwsgi.gid"
    loads_files: ClassVar[bool] = True

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
