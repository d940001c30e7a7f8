"""Bridges and ACLs of a stack with several security groups, on an LXD that only keeps what it is told."""

from contextlib import nullcontext
from ipaddress import IPv4Network
from typing import Any

import pytest

from rehearsal.cloud import addressing, group_bridge, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.lxd import STACK_TAG, LxdError
from rehearsal.cloud.resources import eip_address
from rehearsal.cloud.resources.eip_address import EipAddress, in_use
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.state import Record
from tests.builders.stores import NOWHERE, cloud_context


class Kept:
    """Networks and ACLs by their paths.

    making: how often each bridge is still said to be pending; vanished: paths that are listed and gone when asked for.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.making = 0
        self.vanished: set[str] = set()

    def get(self, path: str, **query: str) -> Any:
        if path in ("/1.0/networks", "/1.0/network-acls"):
            status, self.making = ("Pending" if self.making else "Created"), max(self.making - 1, 0)
            found = [value for key, value in self.objects.items() if key.startswith(f"{path}/")]
            return [{**item, "status": status, "managed": True} for item in found]
        if path.removesuffix("/forwards") in self.vanished:
            raise LxdError("Failed loading network: Network not found", 404)
        if path.endswith("/forwards"):
            return self.objects[path.removesuffix("/forwards")]["forwards"]
        return self.objects[path]

    def find(self, path: str, **query: str) -> Any | None:
        known = path.removesuffix("/forwards") in self.objects.keys() - self.vanished
        return self.get(path) if known else None

    def post(self, path: str, body: Any) -> None:
        new = {"description": "", "ingress": [], "forwards": [], "used_by": []}
        self.objects[f"{path}/{body['name']}"] = {**new, **body}

    def put(self, path: str, body: Any) -> None:
        self.objects[path] |= body

    def delete(self, path: str) -> None:
        del self.objects[path]

    def bridges(self) -> dict[str, str]:
        """Address → whether it translates."""
        return {
            network["config"]["ipv4.address"]: network["config"]["ipv4.nat"] for network in self.get("/1.0/networks")
        }


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> CloudContext:
    host = Kept()
    monkeypatch.setattr(group_bridge, "host_lock", lambda what: nullcontext())
    monkeypatch.setattr(addressing, "taken", lambda: [IPv4Network(address, strict=False) for address in host.bridges()])
    made = cloud_context(NOWHERE, Keys(NOWHERE), host)  # type: ignore[arg-type]
    made.state.put(
        Record(made.state.new_serial(), "urn:switch", tokens.SWITCH, "switch", "vsw-1", {"cidrBlock": "10.76.0.0/20"})
    )
    return made


def kept(context: CloudContext) -> Kept:
    assert isinstance(context.host, Kept)
    return context.host


def instance(context: CloudContext, group: str) -> Record:
    serial = context.state.new_serial()
    inputs = {"vswitchId": "vsw-1", "securityGroups": [group]}
    record = Record(serial, f"urn:{serial}", tokens.INSTANCE, f"machine-{serial}", f"i-{serial}", inputs)
    context.state.put(record)
    return record


def test_each_group_has_a_bridge_of_its_own_inside_one_block_that_translates(context: CloudContext) -> None:
    for group in ("sg-1", "sg-2", "sg-1"):
        group_bridge.ensure(context, "vsw-1", group)
    assert kept(context).bridges() == {"10.76.0.254/24": "true", "10.76.0.1/27": "false", "10.76.0.33/27": "false"}


def test_a_bridge_that_fails_by_an_interface_that_goes_away_is_made_anew(
    context: CloudContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, make = kept(context), kept(context).post
    failures = [LxdError('Device "veth1" does not exist.')] * 2

    def post(path: str, body: Any) -> None:
        assert f"{path}/{body['name']}" not in host.objects, "a name is free once"
        make(path, body)
        if path.endswith("/networks") and failures:
            raise failures.pop()

    monkeypatch.setattr(host, "post", post)
    group_bridge.ensure(context, "vsw-1", "sg-1")
    assert not failures
    assert set(host.bridges()) == {"10.76.0.1/27", "10.76.0.254/24"}


def test_another_stacks_block_is_left_alone(context: CloudContext) -> None:
    foreign = {"ipv4.address": "10.76.0.65/27", "ipv4.nat": "true", STACK_TAG: "other"}
    kept(context).post("/1.0/networks", {"name": "foreign", "type": "bridge", "config": foreign})
    assert str(group_bridge.ensure(context, "vsw-1", "sg-1").address) == "10.76.1.1/27"


def test_a_block_that_is_full_says_so(context: CloudContext) -> None:
    for number in range(7):
        group_bridge.ensure(context, "vsw-1", f"sg-{number}")
    with pytest.raises(RehearsalError, match=r"no free part in 10\.76\.0\.0/24"):
        group_bridge.ensure(context, "vsw-1", "sg-7")


def test_a_rule_learns_of_its_source_group_when_that_gets_its_bridge(context: CloudContext) -> None:
    rule = {"securityGroupId": "sg-1", "ipProtocol": "tcp", "portRange": "22/22", "sourceSecurityGroupId": "sg-2"}
    context.state.put(Record(context.state.new_serial(), "urn:rule", tokens.SECURITY_GROUP_RULE, "rule", "sgr-1", rule))
    app = group_bridge.ensure(context, "vsw-1", "sg-1")
    acl = f"/1.0/network-acls/{app.name}"
    assert kept(context).get(acl)["ingress"] == []
    front = instance(context, "sg-2")
    group_bridge.ensure(context, "vsw-1", "sg-2")
    assert [line["source"] for line in kept(context).get(acl)["ingress"]] == ["10.76.0.32/27"]
    group_bridge.leave(context, front)
    assert kept(context).get(acl)["ingress"] == []


def test_a_bridge_goes_with_its_last_instance_and_the_block_with_the_last_bridge(context: CloudContext) -> None:
    old, new, other = instance(context, "sg-1"), instance(context, "sg-1"), instance(context, "sg-2")
    for record in (old, other):
        group_bridge.ensure(context, "vsw-1", record.inputs["securityGroups"][0])
    group_bridge.leave(context, old)
    assert "10.76.0.1/27" in kept(context).bridges(), "another one has its record, though not its machine yet"
    context.state.put(context.state.doom(new))
    group_bridge.leave(context, old)
    assert set(kept(context).bridges()) == {"10.76.0.33/27", "10.76.0.254/24"}
    group_bridge.leave(context, other)
    assert kept(context).objects == {}


def test_a_rule_lets_in_the_machines_of_another_switch(context: CloudContext) -> None:
    """LXD asks the ACL before it translates what leaves the block of a switch."""
    rule = {"securityGroupId": "sg-1", "ipProtocol": "tcp", "portRange": "22/22", "sourceSecurityGroupId": "sg-2"}
    context.state.put(Record(context.state.new_serial(), "urn:rule", tokens.SECURITY_GROUP_RULE, "rule", "sgr-1", rule))
    second = Record(context.state.new_serial(), "urn:s", tokens.SWITCH, "s", "vsw-2", {"cidrBlock": "10.76.16.0/23"})
    context.state.put(second)
    near, far = (group_bridge.ensure(context, switch, "sg-1") for switch in ("vsw-1", "vsw-2"))
    group_bridge.ensure(context, "vsw-1", "sg-2")
    sources = [
        [line["source"] for line in kept(context).get(f"/1.0/network-acls/{bridge.name}")["ingress"]]
        for bridge in (near, far)
    ]
    assert sources == [["10.76.0.32/27"], ["10.76.0.32/27"]]


def test_the_bridges_of_a_scaling_group_go_with_its_last_configuration(context: CloudContext) -> None:
    context.state.put(
        Record(context.state.new_serial(), "urn:s", tokens.SWITCH, "s", "vsw-2", {"cidrBlock": "10.76.16.0/23"}),
        Record("90", "urn:g", tokens.SCALING_GROUP, "g", "asg-1", {"vswitchIds": ["vsw-1", "vsw-2"]}),
    )
    old, new = (
        Record(serial, "urn:c", tokens.SCALING_CONFIGURATION, "c", f"asc-{serial}", inputs)
        for serial, inputs in (
            (serial, {"scalingGroupId": "asg-1", "securityGroupIds": ["sg-1"]}) for serial in ("91", "92")
        )
    )
    context.state.put(context.state.doom(old), new)
    for switch in ("vsw-1", "vsw-2"):
        bridge = group_bridge.ensure(context, switch, "sg-1")
        (rule,) = kept(context).get(f"/1.0/network-acls/{bridge.name}")["ingress"]
        assert (rule["source"], rule["destination_port"]) == (f"{bridge.address.ip}/32", "22")
    group_bridge.leave(context, old)
    assert len(kept(context).bridges()) == 4, "the next configuration makes machines on them"
    context.state.put(context.state.doom(new))
    group_bridge.leave(context, new)
    assert kept(context).objects == {}


def test_a_bridge_with_a_machine_on_it_stays(context: CloudContext) -> None:
    record = instance(context, "sg-1")
    bridge = group_bridge.ensure(context, "vsw-1", "sg-1")
    kept(context).objects[f"/1.0/networks/{bridge.name}"]["used_by"] = ["/1.0/instances/i-9"]
    group_bridge.leave(context, record)
    assert "10.76.0.1/27" in kept(context).bridges()


def test_what_lxd_is_still_making_is_waited_for(context: CloudContext) -> None:
    group_bridge.ensure(context, "vsw-1", "sg-1")
    kept(context).making = 2
    group_bridge.remove_all(context.host, "test")
    assert kept(context).making == 0
    assert kept(context).objects == {}


def test_an_address_is_in_use_while_a_bridge_routes_it(context: CloudContext) -> None:
    bridge = group_bridge.ensure(context, "vsw-1", "sg-1")
    network = kept(context).objects[f"/1.0/networks/{bridge.name}"]
    network["config"]["ipv4.routes"] = "198.18.0.1/32,198.18.0.2/32"
    network["forwards"] = [f"/1.0/networks/{bridge.name}/forwards/198.18.0.3"]
    assert {"198.18.0.1", "198.18.0.2", "198.18.0.3"} <= set(in_use(context.host))


def test_an_address_that_another_daemons_bridge_has_is_not_given_away(
    context: CloudContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eip_address, "projects", dict)
    monkeypatch.setattr(eip_address, "host_lock", lambda what: nullcontext())
    monkeypatch.setattr(addressing, "routes", lambda: [(IPv4Network("198.18.0.1/32"), "we0-1")])
    record = Record(context.state.new_serial(), "urn:eip", tokens.EIP_ADDRESS, "eip", "", {})
    assert EipAddress().create(context, record, {})["ipAddress"] == "198.18.0.2"


def test_a_bridge_that_its_stack_deletes_meanwhile_holds_no_address(context: CloudContext) -> None:
    bridge = group_bridge.ensure(context, "vsw-1", "sg-1")
    kept(context).vanished = {f"/1.0/networks/{bridge.name}"}
    assert set(in_use(context.host)) == {""}
