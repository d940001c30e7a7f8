"""A data disk: a volume of LXD that outlives the machines that it is attached to.

On ECS a disk is a block device that the machine formats and mounts. A container cannot have a block device, so here
the volume is a folder that is mounted when the disk is attached.
"""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import volume
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record


class Disk(Resource[CloudContext]):
    prefix = "d-"
    schema = Schema(
        replaces=frozenset({"zoneId", "encrypted"}),
        grows=frozenset({"size"}),
        updates=dict.fromkeys(
            (
                "diskName", "description", "tags", "size", "type", "category", "performanceLevel",
                "deleteWithInstance", "deleteAutoSnapshot", "resourceGroupId",
            ),
            "",
        ),
        recorded=frozenset({"paymentType"}),
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "paymentType", "PayAsYouGo")
        only(inputs, "deleteWithInstance", False)
        for key in ("zoneId", "size"):
            if not inputs.get(key):
                raise RehearsalError(f"a disk without {key} is not rehearsed")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        volume.make(context, record.id)
        return {"status": "Available"}

    def exists(self, context: CloudContext, record: Record) -> bool:
        return volume.exists(context, record.id)

    def delete(self, context: CloudContext, record: Record) -> None:
        volume.remove(context.host, record.id)
