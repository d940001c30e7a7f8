"""The association of a public address with a machine: a network forward of LXD."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rehearsal.cloud import group_bridge, public_address, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record


class EipAssociation(Resource[CloudContext]):
    """A forward from the address to the machine. The rules of the machine's security group hold for it."""

    schema = Schema(
        words={"instanceId": "a new server", "allocationId": "a new address"},
        replaces=frozenset({"allocationId", "instanceId", "instanceType", "privateIpAddress"}),
        recorded=frozenset({"force"}),
        # An address that is still bound cannot be bound to the new server.
        delete_before_replace=True,
        away=tokens.SITE,
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['allocationId']}:{inputs['instanceId']}"

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "instanceType", "EcsInstance")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        public = public_address.of_allocation(context, inputs["allocationId"])
        machine = context.state.by_id(tokens.INSTANCE, inputs["instanceId"])
        if machine is None:
            raise RehearsalError(f"instance_id {inputs['instanceId']} is no instance of this stack")
        with context.network_lock:
            bridge = public_address.bridge_named(context, machine.outputs["rehearsalBridge"])
            public_address.check_free(context, public)
            context.state.put(replace(record, facts={"listen": public}))
            public_address.bind(context, bridge, public, machine.outputs["primaryIpAddress"], record.name)
            group_bridge.write_acls(context)
        context.say(f"SSH from this host ({bridge.address.ip}/32) is let in beside the stack's own rules")
        return {}

    def exists(self, context: CloudContext, record: Record) -> bool:
        return bool(public_address.forwards(context, record.facts["listen"]))

    def delete(self, context: CloudContext, record: Record) -> None:
        if "listen" in record.facts:
            public_address.unbind(context, [record.facts["listen"]])
