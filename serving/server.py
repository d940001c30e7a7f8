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
    ports: placeholder → the ports of which a release takes the first that is free. stop_signal: finishes the requests
    under way and ends. forks: it goes into the background. owns_log: it writes its log itself.
    computed: what the machine computes, in words with placeholders, for the user to see; empty for nothing.
    """

    name: str
    configs: dict[str, str]
    command: tuple[str, ...]
    pins: tuple[str, ...]
    endpoint: Endpoint
    ports: dict[str, tuple[int, ...]]
    stop_signal: str
    forks: bool = False
    owns_log: bool = False
    computed: str = ""


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


APP_PORT = "app_port"
APP_HOST = "app_host"


def endpoint(
    protocol: Literal["uwsgi", "http"], listen: str, public: bool, place: layout.Place
) -> tuple[Endpoint, dict[str, tuple[int, ...]]]:
    """`unix` or `<IPv4>:<port>` → the endpoint, and the ports that releases take in turn."""
    if listen == "unix":
        return Endpoint(protocol, f"unix:{place.socket}"), {}
    host, _, port = listen.rpartition(":")
    if public:
        return Endpoint(protocol, listen, public=True), {}
    # Where nginx is on another machine it finds a port by itself, so that a release has to be on trial elsewhere.
    known = f"@@{APP_HOST}@@" if host.startswith("0.") else host
    return Endpoint(protocol, f"{known}:@@{APP_PORT}@@"), {APP_PORT: (int(port), int(port) + 1)}
