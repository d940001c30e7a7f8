"""This host's own firewall, as Docker, ufw or firewalld set it, and whether it lets the bridges of a rehearsal pass.

iptables-save, nft --json ─▶ Chain ─▶ what happens to a machine's packets ─▶ the chains that certainly drop them

LXD accepts these packets in its own chains, but another chain can still drop them. A condition that is not known here
may hold or not, so a chain that depends on such a condition is not refused, and neither is a ruleset that cannot be
read. If they drop packets, the machine's own error reports it.
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

from rehearsal.engine.errors import UserError

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
# Every bridge of a rehearsal, as nftables writes it, and as iptables, ufw and firewalld write it.
_BRIDGES, _PLUS = "we*", "we+"
# Matches of iptables that have no condition except their options.
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
# Protocols, as nft prints them without /etc/protocols.
_PROTOCOLS = {"6": "tcp", "17": "udp"}
# Ports of DHCP and DNS on a bridge; other ports do not matter.
_PORTS = ("67", "53")
# Exceptions from reading a ruleset of another form.
_UNREADABLE = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
# Statements of nftables without a condition and without a verdict.
_PLAIN_STATEMENTS = frozenset({"counter", "log", "mangle"})
_FIELDS = {
    **{f"meta {direction}{kind}": direction for direction in ("iif", "oif") for kind in ("", "name")},
    **{f"{protocol} dport": "dport" for protocol in ("tcp", "udp", "th")},
    **{"meta l4proto": "proto", "ip protocol": "proto", "meta nfproto": "nfproto"},
    **{"ct state": "state", "ct status": "status"},
}


@dataclass(frozen=True)
class Condition:
    """A field of a packet must have one of some values; negated: none of them. field: "" when it is not known here."""

    field: str
    values: tuple[str, ...] = ()
    negated: bool = False

    def holds(self, packet: Mapping[str, str]) -> bool | None:
        """Whether a packet fulfils the condition; None when that is not known."""
        value = packet.get(self.field)
        return None if value is None else any(fnmatchcase(value, pattern) for pattern in self.values) != self.negated


_UNKNOWN = Condition("")


@dataclass(frozen=True)
class Rule:
    """A rule. verdict: accept, drop, return, jump, goto; "any" for an unknown verdict. target: of jump and goto."""

    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""


@dataclass
class Chain:
    """A chain. tool: which tool lists its table, such as `iptables` or `nft`. hook: "" for a chain without a hook."""

    tool: str
    table: str
    name: str
    hook: str = ""
    policy: str = "accept"
    rules: list[Rule] = field(default_factory=list)


def check(bridge: str) -> None:
    """Refuse a host whose firewall drops packets of a bridge with this name. Raises UserError."""
    found = blocking(_chains(), bridge, _uplink())
    if found:
        where = ", ".join(f"{chain.name} ({chain.tool}, table {chain.table})" for chain in found)
        raise UserError(
            f"this host's firewall drops what machines send or get: {where}; "
            f"let the rehearsals' bridges pass and run the same again: {'; '.join(remedies(found))}"
        )


def blocking(tables: Iterable[Mapping[str, Chain]], bridge: str, uplink: str) -> list[Chain]:
    """The base chains that certainly drop a packet that every machine needs.

    tables: name → chain of each table. uplink: the interface that leads to package sources, "" when it is not known.
    """
    new = {"nfproto": "ipv4", "iif": bridge, "state": "new", "status": ""}
    sent, answer = {**new, "proto": "tcp"}, {"nfproto": "ipv4", "oif": bridge, "state": "established", "proto": "tcp"}
    if uplink:
        sent["oif"] = answer["iif"] = uplink
    packets = {"input": [{**new, "proto": "udp", "dport": port} for port in _PORTS], "forward": [sent, answer]}
    return [
        chain
        for chains in tables
        for chain in chains.values()
        if any(_outcomes(chain, chains, packet, chain.policy) == {"drop"} for packet in packets.get(chain.hook, ()))
    ]


def _outcomes(chain: Chain, chains: Mapping[str, Chain], packet: Mapping[str, str], end: str) -> set[str]:
    """What may happen to a packet in a chain: accept, drop, or `end` after its last rule."""
    found: set[str] = set()
    for rule in chain.rules:
        holds = {condition.holds(packet) for condition in rule.conditions}
        if False in holds:
            continue
        possible = {rule.verdict}
        if rule.verdict == "any" or (rule.target and rule.target not in chains):
            possible = {"accept", "drop", "on"}
        elif rule.verdict == "return":
            possible = {end}
        elif rule.verdict in ("jump", "goto"):
            # Leave this chain out, because no chain of a kernel leads to itself.
            others = {name: other for name, other in chains.items() if other is not chain}
            past = "back" if rule.verdict == "jump" else end
            possible = _outcomes(chains[rule.target], others, packet, past)
            if rule.verdict == "jump" and "back" in possible:
                possible = possible - {"back"} | {"on"}
        found |= possible - {"on"}
        if None not in holds and "on" not in possible:
            return found
    return found | {end}


def remedies(found: Iterable[Chain]) -> list[str]:
    """Commands that let the bridges of a rehearsal pass the chains."""
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
        # Skip equal rules, because `iptables` is one of the other two.
        if rules not in seen:
            seen.append(rules)
            yield chains
    for chains in from_nft(_output("nft", "--json", "list", "ruleset")):
        # Skip tables that iptables has listed, because nft shows less of them.
        if not any(chains.keys() <= rules.keys() for rules in seen):
            yield chains


def _uplink() -> str:
    """The interface by which this host reaches other hosts, "" when there is none. Nothing is sent.

    The kernel is asked for the route to a public address (of RFC 5737), because a VPN keeps the default route.
    """
    try:
        return str(json.loads(_output("ip", "-j", "-4", "route", "get", "198.51.100.1"))[0]["dev"])
    except _UNREADABLE:
        return ""


def _output(name: str, *arguments: str) -> str:
    """What a program prints; "" when the program is missing or fails."""
    if not shutil.which(name, path=_PATH):
        return ""
    environment = {**os.environ, "PATH": _PATH}
    done = subprocess.run([name, *arguments], capture_output=True, env=environment, stdin=subprocess.DEVNULL)
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def from_iptables(text: str, tool: str = "iptables") -> dict[str, Chain]:
    """What iptables-save prints → name → chain of its table `filter`; empty when it cannot be read."""
    chains: dict[str, Chain] = {}
    table = ""
    try:
        for line in text.split("\n"):
            if line.startswith("*"):
                table = line[1:].strip()
            elif table == "filter" and line.startswith(":"):
                name, policy, *_ = line[1:].split()
                hook = {"INPUT": "input", "FORWARD": "forward"}.get(name, "")
                chains[name] = Chain(tool, table, name, hook, policy.lower())
            elif table == "filter" and line.startswith("-A "):
                name, *words = shlex.split(line)[1:]
                chains[name].rules += _iptables_rule(words, chains)
    except _UNREADABLE:
        return {}
    return chains


def _iptables_rule(words: Iterable[str], chains: Mapping[str, Chain]) -> Iterator[Rule]:
    """The rule of these words; nothing for a rule without a verdict."""
    conditions: list[Condition] = []
    negated = False
    rest = iter(words)
    for word in rest:
        if word in ("-j", "-g"):
            value = next(rest, "")
            if value in chains:
                yield Rule(tuple(conditions), "jump" if word == "-j" else "goto", value)
            elif verdict := _TARGETS.get(value, "any" if "QUEUE" in value else ""):
                yield Rule(tuple(conditions), verdict)
            return
        if word in _OPTIONS:
            conditions.append(_condition(_OPTIONS[word], next(rest, "").split(","), negated))
        elif word == "--comment":
            next(rest, "")
        elif word.startswith("-") and (word != "-m" or next(rest, "") not in _PLAIN_MATCHES):
            conditions.append(_UNKNOWN)
        negated = word == "!"


def _condition(name: str, texts: Iterable[str], negated: bool) -> Condition:
    """A condition. texts: values of the field; a range of ports is first:last."""
    try:
        return Condition(name, tuple(value for text in texts for value in _values(name, text)), negated)
    except _UNREADABLE:
        return _UNKNOWN


def _values(name: str, text: str) -> Iterable[str]:
    """Values of a field. Raises ValueError for unknown ones, such as named sets and services."""
    if name == "dport":
        first, _, last = text.partition(":")
        return [port for port in _PORTS if int(first) <= int(port) <= int(last or first)]
    if text.startswith("@") or ":" in text:
        raise ValueError(text)
    # Lower-case only states, because names of interfaces may contain capitals.
    return [text.lower() if name == "state" else f"{text[:-1]}*" if text.endswith("+") else _PROTOCOLS.get(text, text)]


def from_nft(text: str) -> list[dict[str, Chain]]:
    """What `nft --json list ruleset` prints → name → chain of each table for IPv4; empty when it cannot be read.

    https://manpages.debian.org/bookworm/libnftables1/libnftables-json.5.en.html
    """
    tables: dict[tuple[str, str], dict[str, Chain]] = {}
    try:
        for item in json.loads(text or "{}").get("nftables", []):
            chain, rule = item.get("chain"), item.get("rule")
            if chain and chain["family"] in ("ip", "inet"):
                family, table, name = (str(chain[key]) for key in ("family", "table", "name"))
                hook = str(chain.get("hook", "")) if chain.get("type") == "filter" else ""
                # A command for firewalld needs no family; commands for other tables do.
                shown = table if table == "firewalld" else f"{family} {table}"
                found = Chain("nft", shown, name, hook, str(chain.get("policy", "accept")))
                tables.setdefault((family, table), {})[name] = found
            elif rule and rule["family"] in ("ip", "inet"):
                tables[rule["family"], rule["table"]][rule["chain"]].rules += _nft_rule(rule["expr"])
    except _UNREADABLE:
        return []
    return list(tables.values())


def _nft_rule(statements: Iterable[Any]) -> Iterator[Rule]:
    """The rule of these statements; nothing for a rule without a verdict."""
    conditions: list[Condition] = []
    for statement in statements:
        name, body = _first(statement)
        if name == "match":
            conditions += _nft_match(body)
        elif name in ("accept", "drop", "return", "reject"):
            return (yield Rule(tuple(conditions), "drop" if name == "reject" else name))
        elif name in ("jump", "goto"):
            # A chain without a name contains its rules, which are not read here.
            return (yield Rule(tuple(conditions), name, str(body.get("target", "{}"))))
        elif name in ("vmap", "queue", "xt"):
            # An xt statement may be a condition or a verdict.
            return (yield Rule((*conditions, _UNKNOWN), "any"))
        elif name not in _PLAIN_STATEMENTS:
            conditions.append(_UNKNOWN)


def _first(value: Any) -> tuple[str, Any]:
    """An object with one key → the key and its value. nft prints text where it has no JSON; that may be anything."""
    return next(iter(value.items())) if value and isinstance(value, dict) else ("xt", None)


def _nft_match(body: Mapping[str, Any]) -> Iterator[Condition]:
    kind, asked = _first(body["left"])
    known = asked if isinstance(asked, dict) else {}
    owner = known.get("protocol", kind)
    if owner in ("tcp", "udp", "icmp", "icmpv6"):
        yield Condition("proto", (owner,))
    elif owner == "ip6":
        yield Condition("nfproto", ("ipv6",))
    name = _FIELDS.get(f"{owner} {known.get('field', known.get('key'))}", "")
    yield _condition(name if body["op"] in ("==", "!=", "in") else "", _texts(body["right"]), body["op"] == "!=")


def _texts(right: Any) -> Iterator[str]:
    """The right side of a comparison → its texts."""
    values = right["set"] if isinstance(right, dict) and "set" in right else right
    for value in values if isinstance(values, list) else [values]:
        yield ":".join(map(str, value["range"])) if isinstance(value, dict) else str(value)
