"""An instance: a system container with the type's CPU and memory, user data and sshd."""

from collections.abc import Mapping
from typing import Any

from contract.resources import FIRST_CONTACT
from rehearsal.cloud import group_bridge, machine, server
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.instance_types import size
from rehearsal.cloud.server import Booted, Place
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record

# Changes in place that are refused, and what to do instead.
_REFUSED = {
    "securityGroups": "moving an instance to another security group is not rehearsed; replace it",
    "imageId": "changing image_id in place is not rehearsed; use ignore_changes or replace the instance",
}


def _without_secret(user_data: str) -> str:
    return "".join(line for line in user_data.splitlines(keepends=True) if not line.startswith(FIRST_CONTACT))


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
        without_secret={"userData": _without_secret},
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
        place = Place(inputs["vswitchId"], inputs["securityGroups"][0])
        booted = server.create(context, record.id, inputs, place)
        return {**self._outputs(context, booted, inputs), "userData": inputs.get("userData")}

    def _outputs(self, context: CloudContext, booted: Booted, inputs: Mapping[str, Any]) -> dict[str, Any]:
        limits = size(inputs["instanceType"])
        return {
            "primaryIpAddress": booted.address,
            "privateIp": booted.address,
            "publicIp": "",
            "cpu": limits.cpu,
            "memory": limits.memory,
            "osType": "linux",
            "osName": context.images[inputs["imageId"]].os_name,
            "status": "Running",
            "rehearsalBridge": booted.bridge,
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
        bridge = record.outputs["rehearsalBridge"]
        return self._outputs(context, Booted(server.wait(context, record.id, bridge), bridge), inputs)

    def delete(self, context: CloudContext, record: Record) -> None:
        machine.remove(context, record.id)
        group_bridge.leave(context, record)
