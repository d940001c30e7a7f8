"""A VPC. It holds nothing here: the CIDRs of its switches decide."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.resource import Resource
from rehearsal.engine.state import Record


class Vpc(Resource[CloudContext]):
    prefix = "vpc-"
    schema = Schema(
        updates={"cidrBlock": "", "vpcName": "", "description": "", "tags": "", "resourceGroupId": ""},
    )

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"status": "Available"}
