"""What an application server is: the interface between its settings, its process manager, nginx and the release tool.

    Uwsgi, Gunicorn, … (settings) ──▶ Process ──┬─▶ process manager (one program file)
                                                └─▶ nginx (where to pass requests), the release tool (what to probe)

Names, sockets and ports follow from the site and the slot, so that two releases run side by side.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from contract.documents import Build, Endpoint
from contract.placeholders import APP_HOST, APP_PORT
from kinds.place import Place
from kinds.systems import System
from schema.app import App, Site
from schema.base import Model, Rule

Ports = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Surroundings:
    """What an application server may know beside its own settings.

    behind_nginx: nginx passes the requests on. is_apart: that nginx is on another machine. nginx_user: of its workers,
    None for the package's own. request_buffering: nginx reads a whole request first. process_manager: its name.
    stop_seconds: that a stopping program may take to finish its requests, as the setting stop_key has it.
    read_timeout: seconds that nginx, or uWSGI's router, waits for the next part of an answer. silent_paths: URL paths
    of which it waits longer. header_buffers: number and bytes of nginx's buffers for the headers of a request. is_page:
    the application is the page before the first release, whose every byte is user data.
    """

    place: Place
    system: System
    app: App
    site: Site
    behind_nginx: bool
    is_apart: bool
    nginx_user: str | None
    request_buffering: bool
    process_manager: str
    stop_seconds: int
    stop_key: str
    read_timeout: int = 60
    silent_paths: tuple[str, ...] = ()
    header_buffers: tuple[int, int] = (4, 8192)
    is_page: bool = False

    @property
    def reads_slowly(self) -> bool:
        """Return whether a body arrives as slowly as its client sends it."""
        return not (self.behind_nginx and self.request_buffering)


@dataclass(frozen=True)
class Listen:
    """Where a setting has the server listen: `unix`, or `<IPv4>:<port>`. has_unix: whether it may be a unix socket."""

    key: str
    value: str
    has_unix: bool = True


@dataclass(frozen=True)
class Process:
    """An application server, ready to be managed.

    configs: file name → text. command: arguments, the program first. pins: what pip installs for it. ports:
    placeholder → the ports of which a release takes the first that is free. stop_signal: finishes the requests under
    way and ends. group: that it runs in, if not its user's. forks: it goes into the background. owns_log: it writes its
    log itself. computed: what the machine computes, in words with placeholders, for the user to see. builds: what is
    built on the machine for it. uwsgi_params: what names the application to a uWSGI in dynamic mode.
    start_seconds: that the application may take to answer.
    """

    name: str
    configs: dict[str, str]
    command: tuple[str, ...]
    pins: tuple[str, ...]
    endpoint: Endpoint
    ports: Ports
    stop_signal: str = "TERM"
    group: str | None = None
    forks: bool = False
    owns_log: bool = False
    computed: str = ""
    builds: tuple[Build, ...] = ()
    uwsgi_params: dict[str, str] | None = None
    start_seconds: int = 60


class AppServer(Model):
    """The settings of an application server, and all that follows from them. The key of its settings is its name."""

    key: ClassVar[str]
    # A setting by which it answers HTTP to the world, with an example.
    direct_example: ClassVar[str]
    # The setting of the group that it runs in.
    group_key: ClassVar[str]
    # Whether app.wsgi_file may name a file in place of a module.
    loads_files: ClassVar[bool] = False

    @abstractmethod
    def listens_on(self, is_apart: bool) -> tuple[Listen, ...]:
        """Return where it listens, defaults included."""

    @abstractmethod
    def process(self, around: Surroundings) -> Process:
        """Return its program and files."""

    @abstractmethod
    def rules(self, around: Surroundings) -> Iterator[Rule]:
        """Yield the rules between its own settings, and between them and its surroundings."""

    @property
    @abstractmethod
    def runs_as(self) -> str | None:
        """User that it runs as, None for the site's own."""

    @property
    @abstractmethod
    def runs_in_group(self) -> str | None:
        """Group that it runs in, None for its user's."""

    def shares_port(self, around: Surroundings) -> bool:
        """Whether the programs of two releases listen on the site's public port at once, by SO_REUSEPORT."""
        return not around.behind_nginx and not around.is_page

    @property
    def answers_directly(self) -> bool:
        """Whether it speaks HTTP on a port, so that the world may talk to it without nginx."""
        return all(listen.value != "unix" for listen in self.listens_on(is_apart=False))

    @property
    def speaks_http(self) -> bool:
        """Whether it speaks HTTP rather than a protocol of its own."""
        return True

    @property
    def serves(self) -> str:
        """Interface of the applications that it serves: wsgi or asgi."""
        return "wsgi"

    @property
    def threads_of_a_worker(self) -> int | None:
        """Requests that a worker answers at once, None if they hold no thread."""
        return 1

    @property
    def import_folders(self) -> tuple[str, ...]:
        """Folders of the application that its own settings name, beside app.pythonpath, to import modules from."""
        return ()

    @property
    def no_websocket(self) -> str:
        """Why no WebSocket reaches the application through it, "" when one does."""
        return f"{self.key} serves no WebSocket to a WSGI application here"

    @property
    def keepalive_seconds(self) -> int | None:
        """Seconds that it keeps an idle connection, None when it closes each connection."""
        return None

    @property
    def closes_connections(self) -> str:
        """Why it closes each connection, "" when it does not."""
        return ""

    @property
    def private_ports(self) -> tuple[tuple[str, int], ...]:
        """Setting and number of each port on loopback that it wants beside those that it listens on."""
        return ()

    @property
    def shares_private_ports(self) -> bool:
        """Whether each site of a machine finds free ports among private_ports."""
        return False

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return a text for each value that is allowed and not advised; it begins with the setting."""
        return ()

    @property
    def archives(self) -> dict[str, str]:
        """Name in the release → path on this machine, of the sources that travel with it."""
        return {}

    @property
    def checksum(self) -> str | None:
        """SHA-256 that these sources must have."""
        return None

    def packages(self, system: System) -> tuple[str, ...]:
        """Packages of the OS that it needs beside what every server has."""
        return ()

    @abstractmethod
    def pins(self, system: System) -> tuple[str, ...]:
        """Return what pip installs for it, each as `name==version`, with all that it requires itself."""

    def runs_on(self, system: System) -> bool:
        """Return whether it runs on the system's Python."""
        return True

    def for_builtin_page(self, keeps_user: bool) -> Self:
        """Return the same server, as small as it may be, for the page before the first release.

        keeps_user: the process manager cannot start a program as another user.
        """
        return self


def endpoint(
    protocol: Literal["uwsgi", "http"], listen: str, around: Surroundings, *, is_public: bool = False
) -> tuple[Endpoint, Ports]:
    """`unix` or `<IPv4>:<port>` → the endpoint, and the ports that releases take in turn.

    is_public: the world reaches it directly, so its port cannot alternate between two releases.
    """
    if listen == "unix":
        return Endpoint(protocol, f"unix:{around.place.socket}"), {}
    host, _, port = listen.rpartition(":")
    # Who reaches the port from elsewhere is not asked, so a release has to be on trial at another address.
    known = f"@@{APP_HOST}@@" if host.startswith("0.") else host
    if is_public:
        return Endpoint(protocol, listen if around.is_page else f"{known}:{port}"), {}
    return Endpoint(protocol, f"{known}:@@{APP_PORT}@@"), {APP_PORT: (int(port), int(port) + 1)}


class HttpServer(AppServer):
    """An application server that speaks HTTP, listens where its `bind` says, and runs as its `user` and `group`."""

    if TYPE_CHECKING:
        # Each server declares these among its own settings.
        bind: str | None
        user: str | None
        group: str | None

    @property
    def runs_as(self) -> str | None:
        return self.user

    @property
    def runs_in_group(self) -> str | None:
        return self.group

    def listens_on(self, is_apart: bool) -> tuple[Listen, ...]:
        return (Listen(f"{self.key}.bind", self.bind or ("0.0.0.0:8000" if is_apart else "unix")),)

    def for_builtin_page(self, keeps_user: bool) -> Self:
        return self.model_copy(update={"workers": 1, "user": None, "group": None})

    def http_endpoint(self, around: Surroundings) -> tuple[Endpoint, Ports]:
        """Return the endpoint, and the ports that releases take in turn."""
        (listen,) = self.listens_on(around.is_apart)
        return endpoint("http", listen.value, around, is_public=not around.behind_nginx)

    def stop_rule(self, name: str, around: Surroundings) -> Rule:
        """Return the rule of the setting `name`, the seconds that a stopping worker has, which may be None."""
        seconds = getattr(self, name)
        return (
            f"{self.key}.{name}",
            seconds is not None and seconds >= around.stop_seconds,
            f"{around.stop_key} ends it after {around.stop_seconds} seconds",
            f"less than {around.stop_key}",
        )


def listening_rules(server: AppServer, around: Surroundings) -> Iterator[Rule]:
    """Yield the rules of where any application server listens."""
    yield (
        "serving.front",
        not around.behind_nginx and not server.answers_directly,
        "without nginx the app server answers HTTP itself",
        f"nginx, or {server.direct_example}",
    )
    for listen in server.listens_on(around.is_apart):
        yield (
            listen.key,
            not around.behind_nginx and listen.value.startswith("127."),
            "without nginx the world would not reach it there",
            "0.0.0.0 and a port, or serving.front: nginx",
        )
        yield (
            listen.key,
            around.behind_nginx and not around.is_apart and listen.value.startswith("0."),
            "behind nginx only this machine needs it",
            "unix, or 127.0.0.1 and a port" if listen.has_unix else "127.0.0.1 and a port",
        )
        yield (
            listen.key,
            around.is_apart and not listen.value.startswith("0."),
            "nginx stands on another machine and could not connect to it",
            "0.0.0.0 and a port",
        )
