"""The narrow interface between an application server, what manages its process, and what stands in front.

    uwsgi.app_server ──┐                       ┌─▶ supervisor / systemd / emperor (one program file)
    gunicorn.app_server┴─▶ AppServer ──────────┴─▶ nginx (where to pass requests), the release tool (what to probe)

Names, sockets and ports follow from the site and the slot, so that two releases run side by side.
"""

from dataclasses import dataclass
from typing import Literal

from serving import layout


@dataclass(frozen=True)
class Endpoint:
    """Where an application server answers.

    protocol: uwsgi or http. address: `unix:<path>` or `<IPv4>:<port>`, with placeholders.
    public: the world reaches it directly, so its port cannot alternate between two releases.
    """

    protocol: Literal["uwsgi", "http"]
    address: str
    public: bool = False


@dataclass(frozen=True)
class AppServer:
    """An application server, ready to be managed.

    configs: file name → text. command: arguments, the program first. pins: what pip installs for it.
    ports: placeholder → the two ports that releases take in turn. stop_signal: finishes the requests
    under way and ends. forks: it goes into the background. owns_log: it writes its log itself.
    """

    name: str
    configs: dict[str, str]
    command: tuple[str, ...]
    pins: tuple[str, ...]
    endpoint: Endpoint
    ports: dict[str, tuple[int, int]]
    stop_signal: str
    forks: bool = False
    owns_log: bool = False


@dataclass(frozen=True)
class Program:
    """How a process manager is told of an application server.

    manager: supervisor, systemd or emperor. name: as the manager knows it. config: name of the file in the
    slot that tells it; link: where the manager looks for that file. configs: file name → text.
    """

    manager: str
    name: str
    config: str
    link: str
    configs: dict[str, str]


SOCKET = f"{layout.RUN}/{layout.SITE}-@@slot@@.sock"
PIDFILE = f"{layout.RUN}/{layout.SITE}-@@slot@@.pid"
LOG = f"{layout.LOG}/{layout.SITE}-@@slot@@.log"
APP_PORT = "app_port"


def endpoint(
    protocol: Literal["uwsgi", "http"], listen: str, public: bool
) -> tuple[Endpoint, dict[str, tuple[int, int]]]:
    """`unix` or `<IPv4>:<port>` → the endpoint, and the ports that releases take in turn."""
    if listen == "unix":
        return Endpoint(protocol, f"unix:{SOCKET}"), {}
    host, _, port = listen.rpartition(":")
    if public:
        return Endpoint(protocol, listen, public=True), {}
    return Endpoint(protocol, f"{host}:@@{APP_PORT}@@"), {APP_PORT: (int(port), int(port) + 1)}
