"""A switch (VSwitch) of a VPC. Its bridges are made with its first instance: see group_bridge.py."""

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from rehearsal.cloud import addressing, group_bridge, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource
from rehearsal.engine.state import Record


class Switch(Resource[CloudContext]):
    prefix = "vsw-"
    schema = Schema(
        words={"vpcId": "a new network"},
        replaces=frozenset({"cidrBlock", "vpcId", "zoneId"}),
        updates={"vswitchName": "", "description": "", "tags": ""},
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        if IPv4Network(inputs["cidrBlock"]).prefixlen > addressing.BLOCK:
            raise RehearsalError(
                f"cidrBlock={inputs['cidrBlock']!r} is not rehearsed; allowed: /{addressing.BLOCK} or larger"
            )

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        vpc = context.state.by_id(tokens.VPC, inputs["vpcId"])
        if vpc is None:
            raise RehearsalError(f"vpc_id {inputs['vpcId']} is no VPC of this stack")
        inside, outside = inputs["cidrBlock"], [vpc.inputs["cidrBlock"]]
        blocks = context.state.records(tokens.IPV4_CIDR_BLOCK)
        outside += [block.inputs["secondaryCidrBlock"] for block in blocks if block.inputs["vpcId"] == vpc.id]
        if not any(map(IPv4Network(inside).subnet_of, map(IPv4Network, outside))):
            raise RehearsalError(f"cidr_block {inside} is not inside the VPC's {', '.join(outside)}")
        return {"status": "Available"}

    def delete(self, context: CloudContext, record: Record) -> None:
        with context.network_lock:
            for bridge in group_bridge.of_stack(context.host, context.stack):
                if bridge.switch == record.id:
                    group_bridge.remove(context.host, bridge)
