"""A stack as the day-to-day commands see it: machines with names and sites, each with a way to it over SSH."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.resources import FRONT_MACHINE, RELEASE_MACHINE
from operations.connection import Way
from operations.errors import UserError
from schema.base import printable


@dataclass(frozen=True)
class Machine:
    """A server.

    name: its name in the stack, such as app-1; `server` where it is the only one. id: of its instance. sites: those
    with a release on it; with several machines they are on the machine of nginx, too. missing: why it cannot be
    reached, None if it can.
    """

    name: str
    id: str
    sites: tuple[str, ...]
    way: Way
    missing: str | None = None

    @property
    def runs_application(self) -> bool:
        """Whether the sites' applications run here. A machine without a release yet may be meant for them."""
        return self.name != FRONT_MACHINE and bool(self.sites)


def entrance(outputs: Mapping[str, Any]) -> str:
    """The public address at which the sites of a stack with these outputs answer; "" where no output says so."""
    first, *_ = outputs.get("addresses") or [outputs.get("address") or ""]
    return str(first)


@dataclass(frozen=True)
class Stack:
    """name: of the stack. machines: the one with the public address first. outputs: what the program exports.

    is_rehearsed: whether its machines are of LXD on this host.
    """

    name: str
    machines: tuple[Machine, ...]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    is_rehearsed: bool = False

    @property
    def sites(self) -> list[str]:
        """The names of the sites, sorted."""
        return sorted({site for machine in self.machines for site in machine.sites})

    @property
    def with_nginx(self) -> tuple[Machine, ...]:
        """The machines whose nginx answers the sites' clients: one, or each of several behind a load balancer."""
        first, *others = self.machines
        behind = () if first.name == FRONT_MACHINE else (each for each in others if each.sites)
        return (*behind,) if first.name == RELEASE_MACHINE else (first, *behind)

    @property
    def entrance(self) -> str:
        """The public address at which the sites answer; "" where no output says so."""
        return entrance(self.outputs)

    def named(self, name: str) -> Machine:
        """A machine by its name or id, whether it can be reached or not. Raises UserError."""
        for machine in self.machines:
            if name in (machine.name, machine.id):
                return machine
        names = ", ".join(machine.name for machine in self.machines)
        raise UserError(f"--machine {printable(name)}: stack {self.name} has no such machine; allowed: {names}")

    def machine(self, name: str | None = None) -> Machine:
        """A machine that can be reached. name: None for the one with the public address. Raises UserError."""
        found = self.named(name) if name else self.machines[0]
        if found.missing:
            raise UserError(found.missing)
        return found

    def check_site(self, site: str | None) -> None:
        """Raise UserError for a site that the stack does not have."""
        if site is not None and self.sites and site not in self.sites:
            raise UserError(f"--site {printable(site)}: no such site; allowed: {', '.join(self.sites)}")

    def site(self, name: str | None) -> str:
        """The site that is meant. name: None for the only one. Raises UserError."""
        if name is None and len(self.sites) > 1:
            raise UserError(f"stack {self.name} has several sites; allowed: --site with one of {', '.join(self.sites)}")
        self.check_site(name)
        return name or next(iter(self.sites), "app")

    def of_application(self, site: str, name: str | None = None) -> Machine:
        """A machine on which a site's application runs. name: None for the first one. Raises UserError."""
        if name:
            return self.machine(name)
        found = [machine.name for machine in self.machines if machine.runs_application and site in machine.sites]
        return self.machine(found[0] if found else None)
