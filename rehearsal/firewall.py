"""This host's own firewall, as Docker, ufw or firewalld set it: whether a rehearsal's bridge gets through.

iptables-save, nft --json ─▶ Chain ─▶ what becomes of a machine's packets ─▶ the chains that drop them for certain

LXD accepts them in chains of its own, which stops no other chain from dropping them. What a rule asks
that is not known here may hold or not: such a chain is let be, and the machine's own error tells of it.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from rehearsal.errors import UserError

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
# Every bridge of a rehearsal, as nftables and as iptables, ufw and firewalld write it.
_BRIDGES, _PLUS = "we*", "we+"
# Of iptables: whatever they ask besides is an option of theirs.
_PLAIN_MATCHES = frozenset({"tcp", "udp", "comment", "conntrack", "state", "multiport"})
_OPTIONS = {
    "-i": "iif",
    "-o": "oif",
    "-p": "proto",
    "--dport": "dport",
    "--dports": "dport",
    "--ctstate": "state",
    "--state": "state",
}
_TARGETS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
# Of nftables: statements that neither ask nor decide.
_PLAIN_STATEMENTS = frozenset({"counter", "log", "mangle"})
_META = {"iifname": "iif", "iif": "iif", "oifname": "oif", "oif": "oif", "l4proto": "proto", "nfproto": "nfproto"}


@dataclass(frozen=True)
class Condition:
    """A field of a packet that must have, or be without, one of some values. field "": not known here."""

    field: str
    values: tuple[str, ...] = ()
    negated: bool = False

    def holds(self, packet: Mapping[str, str]) -> bool | None:
        """None where it cannot be told."""
        value = packet.get(self.field)
        return None if value is None else any(fnmatchcase(value, one) for one in self.values) != self.negated


_UNKNOWN = Condition("")


@dataclass(frozen=True)
class Rule:
    """verdict: accept, drop, return, jump, goto; "any" for one not known here. target: of jump and goto."""

    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""


@dataclass
class Chain:
    """Of one table. tool: whose table it is, such as `iptables` or `nft`. hook: "" where it is only jumped to."""

    tool: str
    table: str
    name: str
    hook: str = ""
    policy: str = "accept"
    rules: list[Rule] = field(default_factory=list)


def check(bridge: str) -> None:
    """Refuse a host whose firewall drops what passes a bridge of that name. Raises UserError."""
    found = blocking(_chains(), bridge, _uplink())
    if found:
        where = ", ".join(f"{one.name} ({one.tool}, table {one.table})" for one in found)
        raise UserError(
            f"this host's firewall drops what machines send or get: {where}; "
            f"let the rehearsals' bridges pass and run the same again: {'; '.join(remedies(found))}"
        )


def blocking(tables: Iterable[Mapping[str, Chain]], bridge: str, uplink: str) -> list[Chain]:
    """The base chains that drop, for certain, a packet without which no machine comes up.

    tables: name → chain of each table. uplink: the interface that leads to package sources.
    """
    new = {"nfproto": "ipv4", "iif": bridge, "state": "new", "status": ""}
    answer = {"nfproto": "ipv4", "iif": uplink, "oif": bridge, "state": "established"}
    packets = {
        "input": [{**new, "proto": "udp", "dport": port} for port in ("67", "53")],
        "forward": [{**new, "oif": uplink, "proto": "tcp"}, {**answer, "proto": "tcp"}],
    }
    return [
        chain
        for chains in tables
        for chain in chains.values()
        if any(_fate(chain, chains, packet) == {"drop"} for packet in packets.get(chain.hook, ()))
    ]


def _fate(chain: Chain, chains: Mapping[str, Chain], packet: Mapping[str, str]) -> set[str]:
    found = _outcomes(chain, chains, packet)
    return {chain.policy if one == "end" else one for one in found}


def _outcomes(chain: Chain, chains: Mapping[str, Chain], packet: Mapping[str, str]) -> set[str]:
    """What may become of a packet in a chain: accept, drop, or end, past its last rule."""
    found: set[str] = set()
    for rule in chain.rules:
        holds = {condition.holds(packet) for condition in rule.conditions}
        if False in holds:
            continue
        possible = {rule.verdict}
        if rule.verdict == "any" or (rule.target and rule.target not in chains):
            possible = {"accept", "drop", "on"}
        elif rule.verdict == "return":
            possible = {"end"}
        elif rule.verdict in ("jump", "goto"):
            possible = _outcomes(chains[rule.target], chains, packet)
            if rule.verdict == "jump" and "end" in possible:
                possible = possible - {"end"} | {"on"}
        found |= possible - {"on"}
        if None not in holds and "on" not in possible:
            return found
    return found | {"end"}


def remedies(found: Iterable[Chain]) -> list[str]:
    """Commands that let a rehearsal's bridges pass the chains."""
    commands: list[str] = []
    for chain in found:
        ways = ("-i", "-o") if chain.hook == "forward" else ("-i",)
        if chain.table == "firewalld":
            commands.append(f"firewall-cmd --zone=trusted --add-interface={_PLUS}")
        elif any(rule.target.startswith("ufw-") for rule in chain.rules):
            verb = "ufw route allow" if chain.hook == "forward" else "ufw allow"
            commands += [f"{verb} {'in' if way == '-i' else 'out'} on {_PLUS}" for way in ways]
        elif chain.tool != "nft":
            docker = any(rule.target == "DOCKER-USER" for rule in chain.rules)
            place = "DOCKER-USER" if docker else chain.name
            commands += [f"{chain.tool} -I {place} {way} {_PLUS} -j ACCEPT" for way in ways]
        else:
            names = ("iifname", "oifname")[: len(ways)]
            commands += [f"nft insert rule {chain.table} {chain.name} {name} '{_BRIDGES}' accept" for name in names]
    return list(dict.fromkeys(commands))


def _chains() -> Iterator[dict[str, Chain]]:
    seen = []
    for tool in ("iptables", "iptables-legacy", "iptables-nft"):
        chains = from_iptables(_output(f"{tool}-save"), tool)
        rules = {name: (chain.policy, chain.rules) for name, chain in chains.items()}
        # The first is the same as one of the others.
        if rules not in seen:
            seen.append(rules)
            yield chains
    for chains in from_nft(_output("nft", "--json", "list", "ruleset")):
        # iptables' own table, which nft sees less of.
        if not any(chains.keys() <= rules.keys() for rules in seen):
            yield chains


def _uplink() -> str:
    """The interface of the default route."""
    routes = json.loads(_output("ip", "-j", "-4", "route", "show", "default") or "[]")
    return next((str(route["dev"]) for route in routes if "dev" in route), "")


def _output(name: str, *arguments: str) -> str:
    """What a program prints; nothing where it is missing or cannot tell."""
    if not shutil.which(name, path=_PATH):
        return ""
    environment = {**os.environ, "PATH": _PATH}
    done = subprocess.run([name, *arguments], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    return done.stdout if done.returncode == 0 else ""


def from_iptables(text: str, tool: str = "iptables") -> dict[str, Chain]:
    """What iptables-save prints → name → chain of its table `filter`."""
    chains: dict[str, Chain] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif table != "filter":
            continue
        elif line.startswith(":"):
            name, policy, *_ = line[1:].split()
            hook = {"INPUT": "input", "FORWARD": "forward"}.get(name, "")
            chains[name] = Chain(tool, table, name, hook, policy.lower())
        elif line.startswith("-A "):
            name, *words = shlex.split(line)[1:]
            rule = _iptables_rule(words, chains)
            if rule is not None:
                chains[name].rules.append(rule)
    return chains


def _iptables_rule(words: list[str], chains: Mapping[str, Chain]) -> Rule | None:
    conditions: list[Condition] = []
    negated = False
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g"):
            if value in chains:
                return Rule(tuple(conditions), "jump" if word == "-j" else "goto", value)
            verdict = _TARGETS.get(value, "any" if "QUEUE" in value else "")
            return Rule(tuple(conditions), verdict) if verdict else None
        if word in _OPTIONS:
            conditions.append(Condition(_OPTIONS[word], tuple(_values(_OPTIONS[word], value)), negated))
        elif word.startswith("-") and word != "--comment" and (word != "-m" or value not in _PLAIN_MATCHES):
            conditions.append(_UNKNOWN)
        negated = False
    return None


def _values(name: str, text: str) -> Iterator[str]:
    for one in text.split(","):
        if name == "dport":
            yield from _ports(*one.split(":"))
        else:
            # Interfaces may be in capitals, as may be states here and nowhere else.
            yield one.lower() if name == "state" else f"{one[:-1]}*" if one.endswith("+") else one


def _ports(first: str, last: str = "") -> Iterator[str]:
    yield from map(str, range(int(first), int(last or first) + 1))


def from_nft(text: str) -> list[dict[str, Chain]]:
    """What `nft --json list ruleset` prints → name → chain of each table for IPv4.

    https://manpages.debian.org/bookworm/libnftables1/libnftables-json.5.en.html
    """
    tables: dict[tuple[str, str], dict[str, Chain]] = {}
    for item in json.loads(text or "{}").get("nftables", []):
        chain, rule = item.get("chain"), item.get("rule")
        if chain and chain["family"] in ("ip", "inet"):
            table = tables.setdefault((chain["family"], chain["table"]), {})
            hook = chain.get("hook", "") if chain.get("type") == "filter" else ""
            # firewalld's has a name of its own; elsewhere a command needs the family.
            shown = chain["table"] if chain["table"] == "firewalld" else f"{chain['family']} {chain['table']}"
            table[chain["name"]] = Chain("nft", shown, chain["name"], hook, chain.get("policy", "accept"))
        elif rule and rule["family"] in ("ip", "inet"):
            found = _nft_rule(rule["expr"])
            if found is not None:
                tables[rule["family"], rule["table"]][rule["chain"]].rules.append(found)
    return list(tables.values())


def _nft_rule(statements: Iterable[Mapping[str, Any]]) -> Rule | None:
    conditions: list[Condition] = []
    for statement in statements:
        name, body = next(iter(statement.items()))
        if name == "match":
            conditions += _nft_match(body)
        elif name in ("accept", "drop", "return"):
            return Rule(tuple(conditions), name)
        elif name == "reject":
            return Rule(tuple(conditions), "drop")
        elif name in ("jump", "goto"):
            # A chain without a name has its rules in it, which are not known here.
            return Rule(tuple(conditions), name, body.get("target", "{}"))
        elif name in ("vmap", "queue", "xt"):
            # An xt may ask or decide.
            return Rule((*conditions, _UNKNOWN), "any")
        elif name not in _PLAIN_STATEMENTS:
            conditions.append(_UNKNOWN)
    return None


def _nft_match(body: Mapping[str, Any]) -> list[Condition]:
    (kind, asked), right = next(iter(body["left"].items())), body["right"]
    values = right["set"] if isinstance(right, dict) and "set" in right else right
    plain = [text for one in (values if isinstance(values, list) else [values]) for text in _plain(one)]
    extra, name = [], ""
    if kind == "meta":
        name = _META.get(asked["key"], "")
    elif kind == "ct" and asked["key"] in ("state", "status"):
        name = asked["key"]
    elif kind == "payload" and "protocol" in asked:
        name = {("ip", "protocol"): "proto"}.get((asked["protocol"], asked["field"]), "")
        if asked["protocol"] in ("tcp", "udp", "icmp", "icmpv6"):
            extra.append(Condition("proto", (asked["protocol"],)))
        elif asked["protocol"] == "ip6":
            extra.append(Condition("nfproto", ("ipv6",)))
        if asked["field"] == "dport":
            name = "dport"
    known = name and None not in plain and body["op"] in ("==", "!=", "in")
    return [*extra, Condition(name, tuple(map(str, plain)), body["op"] == "!=") if known else _UNKNOWN]


def _plain(value: Any) -> Iterable[str | None]:
    """An element of what a field is compared with → its texts; None for what is not known here, such as named sets."""
    if isinstance(value, dict):
        ends = value.get("range", [""])
        return _ports(*map(str, ends)) if all(isinstance(one, int) for one in ends) else [None]
    return [None if str(value).startswith("@") else str(value)]
