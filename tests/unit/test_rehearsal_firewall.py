"""Firewalls as a kernel gives them back: ufw's by ufw, Docker's, firewalld's and an nftables.conf by their rules.

firewalls/*.txt are iptables-save's, *.json are `nft --json list ruleset`'s. -open: with the commands that `up` names.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from rehearsal import firewall

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
    ],
)
def test_a_chain_is_refused_when_it_drops_for_certain(rules: str, blocked: bool) -> None:
    text = f"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:ours - [0:0]\n{rules}\nCOMMIT\n"
    assert bool(firewall.blocking([firewall.from_iptables(text)], "we12345678-1", "eth0")) is blocked


@pytest.mark.parametrize(
    ("condition", "blocked"),
    [
        ({"left": {"meta": {"key": "iifname"}}, "op": "==", "right": "we*"}, True),
        ({"left": {"meta": {"key": "iifname"}}, "op": "!=", "right": {"set": ["eth0", "lo"]}}, True),
        ({"left": {"meta": {"key": "iifname"}}, "op": "!=", "right": "@trusted"}, False),
        ({"left": {"payload": {"protocol": "udp", "field": "dport"}}, "op": "==", "right": 67}, True),
        ({"left": {"payload": {"protocol": "th", "field": "dport"}}, "op": "==", "right": {"range": [50, 70]}}, True),
        ({"left": {"payload": {"protocol": "tcp", "field": "dport"}}, "op": "==", "right": 67}, False),
        ({"left": {"payload": {"protocol": "ip", "field": "saddr"}}, "op": "==", "right": "10.76.0.2"}, False),
        ({"left": {"payload": {"protocol": "ip6", "field": "hoplimit"}}, "op": "==", "right": 1}, False),
        ({"left": {"meta": {"key": "mark"}}, "op": "==", "right": 1}, False),
        ({"left": {"ct": {"key": "status"}}, "op": "in", "right": "dnat"}, False),
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
    ],
)
def test_what_nftables_does_is_understood_or_left_open(statement: object, blocked: bool) -> None:
    """One rule in a chain that drops what comes to its end."""
    place = {"family": "ip", "table": "mine"}
    chain = {**place, "name": "in", "type": "filter", "hook": "input", "policy": "drop"}
    text = ruleset(chain, {**place, "chain": "in", "expr": [{"log": {"prefix": "in "}}, statement]})
    assert bool(firewall.blocking(firewall.from_nft(text), "we12345678-1", "eth0")) is blocked
