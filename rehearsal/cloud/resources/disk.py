"""A data disk: a volume of LXD that outlives the machines that it is attached to.

On ECS a disk is a block device that the machine formats and mounts. A container cannot have a block device, so here
the volume is a folder that is mounted when the disk is attached.
"""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.daemon import POOL
from rehearsal.cloud.lxd import STACK_TAG, Lxd, retry_busy
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record

VOLUMES = f"/1.0/storage-pools/{POOL}/volumes/custom"


class Disk(Resource[CloudContext]):
    """A volume in LXD's default project, tagged with the stack. Its size is recorded and limits nothing."""

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
        body = {"name": record.id, "content_type": "filesystem", "config": {STACK_TAG: context.stack}}
        context.host.post(VOLUMES, body)
        return {"status": "Available"}

    def exists(self, context: CloudContext, record: Record) -> bool:
        return context.host.find(f"{VOLUMES}/{record.id}") is not None

    def delete(self, context: CloudContext, record: Record) -> None:
        _remove(context.host, record.id)


def _remove(host: Lxd, name: str) -> None:
    retry_busy(lambda: host.delete(f"{VOLUMES}/{name}"))


def remove_all(host: Lxd, stack: str) -> None:
    """Delete every volume that is tagged with the stack, whatever the state knows. No machine may use one of them."""
    for volume in host.find(VOLUMES, recursion="1") or []:
        if volume["config"].get(STACK_TAG) == stack:
            _remove(host, volume["name"])
