"""uWSGI: https://uwsgi-docs.readthedocs.io/en/latest/Options.html"""

import signal
from collections.abc import Iterator
from typing import Self

from contract.documents import Build, Endpoint
from contract.placeholders import STATS_PORT
from kinds.app_servers.base import Listen, Ports, Process, Surroundings, endpoint
from kinds.app_servers.uwsgi.options import Option, application, arguments, buffer_size, params
from kinds.app_servers.uwsgi.settings import UwsgiSettings
from kinds.app_servers.uwsgi.wrapper import MODULE, signals_harakiri, wrapper
from kinds.systems import System
from schema.base import Rule
from templates import render

VERSION = "2.0.31"
# Port of the statistics of the page that a server has before its first release.
PAGE_STATS_PORT = 9191
# Variables of a request, each of which takes half of one: a packet of 64 KiB has no more.
_MAX_VARS = "4096"


class Uwsgi(UwsgiSettings):
    """https://uwsgi-docs.readthedocs.io/en/latest/Options.html"""

    @property
    def runs_as(self) -> str | None:
        return self.uid

    @property
    def runs_in_group(self) -> str | None:
        return self.gid

    @property
    def answers_directly(self) -> bool:
        return self.http is not None

    @property
    def speaks_http(self) -> bool:
        return bool(self.http or self.http_socket)

    @property
    def threads_of_a_worker(self) -> int | None:
        return self.threads

    @property
    def import_folders(self) -> tuple[str, ...]:
        return self.pythonpath

    @property
    def closes_connections(self) -> str:
        return "uWSGI closes each connection"

    @property
    def private_ports(self) -> tuple[tuple[str, int], ...]:
        return tuple(("uwsgi.stats", port) for port in self._stats_ports or (PAGE_STATS_PORT,))

    @property
    def shares_private_ports(self) -> bool:
        return not self._stats_ports

    @property
    def warnings(self) -> tuple[str, ...]:
        found = []
        if self._stats_ports:
            told = "every user of the server reads there the requests in work, with their cookies"
            found.append(f"uwsgi.stats: {told}; use auto, which is a socket that only the site and nginx reach")
        if self.install == "index" and self.version not in (None, VERSION):
            told = f"uWSGI {self.version} is installed without a check, because only the hash of {VERSION} is known"
            found.append(f"uwsgi.version: {told}; leave it out, or set uwsgi.install: source and sha256")
        return tuple(found)

    def listens_on(self, is_apart: bool) -> tuple[Listen, ...]:
        socket = self.socket
        if not self.speaks_http:
            socket = socket or ("0.0.0.0:3031" if is_apart else "unix")
        found = (
            ("uwsgi.socket", None if self.speaks_http else socket, True),
            ("uwsgi.http_socket", self.http_socket, True),
            # uWSGI's router has no unix socket.
            ("uwsgi.http", self.http, False),
        )
        return tuple(Listen(key, value, has_unix) for key, value, has_unix in found if value)

    def packages(self, system: System) -> tuple[str, ...]:
        return system.uwsgi_packages if self.install == "os" else ()

    def pins(self, system: System) -> tuple[str, ...]:
        return (f"uWSGI=={self.version or VERSION}",) if self.install == "index" else ()

    def for_builtin_page(self, keeps_user: bool) -> Self:
        return self.model_copy(
            update={
                "pythonpath": (),
                "static_map": {},
                "processes": 1,
                "cheaper": None,
                "chmod_socket": "660",
                # The user data of a server stay as they are: another text would replace it.
                "stats": PAGE_STATS_PORT if self.stats == "auto" else self.stats,
                # Archives come with a release.
                "install": "index",
                "version": self.version if self.install == "index" else None,
                "uid": self.uid if keeps_user else None,
                "gid": self.gid if keeps_user else None,
            }
        )

    def process(self, around: Surroundings) -> Process:
        """uWSGI with an ini file or with a command line: the same options from one list."""
        where, ports = self._endpoint(around)
        configs = {}
        if self._has_wrapper(around):
            configs = {f"{MODULE}.py": wrapper(around, where, self.harakiri)}
        chosen = self.options(around, where)
        if self.install == "os":
            # The OS packages uWSGI's Python support as a plugin.
            chosen.insert(0, ("plugin", around.system.uwsgi_plugin))
        program = self._program(around.system)
        if self.config == "command_line":
            command: tuple[str, ...] = (program, *arguments(chosen))
        else:
            configs["uwsgi.ini"] = render("templates/uwsgi/uwsgi.ini.j2", options=chosen)
            command = (program, "--ini", "@@slot_dir@@/uwsgi.ini")
        return Process(
            name=self.key,
            configs=configs,
            command=command,
            pins=self.pins(around.system),
            endpoint=where,
            ports={**ports, STATS_PORT: stats} if (stats := self._stats_ports) else ports,
            group=self.gid,
            forks=self.daemonize,
            start_seconds=around.app.start_seconds,
            owns_log=self._owns_log(around),
            computed="@@cpus@@ processes: one per CPU" if self.processes == "auto" else "",
            builds=(self._build(around.system),) if self.install == "source" else (),
            uwsgi_params=params(around.app) if self.dynamic else None,
        )

    def options(self, around: Surroundings, where: Endpoint) -> list[Option]:
        """Return all options in uWSGI's own names; True for one without a value."""
        found: list[Option] = [
            ("strict", True),
            ("master", True),
            *application(self, around, MODULE if self._has_wrapper(around) else None),
            *self._listening(around, where),
            ("processes", "@@cpus@@" if self.processes == "auto" else str(self.processes)),
        ]
        if self.threads > 1:
            found.append(("threads", str(self.threads)))
        # uWSGI looks whether the socket is still its own, but not whether the statistics' socket is, so without a port
        # the release tool removes both.
        vacuum = ("vacuum",) if self._stats_ports else ()
        for name in ("enable_threads", "thunder_lock", "lazy_apps", *vacuum, "stats_http"):
            if getattr(self, name):
                found.append((name.replace("_", "-"), True))
        for name in ("cheaper", "harakiri", "max_requests", "reload_on_rss"):
            if getattr(self, name) not in (None, "auto"):
                found.append((name.replace("_", "-"), str(getattr(self, name))))
        if self.harakiri and self._has_wrapper(around) and self._signals_harakiri(around.system):
            # Older versions send this signal anyway.
            found.append(("harakiri-graceful-signal", str(int(signal.SIGUSR2))))
            found.append(("harakiri-graceful-timeout", "1"))
        if self._has_wrapper(around) and around.behind_nginx:
            # nginx logs a client that has gone as 499. Three lines more for each would bury what the application says.
            found += [("ignore-sigpipe", True), ("ignore-write-errors", True)]
        for url, folder in self.static_map.items():
            found.append(("static-map", f"{url.rstrip('/')}=@@release_dir@@/app/{folder}"))
        if self.pidfile or self.daemonize:
            found.append(("pidfile", around.place.pidfile))
        if self.daemonize:
            found.append(("daemonize2", around.place.log))
        elif self._owns_log(around):
            found.append(("logto2", around.place.log))
        return [
            *found,
            ("stats", f"127.0.0.1:@@{STATS_PORT}@@" if self._stats_ports else around.place.stats),
            ("disable-logging", True),
            ("log-4xx", True),
            ("log-5xx", True),
            # The process manager stops with TERM, which by itself would make uWSGI reload: finish the requests and end.
            ("hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
            ("worker-reload-mercy", str(around.stop_seconds - 1)),
        ]

    def rules(self, around: Surroundings) -> Iterator[Rule]:
        app, location, manager = around.app, around.site.location, around.process_manager
        yield (
            "uwsgi.dynamic",
            around.is_apart and self.dynamic,
            "nginx would name paths of another machine",
            "topology.app_servers: 0",
        )
        remote = around.is_apart and self.install == "source" and self.is_remote
        file_here = "a file here, which travels with the release"
        yield "uwsgi.archive", remote, "an app server has no way to the internet", file_here
        below = location != "/" and self.dynamic
        yield "site.location", below, "uWSGI in dynamic mode does not know it", "/"
        yield from self._socket_rules(around)
        yield from self.source_rules()
        no_router = self.install == "os" and bool(self.http)
        yield "uwsgi.http", no_router, "the OS's uWSGI has no router", "uwsgi.http_socket, or uwsgi.install: index"
        not_packaged = self.install == "os" and bool(around.system.no_os_uwsgi)
        yield "uwsgi.install", not_packaged, around.system.no_os_uwsgi, "index or source"
        alone = self.thunder_lock and self.processes == 1
        yield "uwsgi.thunder_lock", alone, "one process has nobody to take turns with", "two processes or more"
        yield (
            "uwsgi.cheaper",
            self.cheaper is not None and (self.processes == "auto" or self.cheaper >= self.processes),
            "it is the least number of processes",
            "less than uwsgi.processes, which must be a number",
        )
        yield (
            "uwsgi.daemonize",
            self.daemonize and manager != "systemd",
            f"{manager} would lose a program that goes into the background",
            "serving.process_manager: systemd, which gets a forking unit",
        )
        yield "uwsgi.logto", self.logto and self.daemonize, "uwsgi.daemonize names the same log", "one of them"
        yield (
            "uwsgi.config",
            self.config == "command_line" and manager == "emperor",
            "a vassal is an ini file",
            "ini, or serving.process_manager: supervisor or systemd",
        )
        yield (
            "uwsgi.dynamic",
            self.dynamic and (not around.behind_nginx or self.speaks_http),
            "uwsgi_param travels by uWSGI's own protocol from nginx",
            "uwsgi.socket and serving.front: nginx",
        )
        factory = app.callable.endswith("()") and self.dynamic
        way = "the name of a WSGI callable, or no uwsgi.dynamic"
        yield "app.callable", factory, "uWSGI calls no function here", way
        file = self.dynamic and app.wsgi_file is not None
        yield "uwsgi.dynamic", file, "UWSGI_SCRIPT names a module", "app.module"

    def _socket_rules(self, around: Surroundings) -> Iterator[Rule]:
        ways = [name for name in ("socket", "http_socket", "http") if getattr(self, name)]
        last, first = (ways[-1], ways[0]) if ways else ("socket", "")
        yield f"uwsgi.{last}", len(ways) > 1, f"set beside uwsgi.{first}", "one of them"
        yield (
            "uwsgi.chmod_socket",
            "chmod_socket" in self.model_fields_set
            and any(listen.value != "unix" for listen in self.listens_on(around.is_apart)),
            "a TCP socket has no mode",
            "uwsgi.socket or uwsgi.http_socket: unix",
        )
        yield (
            "uwsgi.chmod_socket",
            self.chmod_socket[1] == "0" and around.nginx_user != around.place.user,
            "nginx could not connect to a socket of another user",
            f"660, or nginx.user: {around.place.user}",
        )

    def _program(self, system: System) -> str:
        """Path of uWSGI. From source it is one version's, not the link's: a release keeps its own."""
        if self.install == "source":
            return f"{self._build(system).folder}/bin/uwsgi"
        return system.uwsgi_program if self.install == "os" else "@@venv@@/bin/uwsgi"

    def _build(self, system: System) -> Build:
        """The build that the release tool is asked for. Each Python from source has a uWSGI of its own."""
        build = self.build(python=system.python)
        own = system.python_folder.replace("/", "-")
        return build._replace(folder=f"{build.folder}{own}")

    def _has_wrapper(self, around: Surroundings) -> bool:
        """Return whether uWSGI loads a module of ours that imports the application. In dynamic mode nginx names it."""
        return not around.is_page and not self.dynamic

    def _signals_harakiri(self, system: System) -> bool:
        """Return whether uWSGI takes a signal to send before it kills a worker."""
        if self.install == "os":
            return system.uwsgi_signals_harakiri
        return signals_harakiri(self.version or VERSION)

    @property
    def _stats_ports(self) -> tuple[int, ...]:
        """The ports of the statistics that releases take in turn, none for a unix socket."""
        return () if isinstance(self.stats, str) else (self.stats, self.stats + 1)

    def _owns_log(self, around: Surroundings) -> bool:
        """Whether uWSGI writes its log itself: the emperor's own log would mix those of all vassals."""
        return self.logto or self.daemonize or around.process_manager == "emperor"

    def _endpoint(self, around: Surroundings) -> tuple[Endpoint, Ports]:
        if self.http:
            return endpoint("http", self.http, around, is_public=not around.behind_nginx)
        (listen,) = self.listens_on(around.is_apart)
        return endpoint("http" if self.http_socket else "uwsgi", listen.value, around)

    def _listening(self, around: Surroundings, where: Endpoint) -> list[Option]:
        name = "http" if self.http else "http-socket" if self.http_socket else "socket"
        found: list[Option] = [(name, where.address.removeprefix("unix:"))]
        # The mode is that of the statistics' socket, too.
        if where.address.startswith("unix:") or not self._stats_ports:
            found.append(("chmod-socket", self.chmod_socket))
        if self.shares_port(around):
            found.append(("reuse-port", True))
        found += [
            ("listen", "@@somaxconn@@" if self.listen == "auto" else str(self.listen)),
            ("buffer-size", str(buffer_size(self, around))),
        ]
        if around.behind_nginx and not around.is_page:
            # By default uWSGI closes the connection of a request with some 100 headers, and nginx makes 502 of it. An
            # nginx without max_headers passes more on.
            found.append(("max-vars", _MAX_VARS))
        if around.request_buffering:
            # Read all of a body before the application is asked: one that answers without reading it would have the
            # connection closed under nginx, which makes 502 of the answer. Larger bodies wait in a file.
            # https://uwsgi-docs.readthedocs.io/en/latest/ThingsToKnow.html
            found.append(("post-buffering", "65536"))
        return found
