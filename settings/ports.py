"""The ports that a site wants on a machine, and which of them collide."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from schema.base import Rule
from settings.site import SiteSettings


@dataclass(frozen=True)
class WantedPort:
    """A port that the setting `key` asks for.

    is_apart: it is on the app servers, which have other ports than nginx's machine. is_shared: several sites of a
    machine may ask for it in the same setting.
    """

    key: str
    number: int
    is_apart: bool
    is_shared: bool


def wanted_ports(site: SiteSettings, is_apart: bool) -> list[WantedPort]:
    """Return every port that a site asks for. is_apart: the application runs on other machines than nginx."""
    server, front = site.app_server, site.serving.front
    wanted = [WantedPort(key, number, is_apart, server.shares_private_ports) for key, number in server.private_ports]
    for listen in server.listens_on(is_apart):
        if listen.value != "unix":
            first = int(listen.value.rsplit(":", 1)[1])
            # Behind nginx two releases take two ports in turn, the one that is set and the next.
            numbers = (first, first + 1) if front == "nginx" else (first,)
            wanted += [WantedPort(listen.key, number, is_apart, False) for number in numbers]
    if front == "nginx":
        wanted.append(WantedPort("nginx.listen", site.nginx.listen, False, True))
        if site.tls.enabled:
            wanted.append(WantedPort("tls.listen", site.tls.listen, False, True))
    return wanted


def named(
    sites: Iterable[SiteSettings], is_apart: bool, key_of: Callable[[SiteSettings], str]
) -> Iterator[tuple[str, int]]:
    """Yield setting and number of each port of the sites. key_of: what a site's keys begin with."""
    for site in sites:
        yield from ((f"{key_of(site)}{port.key}", port.number) for port in wanted_ports(site, is_apart))


def rules(site: SiteSettings, is_apart: bool) -> Iterator[Rule]:
    """Yield the rules between the ports of one site, and SSH's."""
    used: dict[tuple[bool, int], str] = {(False, 22): "SSH", (True, 22): "SSH"}
    for port in wanted_ports(site, is_apart):
        place = (port.is_apart, port.number)
        yield port.key, place in used, f"port {port.number} is taken by {used.get(place)}", "another port"
        used[place] = port.key
