"""The association of a public address with a machine: a network forward of LXD."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rehearsal.cloud import group_bridge, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.lxd import STACK_TAG
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
        address = context.state.by_id(tokens.EIP_ADDRESS, inputs["allocationId"])
        if address is None:
            raise RehearsalError(f"allocation_id {inputs['allocationId']} is no address of this stack")
        machine = context.state.by_id(tokens.INSTANCE, inputs["instanceId"])
        if machine is None:
            raise RehearsalError(f"instance_id {inputs['instanceId']} is no instance of this stack")
        public, private = address.facts["address"], machine.outputs["primaryIpAddress"]
        with context.network_lock:
            bridges = group_bridge.of_stack(context.host, context.stack)
            bridge = next(bridge for bridge in bridges if bridge.name == machine.outputs["rehearsalBridge"])
            if self._forwards(context, public):
                raise RehearsalError(f"IncorrectEipStatus: {public} is bound already; use delete_before_replace")
            context.state.put(replace(record, facts={"listen": public}))
            # Move the route first: LXD refuses a forward on an address that is routed to another bridge.
            group_bridge.route(context, bridge, public)
            config = {"target_address": private, STACK_TAG: context.stack}
            context.host.post(
                f"/1.0/networks/{bridge.name}/forwards",
                {"listen_address": public, "description": record.name, "config": config},
            )
            group_bridge.write_acls(context)
        context.say(f"SSH from this host ({bridge.address.ip}/32) is let in beside the stack's own rules")
        return {}

    def exists(self, context: CloudContext, record: Record) -> bool:
        return bool(self._forwards(context, record.facts["listen"]))

    def delete(self, context: CloudContext, record: Record) -> None:
        if "listen" in record.facts:
            with context.network_lock:
                for path in self._forwards(context, record.facts["listen"]):
                    context.host.delete(path)
                group_bridge.write_acls(context)

    def _forwards(self, context: CloudContext, public: str) -> list[str]:
        """API paths of the forwards of an address."""
        bridges = group_bridge.of_stack(context.host, context.stack)
        paths = [f"/1.0/networks/{bridge.name}/forwards/{public}" for bridge in bridges]
        return [path for path in paths if context.host.find(path)]
