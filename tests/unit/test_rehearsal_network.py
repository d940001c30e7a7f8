"""Free addresses, and security group rules as rules of a network ACL."""

import os
import shutil
import subprocess
import sys
from ipaddress import IPv4Network
from typing import Any

import pytest

from rehearsal.cloud import tokens
from rehearsal.cloud.acl import ingress_rules
from rehearsal.cloud.addressing import free_address, free_part, gateway, last
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.registry import TYPES
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.state import Record
from tests.builders.stack import PROJECT
from tests.builders.stores import NOWHERE, cloud_context

GATEWAY = "10.76.0.1"
SOURCES = {"sg-1": ["10.76.0.0/27"], "sg-2": ["10.76.0.32/27"]}
OWN = {
    "action": "allow", "state": "enabled", "protocol": "tcp", "destination_port": "22", "source": "10.76.0.1/32",
    "description": "SSH from the rehearsing host",
}  # fmt: skip


def networks(*cidrs: str) -> list[IPv4Network]:
    return [IPv4Network(cidr) for cidr in cidrs]


@pytest.mark.parametrize(
    ("cidr", "prefix", "taken", "part"),
    [
        ("10.76.0.0/20", 27, [], "10.76.0.0/27"),
        ("10.76.0.0/20", 27, ["10.76.0.0/27", "10.76.0.32/27"], "10.76.0.64/27"),
        ("10.76.0.0/20", 27, ["10.76.0.9/32"], "10.76.0.32/27"),
        ("10.76.0.0/20", 24, ["10.76.0.64/27"], "10.76.1.0/24"),
        ("10.76.0.0/24", 24, [], "10.76.0.0/24"),
        ("10.76.0.0/26", 27, ["10.0.0.0/8"], None),
    ],
)
def test_the_next_part_that_nothing_covers_is_taken(cidr: str, prefix: int, taken: list[str], part: str | None) -> None:
    assert free_part(IPv4Network(cidr), prefix, networks(*taken)) == (IPv4Network(part) if part else None)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and the command ip")
def test_the_default_route_takes_nothing_not_even_in_halves() -> None:
    """In a network namespace of its own."""
    commands = ["link add one type veth peer name two", "link set one up", "link set two up"]
    commands += [f"route add {cidr} dev one" for cidr in ("default", "0.0.0.0/1", "128.0.0.0/1", "10.8.0.0/24")]
    program = "from rehearsal.cloud.addressing import routes; print(*routes())"
    script = "\n".join(["set -e", *(f"ip {one}" for one in commands), f'exec {sys.executable} -c "{program}"'])
    line = ["unshare", "-m", "-n", "sh", "-c", script]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "(IPv4Network('10.8.0.0/24'), 'one')\n"


def test_a_bridge_has_the_first_address_of_its_part() -> None:
    assert str(gateway(IPv4Network("10.76.0.32/27"))) == "10.76.0.33/27"


def test_a_block_has_its_last_address() -> None:
    assert str(last(IPv4Network("10.76.1.0/24"))) == "10.76.1.254/24"


def test_a_switch_holds_at_least_one_block() -> None:
    switch = TYPES[tokens.SWITCH]
    switch.check({"cidrBlock": "10.76.0.0/24"})
    with pytest.raises(RehearsalError, match=r"cidrBlock.*/24"):
        switch.check({"cidrBlock": "10.76.0.0/25"})


def test_public_addresses_are_given_out_one_by_one_until_there_are_none() -> None:
    assert free_address([]) == "198.18.0.1"
    assert free_address(["198.18.0.1", "198.18.0.3"]) == "198.18.0.2"
    assert free_address(f"198.18.0.{last}" for last in range(1, 255)) is None


def rule(**inputs: Any) -> dict[str, Any]:
    return {"ipProtocol": "tcp", "portRange": "80/80", "cidrIp": "0.0.0.0/0"} | inputs


def rendered(*rules: dict[str, Any]) -> list[dict[str, str]]:
    return ingress_rules(rules, GATEWAY, SOURCES, reached=True)


def test_without_rules_only_the_rehearsing_host_comes_in_by_ssh() -> None:
    assert rendered() == [OWN]


def test_without_a_public_address_not_even_the_host_comes_in() -> None:
    assert ingress_rules([], GATEWAY, SOURCES, reached=False) == []


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({}, {"protocol": "tcp", "destination_port": "80"}),
        ({"description": "The site"}, {"protocol": "tcp", "destination_port": "80", "description": "The site"}),
        (
            {"portRange": "8000/8010", "cidrIp": "203.0.113.0/24"},
            {"protocol": "tcp", "destination_port": "8000-8010", "source": "203.0.113.0/24"},
        ),
        ({"cidrIp": "203.0.113.7"}, {"protocol": "tcp", "destination_port": "80", "source": "203.0.113.7/32"}),
        ({"ipProtocol": "icmp", "portRange": "-1/-1"}, {"protocol": "icmp4"}),
        ({"ipProtocol": "all", "portRange": "-1/-1", "cidrIp": "10.0.0.0/8"}, {"source": "10.0.0.0/8"}),
    ],
)
def test_a_rule_says_the_same_in_lxd(inputs: dict[str, Any], expected: dict[str, str]) -> None:
    assert rendered(rule(**inputs))[1:] == [{"action": "allow", "state": "enabled", **expected}]


def test_a_source_group_becomes_the_addresses_of_its_bridges() -> None:
    one = {"ipProtocol": "tcp", "portRange": "5432/5432", "sourceSecurityGroupId": "sg-2"}
    assert [line.get("source") for line in rendered(one)[1:]] == ["10.76.0.32/27"]


def test_a_source_group_without_a_machine_opens_nothing() -> None:
    assert rendered({"ipProtocol": "tcp", "sourceSecurityGroupId": "sg-3"}) == [OWN]


def test_two_rules_that_say_the_same_become_one() -> None:
    assert len(rendered(rule(description="a"), rule(description="b"))) == 2


@pytest.mark.parametrize(
    "inputs",
    [{"type": "egress"}, {"policy": "drop"}, {"nicType": "internet"}, {"priority": 2}, {"ipProtocol": "gre"}],
)
def test_what_an_acl_cannot_say_is_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(RehearsalError, match=next(iter(inputs))):
        TYPES[tokens.SECURITY_GROUP_RULE].check(rule(**inputs))


@pytest.mark.parametrize("groups", [[], ["sg-1", "sg-2"]])
def test_an_instance_is_in_one_security_group(groups: list[str]) -> None:
    inputs = {"vswitchId": "v", "imageId": "i", "instanceType": "ecs.c7.large", "securityGroups": groups}
    with pytest.raises(RehearsalError, match="security groups"):
        TYPES[tokens.INSTANCE].check(inputs)


@pytest.mark.parametrize("key", ["imageId", "securityGroups"])
def test_a_change_in_place_that_is_not_rehearsed_is_refused(key: str) -> None:
    record = Record("1", "urn", tokens.INSTANCE, "machine", "i-1", {key: "old"}, {"rehearsalBridge": "we0"})
    with pytest.raises(RehearsalError, match="not rehearsed"):
        TYPES[tokens.INSTANCE].update(cloud_context(NOWHERE, Keys(NOWHERE)), record, {key: "new"}, (key,))
