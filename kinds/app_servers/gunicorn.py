"""gunicorn: https://docs.gunicorn.org/en/stable/settings.html"""

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import Field

from kinds.app_servers.base import HttpServer, Process, Surroundings
from kinds.behind_nginx import BEHIND_NGINX
from kinds.systems import System
from schema import text
from schema.base import Count, Rule, Seconds
from templates import render

# The last releases that run on Python 3.6. gunicorn's gevent worker imports packaging.
_PYTHON_36 = (
    "gunicorn==21.2.0", "packaging==21.3", "pyparsing==3.0.7",
    "importlib-metadata==4.8.3", "typing-extensions==4.1.1", "zipp==3.6.0",
)  # fmt: skip
_PYTHON_36_GEVENT = ("gevent==22.10.2", "greenlet==2.0.2", "zope.event==4.6", "zope.interface==5.5.2")
_PINS = ("gunicorn==23.0.0", "packaging==25.0")
_GEVENT = ("gevent==25.9.1", "greenlet==3.2.4", "zope.event==6.0", "zope.interface==8.0.1")


class Gunicorn(HttpServer):
    """https://docs.gunicorn.org/en/stable/settings.html"""

    key: ClassVar[str] = "gunicorn"
    direct_example: ClassVar[str] = "gunicorn.bind such as 0.0.0.0:8000"
    group_key: ClassVar[str] = "gunicorn.group"

    bind: text.Listen | None = Field(
        None, description="unix (the default), or an address and port such as 127.0.0.1:8000."
    )
    worker_class: Literal["sync", "gthread", "gevent"] = Field("sync", description="Type of worker.")
    workers: Literal["auto"] | Count = Field("auto", description="Workers; auto: 2 × CPUs of the machine + 1.")
    threads: Count = Field(1, description="Threads of a gthread worker.")
    worker_connections: int | None = Field(None, ge=1, le=65535, description="Simultaneous clients of a gevent worker.")
    backlog: int = Field(2048, ge=64, le=65535, description="Length of the queue of connections.")
    timeout: Seconds = Field(30, description="Seconds after which a silent worker is killed.")
    graceful_timeout: Seconds | None = Field(
        None,
        description="Seconds a stopping worker may take to finish its requests; none: one less than its manager's.",
    )
    keepalive: int = Field(2, ge=0, le=3600, description="Seconds to wait for the next request of a connection.")
    max_requests: int = Field(0, ge=0, description="Replace a worker after this many requests; 0: never.")
    max_requests_jitter: int = Field(0, ge=0, description="Largest random number that is added to max_requests.")
    loglevel: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "info", description="Least severe messages that are logged."
    )
    accesslog: bool = Field(False, description="Log each request; nginx logs requests already.")
    pidfile: bool = Field(False, description="Write the master's process id into /run/wsgi-ecs/<site>/<slot>.pid.")
    user: text.User | None = Field(None, description="User that the server runs as; none: the site's own user.")
    group: text.User | None = Field(
        None, description="Group that the server runs as, with systemd; none: the user's own group."
    )

    @property
    def keepalive_seconds(self) -> int | None:
        return self.keepalive

    @property
    def closes_connections(self) -> str:
        if self.worker_class == "sync":
            return "a sync worker closes each connection"
        return "gunicorn.keepalive is 0, so it closes each connection" if self.keepalive == 0 else ""

    @property
    def no_websocket(self) -> str:
        return "" if self.worker_class != "sync" else "a sync worker of gunicorn serves one request at a time"

    def for_builtin_page(self, keeps_user: bool) -> Self:
        # A sync worker is enough, and the hashes of what gevent needs would be bytes of user data.
        plain = {"worker_class": "sync", "threads": 1, "worker_connections": None}
        return super().for_builtin_page(keeps_user).model_copy(update=plain)

    def process(self, around: Surroundings) -> Process:
        """gunicorn with its gconf.py."""
        where, ports = self.http_endpoint(around)
        text = render(
            "templates/gunicorn/gconf.py.j2",
            gunicorn=self,
            bind=where.address,
            is_apart=around.is_apart,
            shares_port=self.shares_port(around),
            pidfile=around.place.pidfile,
            start_seconds=around.app.start_seconds,
            is_slow=around.app.start_seconds > self.timeout,
            graceful_timeout=self.graceful_timeout or around.stop_seconds - 1,
            # gunicorn reads the site's location from SCRIPT_NAME.
            script_name=around.site.prefix,
            pythonpath=around.app.pythonpath,
            header_buffers=around.header_buffers,
            wrapper=BEHIND_NGINX if around.behind_nginx and not around.is_page else "",
            reads_bodies=around.behind_nginx and around.request_buffering and not around.is_page,
        )
        target = f"{around.app.module}:{around.app.callable}"
        return Process(
            name=self.key,
            configs={"gconf.py": text},
            command=("@@venv@@/bin/gunicorn", "--config", "@@slot_dir@@/gconf.py", target),
            pins=self.pins(around.system),
            endpoint=where,
            ports=ports,
            group=self.group,
            computed="@@workers@@ workers: 2 × @@cpus@@ CPUs + 1" if self.workers == "auto" else "",
        )

    def pins(self, system: System) -> tuple[str, ...]:
        pins, gevent = (_PINS, _GEVENT) if system.python_version > (3, 6) else (_PYTHON_36, _PYTHON_36_GEVENT)
        return pins + (gevent if self.worker_class == "gevent" else ())

    def rules(self, around: Surroundings) -> Iterator[Rule]:
        gevent = "gunicorn.worker_class: gevent"
        yield (
            "gunicorn.threads",
            self.threads > 1 and self.worker_class != "gthread",
            f"a {self.worker_class} worker has no threads",
            "gunicorn.worker_class: gthread",
        )
        yield (
            "gunicorn.worker_connections",
            self.worker_connections is not None and self.worker_class == "sync",
            "a sync worker does not read it",
            gevent,
        )
        yield (
            "gunicorn.worker_connections",
            self.worker_connections is not None and self.worker_class == "gthread",
            "a gthread worker that has so many answers none of them",
            gevent,
        )
        yield (
            "gunicorn.keepalive",
            "keepalive" in self.model_fields_set and self.worker_class == "sync",
            "a sync worker closes each connection",
            "gunicorn.worker_class: gthread or gevent",
        )
        yield (
            "gunicorn.max_requests_jitter",
            self.max_requests_jitter > 0 and self.max_requests == 0,
            "without max_requests no worker is replaced",
            "gunicorn.max_requests above 0",
        )
        yield self.stop_rule("graceful_timeout", around)
