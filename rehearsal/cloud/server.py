"""A server of ECS: a system container on the bridge of its switch and its security group.

An instance that the program registers and a member of a scaling group are made here alike.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from contract import paths
from rehearsal.cloud import group_bridge, machine, tokens, volume
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.daemon import POOL


class Place(NamedTuple):
    """Ids of a switch and of a security group, whose machines share a bridge."""

    switch: str
    group: str


class Booted(NamedTuple):
    """address: private. bridge: name of the bridge."""

    address: str
    bridge: str


def create(
    context: CloudContext, name: str, inputs: Mapping[str, Any], place: Place, tags: Mapping[str, str] | None = None
) -> Booted:
    """Make and start a machine. Returns when sshd answers. Raises RehearsalError.

    inputs: imageId, instanceType, userData and keyName as an Instance has them. tags: additional keys of its config.
    """
    bridge = group_bridge.ensure(context, place.switch, place.group)
    group = context.state.by_id(tokens.SECURITY_GROUP, place.group)
    isolated = group is not None and group.inputs.get("innerAccessPolicy") == "Drop"
    cache = context.images[inputs["imageId"]].cache
    shared = volume.devices(context, inputs.get("userData") or "")
    devices = {
        "root": {"type": "disk", "path": "/", "pool": POOL},
        "eth0": {
            "type": "nic",
            "network": bridge.name,
            "name": "eth0",
            # LXD's rules filter what comes from other networks; this separates machines on the same bridge.
            "security.port_isolation": str(isolated).lower(),
        },
        "cache": {"type": "disk", "source": str(cache), "path": "/var/cache/rehearsal", "readonly": "true"},
        **shared,
    }
    machine.make(context, name, inputs, devices, tags or {})
    machine.power(context, name, "start")
    booted = Booted(wait(context, name, bridge.name), bridge.name)
    if context.images[inputs["imageId"]].is_given:
        machine.let_in(context, name, inputs)
    if shared:
        # The machine itself would make this folder of the file system for root alone.
        context.lxd.exec(name, ["chmod", "0700", paths.STORE])
    return booted


def wait(context: CloudContext, name: str, bridge: str) -> str:
    """The private address of a machine that was started, when sshd answers. Raises RehearsalError."""
    address = machine.wait_for_address(context, name, bridge)
    machine.wait_for_sshd(context, name)
    return address
