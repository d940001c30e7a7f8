"""Servers that come and go: the settings of the scaling group, and what its members do not go together with.

https://www.alibabacloud.com/help/en/auto-scaling/ has its limits.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from schema import text
from schema.base import Model, Percent, Rule, sequence
from settings.data import SQLITE_URL

if TYPE_CHECKING:
    from settings.site import SiteSettings
    from settings.stack import StackSettings

# Members that one release host serves, and types that a scaling configuration may name.
_MEMBERS, _TYPES = 100, 10
_TAKEN = "a member of topology.scaling takes it along when it goes"
_SHARED = "data.shared: true"


class Scaling(Model):
    min: int = Field(2, ge=1, le=_MEMBERS, description="Number of members that there are at least.")
    max: int = Field(4, ge=1, le=_MEMBERS, description="Number of members that there are at most.")
    cpu: Percent = Field(
        60, description="Mean use of the members' CPUs that Auto Scaling aims at by adding and removing them, percent."
    )
    instance_types: Annotated[tuple[text.InstanceType, ...], BeforeValidator(sequence)] = Field(
        (),
        max_length=_TYPES,
        description="ECS instance types of the members, of which the first that a zone has is used; none: "
        "server.instance_type. A change reaches members that are made later.",
    )
    spot_percent: int = Field(
        0,
        ge=0,
        le=100,
        description="Percentage of spot instances among the members beyond min. Switching between 0 and any other "
        "value replaces the members.",
    )
    at_once: int = Field(1, ge=1, le=_MEMBERS, description="Number of members that take a release at a time.")
    warmup_seconds: int = Field(
        300,
        ge=30,
        le=3600,
        description="Seconds from the start of a new member to the first question of the load balancer. A member that "
        "has no release by then fails its health check and is replaced.",
    )

    def types(self, other: str) -> tuple[str, ...]:
        """The instance types of the members. other: where none is named."""
        return self.instance_types or (other,)


def rules(stack: "StackSettings") -> Iterator[Rule]:
    """Yield the rules of a stack that may have a scaling group."""
    topology = stack.topology
    scaling = topology.scaling
    if scaling is None:
        return
    yield (
        "topology.scaling",
        not topology.is_balanced,
        f"set, but topology.entrance is {topology.entrance}",
        "topology.entrance: alb with it",
    )
    yield "topology.app_servers", topology.app_servers > 0, "topology.scaling makes the servers", "one of the two"
    low, high = scaling.min, scaling.max
    yield "topology.scaling.max", high < low, f"{high} is below topology.scaling.min", f"{low} or more"
    for name in scaling.instance_types:
        is_twice = scaling.instance_types.count(name) > 1
        yield "topology.scaling.instance_types", is_twice, f"{name} stands there twice", "each type once"
    yield "data.disk_gib", stack.data_gib is not None, "a member of topology.scaling has no disk of its own", _SHARED
    tokens = "members of topology.scaling tell their metadata without one, because the provider cannot ask for it"
    yield "server.http_tokens", stack.server.http_tokens == "required", tokens, "auto or optional"
    pin = "a member of topology.scaling that is made later keeps no earlier release"
    for site in stack.sites:
        yield f"{stack.key_of(site)}release.pin", site.release.pin is not None, pin, "none; release that version again"
        for key, is_broken, reason, allowed in _of_site(site):
            yield f"{stack.key_of(site)}{key}", is_broken, reason, allowed


def _of_site(site: "SiteSettings") -> Iterator[Rule]:
    is_alone = not site.data.shared
    yield "data.served", is_alone and bool(site.data.served), _TAKEN, f"{_SHARED}, or files elsewhere"
    yield "app.persistent", is_alone and bool(site.app.persistent), _TAKEN, f"{_SHARED}, mysql, or no such path"
    for name, secret in site.app.env.items():
        is_sqlite = is_alone and bool(SQLITE_URL.match(secret.get_secret_value()))
        reason = "each member of topology.scaling would have another database"
        yield f"app.env.{name}", is_sqlite, reason, "mysql, or a database elsewhere"
