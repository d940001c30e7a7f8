"""What the cloud has to offer: the zone and the image, found before anything is created."""

import inspect
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import pulumi
import pulumi_alicloud as alicloud

from kinds.systems import SYSTEMS, System
from serving import Machine
from settings import configured, refused
from settings.server import Server

# Characters of what a provider says.
_TOLD = 600
# Seconds after which an unanswered question is mentioned: the provider itself retries for minutes without a word.
_SILENCE = 15.0
_NEXT = (
    "next: see that this machine reaches the cloud, and that ALICLOUD_ACCESS_KEY, ALICLOUD_SECRET_KEY and "
    "alicloud:region are right"
)


def check_provider() -> None:
    """Refuse keys such as alicloud:regoin, which the provider itself passes over. Raises pulumi.RunError."""
    # Its config has the names of its arguments, in camelCase.
    arguments = inspect.signature(alicloud.ProviderArgs).parameters
    known = [re.sub("_(.)", lambda match: match[1].upper(), name) for name in arguments]
    for key in configured("alicloud"):
        if key not in known:
            allowed = ", ".join(get_close_matches(key, known, n=1) or known)
            raise refused(f"alicloud:{key}: the provider has no such key; allowed: {allowed}")


def kept_zone(disks: Mapping[str, tuple[str, int]]) -> str | None:
    """Id of the zone in which the stack's data disks are, None without a disk.

    disks: name of a disk → key of its size, and its size in GiB. Raises pulumi.RunError for a disk that would have to
    shrink, which the cloud refuses half-way.
    """
    zone = None
    for name, (key, size) in disks.items():
        for disk in ask(alicloud.ecs.get_ecs_disks, disk_name=name).disks:
            if disk.disk_name != name:
                continue
            zone = zone or disk.zone_id
            if size < disk.size:
                raise refused(
                    f"{key}: {size} GiB, and the disk has {disk.size}, which never becomes smaller; "
                    f"allowed: {disk.size} or more, or a backup that is restored into a new stack"
                )
    return zone


def zone(name: str, server: Server, machines: Sequence[Machine], kept: str | None) -> str:
    """Id of the zone to build in. name: of the network. kept: the zone that has the data, None for no such zone.

    Raises pulumi.RunError when the chosen one does not exist, or none offers the instance types of all machines.
    """
    if kept:
        # A disk cannot be attached in another zone, and a new network would take a zone of its own.
        if server.zone not in (None, kept):
            pulumi.warn(f"server.zone: the data disk is in {kept}, and so is everything else")
        return kept
    if server.zone:
        # The cloud does not list what is sold out, which is no reason to refuse a release to servers that exist.
        known = _ids(alicloud.get_zones, available_resource_creation="VSwitch")
        if server.zone not in known and not _ids(alicloud.vpc.get_switches, vswitch_name=name):
            raise refused(f"server.zone: no such zone is offered in this region; allowed: {', '.join(known)}")
        return server.zone
    keys: dict[str, str] = {}
    for machine in machines:
        keys.setdefault(machine.instance_type, machine.key)
    spot = "SpotAsPriceGo" if server.spot else None
    # The provider asks for one type at a time.
    offers = {wanted: zones_of(wanted, spot) for wanted in keys}
    for wanted, zones in offers.items():
        if not zones:
            raise refused(
                f"{keys[wanted]}: no zone of this region offers {wanted}; "
                "allowed: a type that the region has (or another alicloud:region)"
            )
    first, *others = offers.values()
    common = [zone for zone in first if all(zone in zones for zones in others)]
    if not common:
        where = "; ".join(f"{wanted} is in {', '.join(zones)}" for wanted, zones in offers.items())
        raise refused(
            f"{', '.join(keys.values())}: no zone of this region offers all of them: {where}; "
            "allowed: types that one zone has"
        )
    return common[0]


def zones_of(instance_type: str, spot_strategy: str | None) -> list[str]:
    """Ids of the zones that offer an instance type and can have a switch."""
    return _ids(
        alicloud.get_zones,
        available_instance_type=instance_type,
        available_resource_creation="VSwitch",
        spot_strategy=spot_strategy,
    )


def image(server: Server, system: System) -> str:
    """Id of the image to boot. Raises pulumi.RunError when the OS has none here."""
    if server.image:
        return server.image
    found = _ids(alicloud.ecs.get_images, owners="system", name_regex=system.image_pattern, most_recent=True)
    if not found:
        others = ", ".join(name for name in SYSTEMS if name != system.name)
        raise refused(
            f"server.os: no system image of {system.name} "
            f"({system.image_pattern}) here; allowed: {others}, or an image id in server.image"
        )
    return found[0]


def _ids(function: Callable[..., Any], **arguments: Any) -> list[str]:
    """The ids that a function of the provider answers. Raises as ask does."""
    return [str(found) for found in ask(function, **arguments).ids]


def ask(function: Callable[..., Any], **arguments: Any) -> Any:
    """Return what a function of the provider answers. Raises pulumi.RunError when the cloud cannot be asked."""
    silence = threading.Timer(
        _SILENCE, lambda: print(f"alicloud: no answer for {_SILENCE:.0f} s; {_NEXT}", file=sys.stderr, flush=True)
    )
    silence.start()
    try:
        return function(**arguments)
    except (AttributeError, TypeError):
        raise
    except Exception as error:  # Pulumi raises nothing narrower for what a provider says.
        # One line, and an address in it may be signed with an access key.
        said = re.sub(r"https?://\S+", "(address)", " ".join(str(error).split()))
        raise pulumi.RunError(f"alicloud: {said[:_TOLD]}; {_NEXT}") from None
    finally:
        silence.cancel()
