"""A public address, from a range that is not routed on the Internet."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rehearsal.cloud import addressing
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.lock import host_lock
from rehearsal.cloud.lxd import Lxd
from rehearsal.cloud.store import all_records, projects
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource
from rehearsal.engine.state import Record


class EipAddress(Resource[CloudContext]):
    """An address of 198.18.0.0/24 that no other stack of this host has."""

    prefix = "eip-"
    schema = Schema(
        updates=dict.fromkeys(
            ("addressName", "description", "tags", "bandwidth", "deletionProtection", "internetChargeType"), ""
        ),
        recorded=frozenset({"isp", "instanceChargeType", "paymentType", "resourceGroupId"}),
    )

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        with host_lock("addresses"):
            used = [other.facts["address"] for other in all_records(projects()) if "address" in other.facts]
            # Beside LXD, an Incus of this host may have rehearsals, which are seen by their routes.
            routed = [str(network.network_address) for network, _ in addressing.routes()]
            address = addressing.free_address([*used, *in_use(context.host), *routed])
            if address is None:
                raise RehearsalError(f"all addresses of {addressing.PUBLIC} are taken; destroy a stack")
            # Record the address while the lock is held, so that no other stack takes it.
            context.state.put(replace(record, facts={"address": address}))
        context.published(address)
        return {"ipAddress": address, "status": "Available"}


def in_use(host: Lxd) -> list[str]:
    """Addresses that LXD's bridges forward or route. A bridge may route an address that its stack has given up."""
    found = []
    for network in host.get("/1.0/networks", recursion="1"):
        if network["managed"] and network["type"] == "bridge":
            # Another stack may delete its bridge at this moment.
            forwards = host.find(f"/1.0/networks/{network['name']}/forwards") or []
            found += [path.split("/")[-1] for path in forwards]
            found += [route.strip().split("/")[0] for route in network["config"].get("ipv4.routes", "").split(",")]
    return found
