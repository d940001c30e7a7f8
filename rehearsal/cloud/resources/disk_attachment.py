"""The attachment of a data disk to a machine: a disk device of LXD."""

from collections.abc import Mapping
from typing import Any

from contract import paths
from rehearsal.cloud import tokens, volume
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record


class DiskAttachment(Resource[CloudContext]):
    """The volume, mounted at paths.DATA on the machine."""

    schema = Schema(
        words={"instanceId": "a new server", "diskId": "a new disk"},
        replaces=frozenset({"diskId", "instanceId", "deleteWithInstance", "bootable"}),
        away=tokens.DATABASE,
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['diskId']}:{inputs['instanceId']}"

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "bootable", False)
        only(inputs, "deleteWithInstance", False)

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        disk = context.state.by_id(tokens.DISK, inputs["diskId"])
        if disk is None:
            raise RehearsalError(f"disk_id {inputs['diskId']} is no disk of this stack")
        machine = context.state.by_id(tokens.INSTANCE, inputs["instanceId"])
        if machine is None:
            raise RehearsalError(f"instance_id {inputs['instanceId']} is no instance of this stack")
        switch = context.state.by_id(tokens.SWITCH, machine.inputs["vswitchId"])
        if switch is None or switch.inputs["zoneId"] != disk.inputs["zoneId"]:
            raise RehearsalError(f"disk {disk.name} is in {disk.inputs['zoneId']}, {machine.name} in another zone")
        if volume.is_used(context, disk.id):
            raise RehearsalError(f"IncorrectDiskStatus: {disk.id} is attached already; use delete_before_replace")
        volume.attach(context, disk.id, machine.id)
        context.say(f"{disk.name} is mounted at {paths.DATA}; formatting and mounting /dev/vdb is not rehearsed")
        return {}

    def exists(self, context: CloudContext, record: Record) -> bool:
        return volume.is_attached(context, record.inputs["diskId"], record.inputs["instanceId"])

    def delete(self, context: CloudContext, record: Record) -> None:
        volume.detach(context, record.inputs["diskId"], record.inputs["instanceId"])
