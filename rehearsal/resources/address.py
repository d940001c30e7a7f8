"""Public addresses: from a range that is routed nowhere, bound to a machine by a network forward of LXD."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rehearsal import addressing
from rehearsal.compare import Schema
from rehearsal.errors import RehearsalError
from rehearsal.lock import exclusive
from rehearsal.lxd import Lxd
from rehearsal.resources import pairs
from rehearsal.resources.base import Context, Resource, only
from rehearsal.state import Record, all_records, stacks


class EipAddress(Resource):
    """An address of 198.18.0.0/24, its own among all stacks of this machine."""

    prefix = "eip-"
    schema = Schema(
        updates=dict.fromkeys(
            ("addressName", "description", "tags", "bandwidth", "deletionProtection", "internetChargeType"), ""
        ),
        recorded=frozenset({"isp", "instanceChargeType", "paymentType", "resourceGroupId"}),
    )

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        with exclusive("addresses"):
            used = [other.facts["address"] for other in all_records(stacks()) if "address" in other.facts]
            address = addressing.free_address([*used, *in_use(context.host)])
            if address is None:
                raise RehearsalError(f"all addresses of {addressing.PUBLIC} are taken; destroy a stack")
            # Taken from here on, for this stack's bridges and for other stacks.
            context.state.put(replace(record, facts={"address": address}))
        context.published(address)
        return {"ipAddress": address, "status": "Available"}


def in_use(host: Lxd) -> list[str]:
    """Addresses that LXD's bridges forward, or still route: a stack's bridge may outlive its address."""
    found = []
    for network in host.get("/1.0/networks", recursion="1"):
        if network["managed"] and network["type"] == "bridge":
            found += [path.split("/")[-1] for path in host.get(f"/1.0/networks/{network['name']}/forwards")]
            found += [route.strip().split("/")[0] for route in network["config"].get("ipv4.routes", "").split(",")]
    return found


class EipAssociation(Resource):
    """A forward from the address to the machine. The security group's rules hold behind it."""

    schema = Schema(
        replaces=frozenset({"allocationId", "instanceId", "instanceType", "privateIpAddress"}),
        recorded=frozenset({"force"}),
        # An address that is still bound cannot be bound to the new server.
        delete_before_replace=True,
        away="the site",
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['allocationId']}:{inputs['instanceId']}"

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "instanceType", "EcsInstance")

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        address = context.state.by_id(pairs.ADDRESS, inputs["allocationId"])
        if address is None:
            raise RehearsalError(f"allocation_id {inputs['allocationId']} is no address of this stack")
        machine = context.state.by_id(pairs.INSTANCE, inputs["instanceId"])
        if machine is None:
            raise RehearsalError(f"instance_id {inputs['instanceId']} is no instance of this stack")
        public, private = address.facts["address"], machine.outputs["primaryIpAddress"]
        with context.network_lock:
            found = pairs.of_stack(context.host, context.stack)
            pair = next(pair for pair in found if pair.name == machine.outputs["rehearsalBridge"])
            bound = self._forwards(context, public)
            if bound:
                raise RehearsalError(f"IncorrectEipStatus: {public} is bound already; use delete_before_replace")
            context.state.put(replace(record, facts={"listen": public}))
            # First: LXD refuses a forward on an address that is routed to another bridge.
            pairs.route(context, pair, public)
            config = {"target_address": private, f"{pairs.TAG}stack": context.stack}
            context.host.post(
                f"/1.0/networks/{pair.name}/forwards",
                {"listen_address": public, "description": record.name, "config": config},
            )
            pairs.sync(context)
        context.say(f"SSH from this host ({pair.address.ip}/32) is let in beside the stack's own rules")
        return {}

    def exists(self, context: Context, record: Record) -> bool:
        return bool(self._forwards(context, record.facts["listen"]))

    def delete(self, context: Context, record: Record) -> None:
        if "listen" in record.facts:
            with context.network_lock:
                for path in self._forwards(context, record.facts["listen"]):
                    context.host.delete(path)
                pairs.sync(context)

    def _forwards(self, context: Context, public: str) -> list[str]:
        paths = [f"/1.0/networks/{pair.name}/forwards/{public}" for pair in pairs.of_stack(context.host, context.stack)]
        return [path for path in paths if context.host.find(path)]
