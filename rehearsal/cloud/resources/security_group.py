"""A security group. Its bridges are made with its first instance: see group_bridge.py."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import group_bridge
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource
from rehearsal.engine.state import Record


class SecurityGroup(Resource[CloudContext]):
    prefix = "sg-"
    schema = Schema(
        words={"vpcId": "a new network"},
        replaces=frozenset({"vpcId"}),
        updates={"securityGroupName": "", "description": "", "tags": "", "innerAccessPolicy": ""},
    )

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        if "innerAccessPolicy" in keys:
            raise RehearsalError("changing inner_access_policy is not rehearsed; destroy the stack and run up again")
        return record.outputs

    def delete(self, context: CloudContext, record: Record) -> None:
        with context.network_lock:
            for bridge in group_bridge.of_stack(context.host, context.stack):
                if bridge.group == record.id:
                    group_bridge.remove(context.host, bridge)
