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
        "index",
        description="Whether it comes from the package index, from the OS's packages, or is built on the server.",
    )
    version: Annotated[str, text.version("2.0.31")] | None = Field(None, description="Version to install.")
    prefix: text.Prefix = Field(
        "/usr/local/uwsgi",
        description="A build from source is installed in <prefix>-<version>; <prefix> becomes a link to it.",
    )
    config: Literal["ini", "command_line"] = Field(
        "ini", description="Whether the options are in an ini file or on the command line."
    )
    socket: text.Listen | None = Field(
        None, description="uWSGI's own protocol: unix (the default) or an address and port such as 127.0.0.1:8080."
    )
    http_socket: text.Listen | None = Field(
        None, description="HTTP instead of uWSGI's protocol, for proxy_pass: unix, or an address and port."
    )
    http: text.HostPort | None = Field(
        None, description="HTTP by uWSGI's router process, for direct access: an address and port."
    )
    chmod_socket: text.Mode = Field(
        "660", description="Mode of the unix socket; with 600, nginx.user must be the socket's owner."
    )
    pythonpath: tuple[text.InsidePath, ...] = Field((), description="Folders of the application to import from.")
    processes: Literal["auto"] | Count = Field(
        "auto", description="Worker processes; auto: one per CPU of the machine."
    )
    threads: Count = Field(1, description="Threads per process; more than one costs CPU per request.")
    enable_threads: bool = Field(False, description="Let the application start threads of its own.")
    lazy_apps: bool = Field(
        False,
        description="Import the application in each process instead of once: threads that it starts while it is "
        "imported, and connections that it opens, do not reach the processes otherwise.",
    )
    thunder_lock: bool = Field(False, description="Let one process at a time wait for a request.")
    cheaper: Count | None = Field(None, description="Least number of worker processes when there is little load.")
    # uWSGI does not start with more than net.core.somaxconn, which the bootstrap sets.
    listen: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="Length of the queue of connections; auto: what the kernel allows (somaxconn)."
    )
    buffer_size: int = Field(
        32768,
        ge=4096,
        le=65535,
        description="Largest size of the request headers in bytes; the default accepts everything that nginx accepts.",
    )
    harakiri: Literal["auto"] | Seconds | None = Field(
        "auto",
        description="Kill a worker whose request takes more than this many seconds, and log where it hangs. auto: "
        "whose request gives no sign of life (a part of its answer) for as long as nginx waits for it; null: never.",
    )
    max_requests: int | None = Field(None, ge=1, description="Replace a worker after this many requests.")
    reload_on_rss: int | None = Field(None, ge=16, description="Replace a worker above this much memory, MiB.")
    vacuum: bool = Field(
        True,
        description="Remove the socket and the pidfile when uWSGI stops, if uwsgi.stats is a port. Otherwise the "
        "release tool removes them, because uWSGI would remove the statistics' socket even if another process has it "
        "now.",
    )
    pidfile: bool = Field(False, description="Write the master's process id into /run/wsgi-ecs/<site>/<slot>.pid.")
    uid: text.User | None = Field(None, description="User that the server runs as; none: the site's own user.")
    gid: text.User | None = Field(
        None, description="Group that the server runs as, with systemd; none: the user's own group."
    )
    stats: Literal["auto"] | AppPort = Field(
        "auto",
        description="Where uWSGI tells its statistics. auto: a unix socket that only the site and nginx reach. A port "
        "on loopback tells every user of the server; releases alternate between it and the next port.",
    )
    stats_http: bool = Field(False, description="Serve the statistics over HTTP.")
    static_map: dict[text.Location, text.InsidePath] = Field(
        default_factory=dict, description="URL path to folder of the application that uWSGI serves itself."
    )
    logto: bool = Field(False, description="uWSGI writes its log itself, instead of the process manager.")
    daemonize: bool = Field(
        False, description="Run in the background; only systemd can manage this, with a forking unit."
    )
    dynamic: bool = Field(
        False, description="Load the application that nginx names by uwsgi_param (UWSGI_CHDIR, UWSGI_SCRIPT, …)."
    )
