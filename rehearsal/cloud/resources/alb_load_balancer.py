"""A load balancer (ALB): HAProxy of Debian 12 on a machine that nobody logs in to, for both zones.

    public addresses ─▶ HAProxy ── source: an address of the balancer's own switch ─▶ the servers

LXD would translate the source of what goes from one switch's block to another's. So the machine is on a bridge of the
servers' switch, and has an address of its own switch beside, which the servers see.
"""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

from rehearsal.cloud import addressing, group_bridge, image, public_address, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.engine_machine import SYSTEM, EngineMachine
from rehearsal.cloud.haproxy import CERTIFICATES
from rehearsal.cloud.lock import host_lock
from rehearsal.cloud.store import all_records, projects
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import only
from rehearsal.engine.state import Record

_STOP = f" && install -d -m 0700 {CERTIFICATES} && systemctl daemon-reload && systemctl stop haproxy"
_DROP_IN = "/etc/systemd/system/haproxy.service.d/source.conf"


class LoadBalancer(EngineMachine):
    prefix = "alb-"
    schema = Schema(
        words={"vpcId": "a new network"},
        replaces=frozenset(
            {"vpcId", "addressType", "addressAllocatedMode", "addressIpVersion", "loadBalancerBillingConfig"}
        ),
        updates=dict.fromkeys(("loadBalancerName", "loadBalancerEdition", "tags"), ""),
        recorded=frozenset({"zoneMappings"}),
        away=tokens.SITE,
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "addressType", "Internet")
        only(inputs, "addressAllocatedMode", "Fixed")
        if len(inputs["zoneMappings"]) != 2:
            raise RehearsalError("a load balancer that is not in two zones is not rehearsed")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        base = image.ensure(SYSTEM, context.say)
        addresses = [public_address.of_allocation(context, each["allocationId"]) for each in inputs["zoneMappings"]]
        source = self._source(context, record, inputs, addresses)
        bridge = group_bridge.ensure(context, _servers_switch(context, inputs["vpcId"]), record.id)
        private = self.boot(context, record, base, bridge.name, {"ipv4.routes": f"{source}/32"})
        drop_in = f"[Service]\nExecStartPre=+/bin/ip address replace {source}/32 dev lo\n"
        context.lxd.exec(record.id, ["install", "-d", _DROP_IN.rpartition("/")[0]])
        context.lxd.write(record.id, _DROP_IN, drop_in, "0644")
        self.install(context, record, "haproxy", _STOP)
        with context.network_lock:
            # Its routes may have changed.
            bridge = public_address.bridge_named(context, bridge.name)
            for public in addresses:
                public_address.check_free(context, public)
                public_address.bind(context, bridge, public, private, record.name)
                bridge = public_address.bridge_named(context, bridge.name)
            group_bridge.write_acls(context)
        return {"dnsName": f"{record.id}.rehearsal.invalid", "status": "Active", "rehearsalBridge": bridge.name}

    def _source(self, context: CloudContext, record: Record, inputs: Mapping[str, Any], addresses: list[str]) -> str:
        """An address of the first of its switches that nothing of this host has, which the record keeps."""
        switch = context.state.by_id(tokens.SWITCH, inputs["zoneMappings"][0]["vswitchId"])
        if switch is None:
            raise RehearsalError("vswitch_id of zone_mappings is no switch of this stack")
        with host_lock("addresses"):
            used = [IPv4Network(each.facts["source"]) for each in all_records(projects()) if "source" in each.facts]
            hosts = IPv4Network(switch.inputs["cidrBlock"])
            ends = [IPv4Network(hosts.network_address), IPv4Network(hosts.broadcast_address)]
            found = addressing.free_part(hosts, 32, [*used, *ends, *addressing.taken()])
            if found is None:
                raise RehearsalError(f"no free address in {hosts}; set network.entrance_cidr to another")
            source = str(found.network_address)
            context.state.put(replace(record, facts={"source": source, "listen": addresses}))
        return source

    def delete(self, context: CloudContext, record: Record) -> None:
        public_address.unbind(context, record.facts.get("listen", []))
        super().delete(context, record)


def _servers_switch(context: CloudContext, vpc: str) -> str:
    """Id of the switch that has the VPC's first addresses. Raises RehearsalError without one."""
    network = context.state.by_id(tokens.VPC, vpc)
    for switch in context.state.records(tokens.SWITCH):
        is_first = network is not None and switch.inputs["cidrBlock"] == network.inputs["cidrBlock"]
        if is_first and switch.inputs["vpcId"] == vpc and switch.status != "doomed":
            return switch.id
    raise RehearsalError(f"vpc_id {vpc} has no switch for servers")
