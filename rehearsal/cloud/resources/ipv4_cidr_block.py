"""More addresses of a VPC, for a switch in a second zone. A rehearsal has no machine there."""

from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.resource import Resource


class Ipv4CidrBlock(Resource[CloudContext]):
    schema = Schema(words={"vpcId": "a new network"}, replaces=frozenset({"vpcId", "secondaryCidrBlock"}))
