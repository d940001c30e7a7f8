"""Firewalls as a kernel gives them back: ufw's by ufw, Docker's, firewalld's and an nftables.conf by their rules.

firewalls/*.txt are iptables-save's, *.json are `nft --json list ruleset`'s. -open: with the commands that `up` names.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rehearsal.cloud import firewall
from tests.builders.stack import PROJECT

FOLDER = Path(__file__).parent / "firewalls"
DOCKER = ["iptables -I DOCKER-USER -i we+ -j ACCEPT", "iptables -I DOCKER-USER -o we+ -j ACCEPT"]
UFW = ["ufw allow in on we+", "ufw route allow in on we+", "ufw route allow out on we+"]
CASES = {
    "docker.txt": (["FORWARD"], DOCKER),
    # What the machines send gets out, and no answer comes back.
    "docker-half.txt": (["FORWARD"], DOCKER),
    "docker-open.txt": ([], []),
    # Seen without iptables-save.
    "docker.json": (
        ["FORWARD"],
        [f"nft insert rule ip filter FORWARD {name} 'we*' accept" for name in ("iifname", "oifname")],
    ),
    "docker-open.json": ([], []),
    "legacy.txt": (["FORWARD"], [f"iptables -I FORWARD {way} we+ -j ACCEPT" for way in ("-i", "-o")]),
    "ufw.txt": (["INPUT", "FORWARD"], UFW),
    "ufw-in.txt": (["FORWARD"], UFW[1:]),
    "ufw-open.txt": ([], []),
    "server.json": (
        ["input", "forward"],
        [
            "nft insert rule inet filter input iifname 'we*' accept",
            *(f"nft insert rule inet filter forward {name} 'we*' accept" for name in ("iifname", "oifname")),
        ],
    ),
    "server-open.json": ([], []),
    "firewalld.json": (["filter_INPUT", "filter_FORWARD"], ["firewall-cmd --zone=trusted --add-interface=we+"]),
    "firewalld-open.json": ([], []),
}


def tables(name: str) -> Sequence[Mapping[str, firewall.Chain]]:
    text = (FOLDER / name).read_text()
    return [firewall.from_iptables(text)] if name.endswith(".txt") else firewall.from_nft(text)


def test_each_firewall_has_its_case() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_chains_that_drop_what_machines_need_are_named_with_the_commands(name: str) -> None:
    found = firewall.blocking(tables(name), "we12345678-1", "eth0")
    assert ([chain.name for chain in found], firewall.remedies(found)) == CASES[name]


@pytest.mark.parametrize(
    ("rules", "blocked"),
    [
        ("-A FORWARD -i we12345678-1 -j DROP", True),
        ("-A FORWARD -i we87654321-1 -j DROP", False),
        ("-A FORWARD ! -i eth0 -j REJECT --reject-with icmp-port-unreachable", True),
        # What is not known here may let it pass, or may not be asked.
        ("-A FORWARD -s 10.76.0.0/16 -j ACCEPT\n-A FORWARD -d 10.76.0.0/16 -j ACCEPT\n-A FORWARD -j DROP", False),
        ("-A FORWARD -s 10.99.0.0/16 -j DROP", False),
        ("-A FORWARD -m mark --mark 0x1 -j DROP", False),
        ("-A FORWARD -m socket -j DROP", False),
        ("-A FORWARD -j NFQUEUE --queue-num 0\n-A FORWARD -j DROP", False),
        # Rules count as far as they are reached.
        ("-A FORWARD -j ACCEPT\n-A FORWARD -j DROP", False),
        ("-A FORWARD -j ours\n-A FORWARD -j DROP\n-A ours -i we+ -j RETURN\n-A ours -j ACCEPT", True),
        ("-A FORWARD -g ours\n-A FORWARD -j DROP\n-A ours -i docker0 -j DROP", False),
        ("-A FORWARD -j LOG --log-prefix drop\n-A FORWARD -m comment --comment 'a -j DROP' -j ACCEPT", False),
        ("-A INPUT -p udp -m udp --dport 67 -j DROP", True),
        ("-A INPUT -p udp -m multiport --dports 53,1000:2000 -j DROP", True),
        ("-A INPUT -p udp -m udp --dport 54:66 -j DROP", False),
        ("-A INPUT -p tcp -m tcp --dport 53 -j DROP", False),
        ("-A INPUT -m conntrack --ctstate INVALID,UNTRACKED -j DROP", False),
        # Numbers and names, as with and without /etc/protocols and /etc/services.
        ("-A INPUT -p 17 -j DROP", True),
        ("-A INPUT -p 6 -j DROP", False),
        ("-A INPUT -p udp -m udp --dport domain -j DROP", False),
        ("-A INPUT -p udp -m multiport --dports bootps,53 -j DROP", False),
        ("-A INPUT -p udp -m udp ! --dport 60:70 -j DROP", True),
        # Comments say nothing, whatever they say.
        *(
            (f"-A FORWARD -m comment --comment {text} -j ACCEPT\n-A FORWARD -j DROP", False)
            for text in ("--dport", "-p", "-j", "!", '"-j DROP"')
        ),
        ("-A FORWARD -m comment --comment -j -j DROP", True),
        # What cannot be read drops nothing for certain.
        ('-A FORWARD -m comment --comment "a -j DROP\n-A FORWARD -j DROP', False),
        ("-A later -j ACCEPT\n:later - [0:0]\n-A FORWARD -j DROP", False),
        (":FORWARD\n-A FORWARD -j DROP", False),
    ],
)
def test_a_chain_is_refused_when_it_drops_for_certain(rules: str, blocked: bool) -> None:
    assert bool(firewall.blocking([firewall.from_iptables(table(rules))], "we12345678-1", "eth0")) is blocked


def table(rules: str) -> str:
    return f"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:ours - [0:0]\n{rules}\nCOMMIT\n"


OUT = "-A FORWARD -o eth0 -j ACCEPT\n-A FORWARD -i eth0 -m state --state ESTABLISHED -j ACCEPT\n-A FORWARD -j DROP"


@pytest.mark.parametrize(
    ("rules", "uplink", "blocked"),
    [(OUT, "eth0", False), (OUT, "tun0", True), (OUT, "", False), ("-A FORWARD -j DROP", "", True)],
)
def test_what_is_asked_of_an_uplink_that_is_not_known_may_hold(rules: str, uplink: str, blocked: bool) -> None:
    assert bool(firewall.blocking([firewall.from_iptables(table(rules))], "we12345678-1", uplink)) is blocked


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and the command ip")
@pytest.mark.parametrize(
    ("routes", "uplinks"),
    [
        ([], [""]),
        (["default dev one"], ["one"]),
        (["unreachable default"], [""]),
        (["default nexthop dev one nexthop dev two"], ["one", "two"]),
        # As OpenVPN and wg-quick lead everything through a tunnel.
        (["default dev one", "0.0.0.0/1 dev two", "128.0.0.0/1 dev two"], ["two"]),
        (["default dev one", "default dev two table 51820"], ["two"]),
    ],
)
def test_the_uplink_is_where_the_kernel_leads_packets(routes: list[str], uplinks: list[str]) -> None:
    """In a network namespace of its own."""
    commands = ["link add one type veth peer name two", "link set one up", "link set two up"]
    commands += ["rule add not fwmark 51820 table 51820", *(f"route add {route}" for route in routes)]
    program = "from rehearsal.cloud import firewall; print(firewall._uplink())"
    script = "\n".join(["set -e", *(f"ip {one}" for one in commands), f'exec {sys.executable} -c "{program}"'])
    done = subprocess.run(
        ["unshare", "-m", "-n", "sh", "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip() in uplinks, done.returncode) == (True, 0), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("condition", "blocked"),
    [
        ({"left": {"meta": {"key": "iifname"}}, "op": "==", "right": "we*"}, True),
        ({"left": {"meta": {"key": "iifname"}}, "op": "!=", "right": {"set": ["eth0", "lo"]}}, True),
        ({"left": {"meta": {"key": "iifname"}}, "op": "!=", "right": "@trusted"}, False),
        ({"left": {"payload": {"protocol": "udp", "field": "dport"}}, "op": "==", "right": 67}, True),
        ({"left": {"payload": {"protocol": "th", "field": "dport"}}, "op": "==", "right": {"range": [50, 70]}}, True),
        ({"left": {"payload": {"protocol": "tcp", "field": "dport"}}, "op": "==", "right": 67}, False),
        ({"left": {"payload": {"protocol": "sctp", "field": "dport"}}, "op": "==", "right": 67}, False),
        ({"left": {"&": [{"ct": {"key": "mark"}}, 1]}, "op": "==", "right": 1}, False),
        ({"left": {"payload": {"protocol": "udp", "field": "dport"}}, "op": ">", "right": 60}, False),
        ({"left": {"payload": {"protocol": "ip", "field": "saddr"}}, "op": "==", "right": "10.76.0.2"}, False),
        ({"left": {"payload": {"protocol": "ip6", "field": "hoplimit"}}, "op": "==", "right": 1}, False),
        ({"left": {"meta": {"key": "mark"}}, "op": "==", "right": 1}, False),
        ({"left": {"ct": {"key": "status"}}, "op": "in", "right": "dnat"}, False),
        # Numbers and names, as with and without /etc/protocols and /etc/services.
        ({"left": {"meta": {"key": "l4proto"}}, "op": "==", "right": 17}, True),
        ({"left": {"meta": {"key": "l4proto"}}, "op": "==", "right": 6}, False),
        ({"left": {"meta": {"key": "l4proto"}}, "op": "==", "right": {"range": [6, 17]}}, False),
        ({"left": {"payload": {"protocol": "ip", "field": "protocol"}}, "op": "==", "right": {"set": [6, 17]}}, True),
        ({"left": {"payload": {"protocol": "udp", "field": "dport"}}, "op": "!=", "right": "domain"}, False),
        (
            {"left": {"payload": {"protocol": "th", "field": "dport"}}, "op": "==", "right": {"range": [0, 10**12]}},
            True,
        ),
        # Text stands for what nft has no JSON for.
        ({"left": "osf name", "op": "==", "right": "Linux"}, False),
        ({"left": {"ct": {"key": "state"}}, "op": "in", "right": {"|": ["new", "established"]}}, False),
    ],
)
def test_what_nftables_asks_is_understood_or_left_open(condition: object, blocked: bool) -> None:
    place = {"family": "inet", "table": "mine"}
    chain = {**place, "name": "in", "type": "filter", "hook": "input", "policy": "accept"}
    rule = {**place, "chain": "in", "expr": [{"match": condition}, {"counter": None}, {"drop": None}]}
    assert bool(firewall.blocking(firewall.from_nft(ruleset(chain, rule)), "we12345678-1", "eth0")) is blocked


def ruleset(*objects: Mapping[str, object]) -> str:
    kinds = ("chain" if "hook" in one else "rule" for one in objects)
    return json.dumps(
        {"nftables": [{"metainfo": {}}, *({kind: one} for kind, one in zip(kinds, objects, strict=True))]}
    )


@pytest.mark.parametrize(
    ("statement", "blocked"),
    [
        ({"drop": None}, True),
        ({"reject": {"type": "icmpx"}}, True),
        ({"accept": None}, False),
        ({"return": None}, True),
        ({"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@verdicts"}}, False),
        ({"jump": {"chain": {"rules": []}}}, False),
        ({"queue": None}, False),
        ({"xt": None}, False),
        ({"limit": {"rate": 4, "per": "second"}}, True),
        # Text stands for what nft has no JSON for.
        ("synproxy mss 1460", False),
        ({}, False),
        ({"jump": "ours"}, False),
    ],
)
def test_what_nftables_does_is_understood_or_left_open(statement: object, blocked: bool) -> None:
    """One rule in a chain that drops what comes to its end."""
    place = {"family": "ip", "table": "mine"}
    chain = {**place, "name": "in", "type": "filter", "hook": "input", "policy": "drop"}
    text = ruleset(chain, {**place, "chain": "in", "expr": [{"log": {"prefix": "in "}}, statement]})
    assert bool(firewall.blocking(firewall.from_nft(text), "we12345678-1", "eth0")) is blocked


def test_a_rule_of_a_chain_that_is_not_there_is_no_error() -> None:
    place = {"family": "ip", "table": "mine"}
    assert firewall.from_nft(ruleset({**place, "chain": "in", "expr": [{"drop": None}]})) == []


_WORDS = """*filter :INPUT :FORWARD :ours -A INPUT FORWARD ours DROP ACCEPT - [0:0] -i we+ ! -p 6 udp
-m comment --comment --dport --dports 53 53: :x -j -g -s ' " \\"""
_LINES = st.lists(st.lists(st.sampled_from(_WORDS.split()), min_size=1, max_size=8).map(" ".join), max_size=12).map(
    "\n".join
)


@given(st.one_of(_LINES, _LINES.map(table), st.text()))
@example(table("-A FORWARD -j ours\n-A ours -j ours"))
def test_no_iptables_ruleset_is_an_error(text: str) -> None:
    firewall.blocking([firewall.from_iptables(text)], "we12345678-1", "eth0")


_NAMES = """nftables chain rule family table name hook policy type expr match left right op meta ct key payload
protocol field set range drop accept jump goto target ip inet filter input iifname dport == mine in"""
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(_NAMES.split()), st.text(max_size=3)
)
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(_NAMES.split()), inner), max_leaves=20
)
_PLACE = {"family": "ip", "table": "mine"}
_CHAIN = {**_PLACE, "name": "in", "type": "filter", "hook": "input", "policy": "drop"}


@given(st.one_of(st.text(), _JSON.map(json.dumps)))
@example("[" * 100_000)
@example('{"nftables": [' + "9" * 5000 + "]}")
def test_no_text_of_nftables_is_an_error(text: str) -> None:
    firewall.blocking(firewall.from_nft(text), "we12345678-1", "eth0")


@given(st.sampled_from(sorted(_CHAIN)), _JSON, _JSON, _JSON)
def test_no_ruleset_of_nftables_is_an_error(key: str, value: Any, statement: Any, body: Any) -> None:
    """One of a chain's fields, a statement and what is matched are whatever they are."""
    expr = [{"match": body}, statement, {"jump": {"target": "in"}}]
    found = firewall.from_nft(ruleset({**_CHAIN, key: value, "hook": "input"}, {**_PLACE, "chain": "in", "expr": expr}))
    firewall.blocking(found, "we12345678-1", "eth0")
