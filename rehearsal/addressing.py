"""Which addresses a rehearsal takes: free parts of a switch's CIDR, and public addresses. Pure, but for `taken`."""

import json
import shutil
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from rehearsal.lxd import Lxd

# Benchmarking addresses: routed nowhere. RFC 2544.
PUBLIC = IPv4Network("198.18.0.0/24")
# Of test CAs, on this host's loopback.
AUTHORITY = IPv4Network("198.18.255.0/24")
# Prefixes of what a stack takes of a switch, and of what a bridge takes of that.
BLOCK = 24
PART = 27


def free_part(whole: IPv4Network, prefix: int, taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """First network of that prefix in `whole` that overlaps with nothing taken; None when full."""
    used = list(taken)
    parts = whole.subnets(new_prefix=prefix)
    return next((part for part in parts if not any(part.overlaps(other) for other in used)), None)


def free_address(used: Iterable[str]) -> str | None:
    """First public address that is not used; None when all are."""
    gone = set(used)
    return next((str(address) for address in PUBLIC.hosts() if str(address) not in gone), None)


def gateway(part: IPv4Network) -> IPv4Interface:
    """The first address of a part, which its bridge has."""
    return IPv4Interface((IPv4Address(int(part.network_address) + 1), part.prefixlen))


def last(block: IPv4Network) -> IPv4Interface:
    """The last address of a block, which stands for all of it."""
    return IPv4Interface((IPv4Address(int(block.broadcast_address) - 1), block.prefixlen))


def taken() -> list[IPv4Network]:
    """What LXD's networks, and this host's addresses and routes, already cover (the default route aside)."""
    found = [network["config"].get("ipv4.address") for network in Lxd().get("/1.0/networks", recursion="1")]
    networks = [IPv4Interface(address).network for address in found if address and "/" in address]
    return [*networks, *(network for network, _ in routes())]


def routes() -> list[tuple[IPv4Network, str]]:
    """This host's routes but the default one, which a VPN sets in two halves, each with its device."""
    if not shutil.which("ip"):
        # Not installed yet.
        return []
    done = subprocess.run(["ip", "-j", "-4", "route", "show"], capture_output=True, text=True)
    found = json.loads(done.stdout or "[]")
    routed = [(IPv4Network(route["dst"]), route.get("dev", "")) for route in found if route["dst"][0].isdigit()]
    return [(network, device) for network, device in routed if network.prefixlen > 1]
