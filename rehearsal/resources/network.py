"""VPC, switch, security group and its rules. The bridges come with the first instance: see pairs.py."""

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from rehearsal import addressing
from rehearsal.compare import Schema
from rehearsal.errors import RehearsalError
from rehearsal.resources import pairs
from rehearsal.resources.base import Context, Resource, only
from rehearsal.state import Record

_NETWORK = "alicloud:vpc/network:Network"


class Network(Resource):
    """A VPC holds nothing of its own here: its switches' CIDRs decide."""

    prefix = "vpc-"
    schema = Schema(
        replaces=frozenset({"cidrBlock"}),
        updates={"vpcName": "", "description": "", "tags": "", "resourceGroupId": ""},
    )

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"status": "Available"}


class Switch(Resource):
    prefix = "vsw-"
    schema = Schema(
        replaces=frozenset({"cidrBlock", "vpcId", "zoneId"}),
        updates={"vswitchName": "", "description": "", "tags": ""},
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        if IPv4Network(inputs["cidrBlock"]).prefixlen > addressing.BLOCK:
            raise RehearsalError(
                f"cidrBlock={inputs['cidrBlock']!r} is not rehearsed; allowed: /{addressing.BLOCK} or larger"
            )

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        vpc = context.state.by_id(_NETWORK, inputs["vpcId"])
        if vpc is None:
            raise RehearsalError(f"vpc_id {inputs['vpcId']} is no VPC of this stack")
        inside, outside = inputs["cidrBlock"], vpc.inputs["cidrBlock"]
        if not IPv4Network(inside).subnet_of(IPv4Network(outside)):
            raise RehearsalError(f"cidr_block {inside} is not inside the VPC's {outside}")
        return {"status": "Available"}

    def delete(self, context: Context, record: Record) -> None:
        with context.network_lock:
            for pair in pairs.of_stack(context.host, context.stack):
                if pair.switch == record.id:
                    pairs.remove(context.host, pair)


class SecurityGroup(Resource):
    prefix = "sg-"
    schema = Schema(
        replaces=frozenset({"vpcId"}),
        updates={"securityGroupName": "", "description": "", "tags": "", "innerAccessPolicy": ""},
    )

    def update(
        self, context: Context, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        if "innerAccessPolicy" in keys:
            raise RehearsalError("changing inner_access_policy is not rehearsed; destroy the stack and run up again")
        return record.outputs

    def delete(self, context: Context, record: Record) -> None:
        with context.network_lock:
            for pair in pairs.of_stack(context.host, context.stack):
                if pair.group == record.id:
                    pairs.remove(context.host, pair)


class SecurityGroupRule(Resource):
    prefix = "sgr-"
    schema = Schema(
        replaces=frozenset(
            {
                "securityGroupId", "type", "ipProtocol", "portRange", "cidrIp", "sourceSecurityGroupId",
                "nicType", "policy", "priority",
            }
        ),
        updates={"description": ""},
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "type", "ingress")
        only(inputs, "ipProtocol", "tcp", "udp", "icmp", "all")
        only(inputs, "nicType", "intranet")
        only(inputs, "policy", "accept")
        only(inputs, "priority", 1)
        if not inputs.get("cidrIp") and not inputs.get("sourceSecurityGroupId"):
            raise RehearsalError("a rule needs cidr_ip or source_security_group_id")

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        pairs.sync(context)
        return {"securityGroupRuleId": record.id}

    def updated(self, context: Context) -> None:
        pairs.sync(context)

    def delete(self, context: Context, record: Record) -> None:
        # Without its record the rule is in no ACL; the engine removes that before.
        pairs.sync(context)
