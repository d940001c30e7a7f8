"""A file system of NAS: a volume of LXD that several machines have at the same time."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import volume
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record


class NasFileSystem(Resource[CloudContext]):
    prefix = "nas-"
    schema = Schema(
        replaces=frozenset({"protocolType", "storageType", "encryptType", "zoneId"}),
        updates={"description": "", "tags": ""},
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "protocolType", "NFS")
        only(inputs, "storageType", "Capacity", "Performance")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        volume.make(context, record.id)
        return {"status": "Running"}

    def exists(self, context: CloudContext, record: Record) -> bool:
        return volume.exists(context, record.id)

    def delete(self, context: CloudContext, record: Record) -> None:
        volume.remove(context.host, volume.store_of(record.id))
        volume.remove(context.host, record.id)
