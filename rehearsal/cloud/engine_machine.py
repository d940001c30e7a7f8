"""A machine that stands for something that the cloud runs: Debian 12 with a program, and nobody logs in to it.

EngineMachine ─┬─ Engine: RDS and Tair, on the servers' switch, with an allow list
               └─ the load balancer
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

SYSTEM = "debian12"
# ECS instance type whose CPUs and memory the machine has, whatever the instance class is.
_SIZE = "ecs.e-c1m1.large"
# Seconds for the package.
_INSTALLING = 300


class EngineMachine(Resource[CloudContext]):
    """Something that the cloud runs. Its id is the machine's name in LXD, and its bridge is its own."""

    def exists(self, context: CloudContext, record: Record) -> bool:
        return context.lxd.find(f"/1.0/instances/{record.id}") is not None

    def drift(self, context: CloudContext, record: Record) -> str:
        status = context.lxd.get(f"/1.0/instances/{record.id}")["status"]
        return "" if status == "Running" else f"it is {status.lower()}, and is started"

    def repair(self, context: CloudContext, record: Record) -> None:
        machine.power(context, record.id, "start")
        machine.wait_for_address(context, record.id, record.outputs["rehearsalBridge"])

    def boot(
        self, context: CloudContext, record: Record, base: image.BaseImage, bridge: str, nic: Mapping[str, str]
    ) -> str:
        """Make the machine and start it. Returns its address. bridge: name. nic: more of the machine's interface."""
        devices = {
            "root": {"type": "disk", "path": "/", "pool": POOL},
            "eth0": {"type": "nic", "network": bridge, "name": "eth0", **nic},
            "cache": {"type": "disk", "source": str(base.cache), "path": "/var/cache/rehearsal", "readonly": "true"},
        }
        of_image = replace(context, images={SYSTEM: base})
        machine.make(of_image, record.id, {"imageId": SYSTEM, "instanceType": _SIZE}, devices)
        machine.power(context, record.id, "start")
        return machine.wait_for_address(context, record.id, bridge)

    def install(self, context: CloudContext, record: Record, package: str, then: str = "") -> None:
        """Install a package of the OS. then: shell words that run after it."""
        script = (
            "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "
            f"{package}{then}"
        )
        context.lxd.exec(record.id, ["sh", "-ec", script], _INSTALLING)

    def delete(self, context: CloudContext, record: Record) -> None:
        machine.remove(context, record.id)
        with context.network_lock:
            for bridge in group_bridge.of_stack(context.host, context.stack):
                if bridge.group == record.id:
                    group_bridge.remove(context.host, bridge)


class Engine(EngineMachine):
    """An engine, which sets `package` and starts its program. Its standby is recorded alone.

    Its allow list is that of the machine's bridge, as a group's rules are.
    """

    package: str

    def check(self, inputs: Mapping[str, Any]) -> None:
        for key in ("vswitchId", "securityIps"):
            if not inputs.get(key):
                raise RehearsalError(f"an engine of the cloud without {key} is not rehearsed")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        base = image.ensure(SYSTEM, context.say)
        bridge = group_bridge.ensure(context, inputs["vswitchId"].partition(",")[0], record.id)
        address = self.boot(context, record, base, bridge.name, {})
        self.prepare(context, record)
        self.install(context, record, self.package)
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
