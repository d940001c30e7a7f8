"""Addresses for a rehearsal: free parts of a switch's CIDR, and public addresses.

Only `taken` and `routes` look at this host.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from rehearsal.cloud.lxd import Lxd

# Public addresses of rehearsals. RFC 2544 reserves them for benchmarks, so they are not routed on the Internet.
PUBLIC = IPv4Network("198.18.0.0/24")
# Addresses of test CAs, on this host's loopback interface.
AUTHORITY = IPv4Network("198.18.255.0/24")
# Prefix lengths: a stack's block of a switch, and a bridge's part of a block.
BLOCK = 24
PART = 27


def free_part(whole: IPv4Network, prefix: int, taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """First network of that prefix length in `whole` that overlaps with no taken network; None when there is none."""
    used = list(taken)
    parts = whole.subnets(new_prefix=prefix)
    return next((part for part in parts if not any(part.overlaps(other) for other in used)), None)


def free_address(used: Iterable[str]) -> str | None:
    """First public address that is not used; None when all are used."""
    taken = set(used)
    return next((str(address) for address in PUBLIC.hosts() if str(address) not in taken), None)


def gateway(part: IPv4Network) -> IPv4Interface:
    """The first address of a part, which is its bridge's."""
    return IPv4Interface((IPv4Address(int(part.network_address) + 1), part.prefixlen))


def last(block: IPv4Network) -> IPv4Interface:
    """The last address of a block, which is the address of the block's bridge."""
    return IPv4Interface((IPv4Address(int(block.broadcast_address) - 1), block.prefixlen))


def taken() -> list[IPv4Network]:
    """Networks that LXD's networks and this host's routes cover, without the default route."""
    found = [network["config"].get("ipv4.address") for network in Lxd().get("/1.0/networks", recursion="1")]
    networks = [IPv4Interface(address).network for address in found if address and "/" in address]
    return [*networks, *(network for network, _ in routes())]


def routes() -> list[tuple[IPv4Network, str]]:
    """This host's routes, each with its device, without the default route, which a VPN may set in two halves."""
    if not shutil.which("ip"):
        # The package iproute2 is not installed yet.
        return []
    done = subprocess.run(["ip", "-j", "-4", "route", "show"], capture_output=True, text=True)
    found = json.loads(done.stdout or "[]")
    routed = [(IPv4Network(route["dst"]), route.get("dev", "")) for route in found if route["dst"][0].isdigit()]
    return [(network, device) for network, device in routed if network.prefixlen > 1]
