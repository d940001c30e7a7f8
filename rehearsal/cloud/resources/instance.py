"""An instance: a system container with the type's CPU and memory, user data and sshd."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import group_bridge, machine, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.daemon import POOL
from rehearsal.cloud.instance_types import size
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record

# Changes in place that are refused, and what to do instead.
_REFUSED = {
    "securityGroups": "moving an instance to another security group is not rehearsed; replace it",
    "imageId": "changing image_id in place is not rehearsed; use ignore_changes or replace the instance",
}


class Instance(Resource[CloudContext]):
    """The machine's name in LXD is the instance's id, so an old and a new machine can exist at the same time."""

    prefix = "i-"
    schema = Schema(
        replaces=frozenset({"vswitchId", "availabilityZone", "privateIp", "spotStrategy", "systemDiskEncrypted"}),
        words={
            **dict.fromkeys(("replacement_trigger", "userData"), "changed user data"),
            "vswitchId": "a new network",
        },
        grows=frozenset({"systemDiskSize"}),
        updates={
            "userData": "reboots, and cloud-init does not run again",
            "instanceType": "restarts",
            "keyName": "reboots",
            "status": "",
            **dict.fromkeys(("instanceName", "description", "tags", "volumeTags", *_REFUSED), ""),
            **dict.fromkeys(("deletionProtection", "systemDiskCategory", "systemDiskSize"), ""),
            **dict.fromkeys(("internetMaxBandwidthOut", "instanceChargeType", "forceDelete"), ""),
        },
        recorded=frozenset(
            {
                "systemDiskName", "systemDiskDescription", "systemDiskPerformanceLevel", "spotPriceLimit",
                "spotDuration", "creditSpecification", "internetChargeType", "stoppedMode", "resourceGroupId",
                "securityEnhancementStrategy", "httpTokens", "httpEndpoint", "hostName",
            }
        ),
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "status", "Running")
        only(inputs, "internetMaxBandwidthOut", 0)
        groups = inputs.get("securityGroups") or []
        if len(groups) != 1:
            raise RehearsalError(f"an instance in {len(groups)} security groups is not rehearsed; allowed: one")
        for key in ("vswitchId", "imageId", "instanceType"):
            if not inputs.get(key):
                raise RehearsalError(f"an instance without {key} is not rehearsed")
        size(inputs["instanceType"])

    def exists(self, context: CloudContext, record: Record) -> bool:
        return context.lxd.find(f"/1.0/instances/{record.id}") is not None

    def drift(self, context: CloudContext, record: Record) -> str:
        status = context.lxd.get(f"/1.0/instances/{record.id}")["status"]
        return "" if status == "Running" else f"it is {status.lower()}, and is started"

    def repair(self, context: CloudContext, record: Record) -> None:
        machine.power(context, record.id, "start")
        machine.wait_for_sshd(context, record.id)

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        bridge = group_bridge.ensure(context, inputs["vswitchId"], inputs["securityGroups"][0])
        group = context.state.by_id(tokens.SECURITY_GROUP, bridge.group)
        isolated = group is not None and group.inputs.get("innerAccessPolicy") == "Drop"
        cache = context.images[inputs["imageId"]].cache
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
        }
        machine.make(context, record.id, inputs, devices)
        machine.power(context, record.id, "start")
        outputs = self._outputs(context, record.id, bridge.name, inputs)
        if context.images[inputs["imageId"]].is_given:
            machine.let_in(context, record.id, inputs)
        return outputs

    def _outputs(self, context: CloudContext, name: str, bridge: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        address = machine.wait_for_address(context, name, bridge)
        machine.wait_for_sshd(context, name)
        limits = size(inputs["instanceType"])
        return {
            "primaryIpAddress": address,
            "privateIp": address,
            "publicIp": "",
            "cpu": limits.cpu,
            "memory": limits.memory,
            "osType": "linux",
            "osName": context.images[inputs["imageId"]].os_name,
            "status": "Running",
            "rehearsalBridge": bridge,
        }

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        for key, reason in _REFUSED.items():
            if key in keys:
                raise RehearsalError(reason)
        if not {"userData", "instanceType", "keyName"} & set(keys):
            return record.outputs
        context.lxd.patch(f"/1.0/instances/{record.id}", {"config": machine.config(context, inputs)})
        if "keyName" in keys:
            machine.authorize(context, record.id, machine.public_keys(context, inputs))
        machine.power(context, record.id, "restart")
        return self._outputs(context, record.id, record.outputs["rehearsalBridge"], inputs)

    def delete(self, context: CloudContext, record: Record) -> None:
        machine.remove(context, record.id)
        group_bridge.leave(context, record)
