"""A machine that stands for an engine of the cloud: Debian 12 with the engine's own program, and nobody logs in to it.

The standby is recorded alone. The allow list of the engine is that of the machine's bridge, as a group's rules are.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rehearsal.cloud import group_bridge, image, machine
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.daemon import POOL
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource
from rehearsal.engine.state import Record

_SYSTEM = "debian12"
# ECS instance type whose CPUs and memory the machine has, whatever the instance class is.
_SIZE = "ecs.e-c1m1.large"
# Seconds for the package.
_INSTALLING = 300


class EngineMachine(Resource[CloudContext]):
    """An engine. Its id is the machine's name in LXD. Each engine sets `package` and starts its program."""

    package: str

    def check(self, inputs: Mapping[str, Any]) -> None:
        for key in ("vswitchId", "securityIps"):
            if not inputs.get(key):
                raise RehearsalError(f"an engine of the cloud without {key} is not rehearsed")

    def exists(self, context: CloudContext, record: Record) -> bool:
        return context.lxd.find(f"/1.0/instances/{record.id}") is not None

    def drift(self, context: CloudContext, record: Record) -> str:
        status = context.lxd.get(f"/1.0/instances/{record.id}")["status"]
        return "" if status == "Running" else f"it is {status.lower()}, and is started"

    def repair(self, context: CloudContext, record: Record) -> None:
        machine.power(context, record.id, "start")
        machine.wait_for_address(context, record.id, record.outputs["rehearsalBridge"])

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        base = image.ensure(_SYSTEM, context.say)
        bridge = group_bridge.ensure(context, inputs["vswitchId"].partition(",")[0], record.id)
        devices = {
            "root": {"type": "disk", "path": "/", "pool": POOL},
            "eth0": {"type": "nic", "network": bridge.name, "name": "eth0"},
            "cache": {"type": "disk", "source": str(base.cache), "path": "/var/cache/rehearsal", "readonly": "true"},
        }
        of_image = replace(context, images={_SYSTEM: base})
        machine.make(of_image, record.id, {"imageId": _SYSTEM, "instanceType": _SIZE}, devices)
        machine.power(context, record.id, "start")
        address = machine.wait_for_address(context, record.id, bridge.name)
        self.prepare(context, record)
        install = (
            "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "
            + self.package
        )
        context.lxd.exec(record.id, ["sh", "-ec", install], _INSTALLING)
        self.start(context, record, inputs)
        return {**self.found(address), "status": "Running", "rehearsalBridge": bridge.name}

    def prepare(self, context: CloudContext, record: Record) -> None:
        """Called before the package is installed."""

    def start(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> None:
        """Configure the program that the package has brought, and wait until it answers."""
        raise NotImplementedError

    def found(self, address: str) -> dict[str, Any]:
        """Return the outputs that say where the engine is."""
        raise NotImplementedError

    def updated(self, context: CloudContext) -> None:
        group_bridge.write_acls(context)

    def delete(self, context: CloudContext, record: Record) -> None:
        machine.remove(context, record.id)
        with context.network_lock:
            for bridge in group_bridge.of_stack(context.host, context.stack):
                if bridge.group == record.id:
                    group_bridge.remove(context.host, bridge)
