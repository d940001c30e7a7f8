"""The rules of sites that share a machine."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from contract.numbers import number
from schema.base import Rule
from settings import ports
from settings.python import shared_rules
from settings.site import SiteSettings
from settings.tls import Tls

if TYPE_CHECKING:
    from settings.stack import StackSettings


def rules(stack: "StackSettings") -> Iterator[Rule]:
    """Yield the rules of sites that cannot share a machine."""
    places: dict[tuple[int, str | None, str], str] = {}
    owners: dict[tuple[bool, int], tuple[str, ports.WantedPort]] = {}
    domains: dict[str, tuple[str, Tls]] = {}
    for settings in stack.sites:
        site, name = settings.site, f"sites.{settings.site.name}"
        if settings.serving.front == "nginx":
            for port in (settings.nginx.listen, *([settings.tls.listen] if settings.tls.enabled else [])):
                place = (port, site.server_name, site.location)
                taken = f"{places.get(place)} stands there already"
                yield f"{name}.site", place in places, taken, "another server_name, location or port"
                places[place] = name
        for wanted in ports.wanted_ports(settings, stack.is_apart):
            owner, other = owners.setdefault((wanted.is_apart, wanted.number), (name, wanted))
            both = wanted.key == other.key and wanted.is_shared and other.is_shared
            yield (
                f"{name}.{wanted.key}",
                owner != name and not both,
                f"port {wanted.number} is taken by {owner}.{other.key}",
                "another port",
            )
        if site.server_name:
            owner, tls = domains.setdefault(site.server_name.lower(), (name, settings.tls))
            reason = f"differs from {owner}.tls, but both serve the same domain"
            yield f"{name}.tls", tls != settings.tls, reason, "the same tls in both"
        yield from _one_user(stack, settings)
    if stack.numbers_accounts:
        yield from _numbers(stack)
    yield from shared_rules([(f"{stack.key_of(site)}python", site.python) for site in stack.sites])


def _numbers(stack: "StackSettings") -> Iterator[Rule]:
    """Yield the rules of users whose numbers are made of their names: two of them must not have the same."""
    owners: dict[int, tuple[str, str]] = {}
    for settings in stack.sites:
        place = settings.place
        for name in (place.user, place.group, place.web_group):
            owner, site = owners.setdefault(number(name), (name, settings.site.name))
            reason = f"data.shared gives its users the numbers of those of site {site}"
            yield f"sites.{settings.site.name}", owner != name, reason, "another name of the site"


def _one_user(stack: "StackSettings", site: SiteSettings) -> Iterator[Rule]:
    """Yield the rules of a process manager that runs all sites as one user."""
    if not stack.process_manager.is_one_user:
        return
    own, first = site.app_server, stack.sites[0].app_server
    for key, value, other in (
        ("uid", own.runs_as, first.runs_as),
        ("gid", own.runs_in_group, first.runs_in_group),
    ):
        yield (
            f"sites.{site.site.name}.{own.key}.{key}",
            value != other,
            f"the {stack.process_manager.name} runs all sites as one user",
            f"{own.key}.{key}, for all",
        )
