"""The servers of a load balancer: what HAProxy calls a backend."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import haproxy
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only


class ServerGroup(Resource[CloudContext]):
    prefix = "sgp-"
    schema = Schema(
        words={"vpcId": "a new network"},
        replaces=frozenset({"vpcId", "protocol", "serverGroupType"}),
        updates=dict.fromkeys(
            (
                "servers", "healthCheckConfig", "connectionDrainConfig", "stickySessionConfig", "scheduler",
                "serverGroupName", "tags",
            ),
            "",
        ),
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "protocol", "HTTP")
        only(inputs, "serverGroupType", "Instance")
        only(inputs, "scheduler", "Wrr")
        for key in ("healthCheckConfig", "connectionDrainConfig", "stickySessionConfig"):
            if not inputs.get(key):
                raise RehearsalError(f"a group of servers without {key} is not rehearsed")

    def updated(self, context: CloudContext) -> None:
        haproxy.write_all(context)
