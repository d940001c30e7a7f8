"""Granian, an HTTP server in Rust, by its WSGI or its ASGI interface: https://github.com/emmett-framework/granian#options"""

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import Field

from kinds.app_servers.base import HttpServer, Process, Surroundings
from kinds.behind_nginx import ASGI_READING_BODIES, ASGI_WRAPPED, READING_BODIES, WRAPPED, importing
from kinds.systems import System
from schema import text
from schema.base import Count, Rule, Seconds

_PINS = ("granian==2.8.9", "click==8.5.1")
_PYTHON = (3, 10)
# Seconds after which Granian closes an idle connection: its http1-header-read-timeout, left at its default.
_KEEPALIVE = 30

# What starts Granian as its master, and what its workers import: names unlike those of an application's modules.
_MASTER, _MODULE = "wsgi_ecs_granian", "wsgi_ecs_application"
_START = """import contextlib
import os
import sys

from granian import cli

if __name__ == "__main__":
    for option in sys.argv:
        if option.startswith("--uds="):
            # Granian cannot listen on a socket that a killed master has left.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(option[len("--uds=") :])
    sys.exit(cli.entrypoint())
"""
_APPLICATION = """import ctypes
import signal
{imports}
# PR_SET_PDEATHSIG: a worker ends with its master, which leaves its workers behind when it is killed.
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
"""


class Granian(HttpServer):
    """https://github.com/emmett-framework/granian#options"""

    key: ClassVar[str] = "granian"
    direct_example: ClassVar[str] = "granian.bind such as 0.0.0.0:8000"
    group_key: ClassVar[str] = "granian.group"

    bind: text.Listen | None = Field(
        None, description="unix (the default), or an address and port such as 127.0.0.1:8000."
    )
    interface: Literal["wsgi", "asgi"] = Field(
        "wsgi", description="What the application speaks: wsgi (Flask, Django), or asgi (FastAPI, Starlette, Quart)."
    )
    workers: Literal["auto"] | Count = Field("auto", description="Worker processes; auto: one per CPU of the machine.")
    blocking_threads: Count = Field(1, description="Threads of a worker that run a WSGI application.")
    backlog: int = Field(1024, ge=128, le=65535, description="Length of the queue of connections.")
    http1_keep_alive: bool = Field(True, description="Keep a connection open for its client's next request.")
    workers_lifetime: int | None = Field(
        None, ge=60, le=31536000, description="Replace a worker after this many seconds; none: never."
    )
    workers_max_rss: int | None = Field(
        None, ge=16, le=1048576, description="Replace a worker above this much memory, MiB; none: never."
    )
    workers_kill_timeout: Seconds | None = Field(
        None,
        description="Seconds a stopping worker may take to finish its requests; none: one less than its manager's.",
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "info", description="Least severe messages that are logged."
    )
    access_log: bool = Field(False, description="Log each request; nginx logs requests already.")
    pid_file: bool = Field(False, description="Write the master's process id into /run/wsgi-ecs/<site>/<slot>.pid.")
    user: text.User | None = Field(None, description="User that the server runs as; none: the site's own user.")
    group: text.User | None = Field(
        None, description="Group that the server runs as, with systemd; none: the user's own group."
    )

    @property
    def serves(self) -> str:
        return self.interface

    @property
    def keepalive_seconds(self) -> int | None:
        return _KEEPALIVE if self.http1_keep_alive else None

    @property
    def closes_connections(self) -> str:
        return "" if self.http1_keep_alive else "granian.http1_keep_alive is false, so it closes each connection"

    def for_builtin_page(self, keeps_user: bool) -> Self:
        # The page is a WSGI application.
        return super().for_builtin_page(keeps_user).model_copy(update={"interface": "wsgi"})

    @property
    def no_websocket(self) -> str:
        return "" if self.interface == "asgi" else super().no_websocket

    def pins(self, system: System) -> tuple[str, ...]:
        return _PINS

    def runs_on(self, system: System) -> bool:
        return system.python_version >= _PYTHON

    def process(self, around: Surroundings) -> Process:
        """Granian with its options on the command line, and the module that it imports."""
        where, ports = self.http_endpoint(around)
        text = _APPLICATION.format(imports=importing(around.app))
        if around.behind_nginx and not around.is_page:
            is_asgi = self.interface == "asgi"
            text += ASGI_WRAPPED if is_asgi else WRAPPED
            if around.request_buffering:
                text += ASGI_READING_BODIES if is_asgi else READING_BODIES
        options = [f"--{name}" if value is True else f"--{name}={value}" for name, value in self._options(around)]
        return Process(
            name=self.key,
            configs={f"{_MASTER}.py": _START, f"{_MODULE}.py": text},
            command=(
                "@@venv@@/bin/python",
                f"@@slot_dir@@/{_MASTER}.py",
                *_listening(where.address),
                *options,
                f"@@slot_dir@@/{_MODULE}.py:app",
            ),
            pins=self.pins(around.system),
            endpoint=where,
            ports=ports,
            group=self.group,
            computed="@@cpus@@ workers: one per CPU" if self.workers == "auto" else "",
        )

    def _options(self, around: Surroundings) -> list[tuple[str, str | bool]]:
        """Return the options in Granian's own names; True for one without a value."""
        found: list[tuple[str, str | bool]] = [
            ("interface", self.interface),
            ("http", "1"),
            ("ws" if self.interface == "asgi" else "no-ws", True),
            ("working-dir", "@@release_dir@@/app"),
            ("workers", "@@cpus@@" if self.workers == "auto" else str(self.workers)),
            ("blocking-threads", str(self.blocking_threads)),
            ("backlog", str(self.backlog)),
            # Without respawn-failed-workers, one killed worker ends all other workers.
            ("respawn-failed-workers", True),
            ("workers-kill-timeout", str(self.workers_kill_timeout or around.stop_seconds - 1)),
            ("log-level", self.log_level),
        ]
        for name in ("workers_lifetime", "workers_max_rss"):
            if getattr(self, name) is not None:
                found.append((name.replace("_", "-"), str(getattr(self, name))))
        for name, is_set in (("no-http1-keep-alive", not self.http1_keep_alive), ("access-log", self.access_log)):
            if is_set:
                found.append((name, True))
        if around.site.prefix:
            found.append(("url-path-prefix", around.site.prefix))
        if self.pid_file:
            found.append(("pid-file", around.place.pidfile))
        return found

    def rules(self, around: Surroundings) -> Iterator[Rule]:
        version = ".".join(map(str, around.system.python_version))
        yield (
            "serving.app_server",
            not self.runs_on(around.system),
            f"granian runs on Python 3.10 and later, and the site has {version}",
            "uwsgi or gunicorn, another server.os, or python.install: source",
        )
        yield (
            "granian.blocking_threads",
            self.interface == "asgi" and self.blocking_threads > 1,
            "an ASGI application runs on one event loop in each worker",
            "granian.workers",
        )
        yield self.stop_rule("workers_kill_timeout", around)


def _listening(address: str) -> tuple[str, ...]:
    """`unix:<path>` or `<IPv4>:<port>` → the options that have Granian listen there."""
    if address.startswith("unix:"):
        # The socket's folder gives it the group that nginx is in.
        return f"--uds={address.removeprefix('unix:')}", "--uds-permissions=0o660"
    host, _, port = address.rpartition(":")
    return f"--host={host}", f"--port={port}"
