"""A rule of a security group, which becomes rules of the network ACLs of the group's bridges."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import group_bridge
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record


class SecurityGroupRule(Resource[CloudContext]):
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

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        group_bridge.write_acls(context)
        return {"securityGroupRuleId": record.id}

    def updated(self, context: CloudContext) -> None:
        group_bridge.write_acls(context)

    def delete(self, context: CloudContext, record: Record) -> None:
        # The engine has marked the record as doomed before, so the ACLs leave this rule out.
        group_bridge.write_acls(context)
