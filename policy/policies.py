"""The policies, each a pure function of what a resource is registered with.

Type, inputs and options of a resource ──▶ one line for each violation. __main__.py gives them to Pulumi.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

_SSH = 22
# MySQL, Redis, exporters of Prometheus, and what uWSGI tells about its requests.
_PRIVATE_PORTS = (3306, 6379, *range(9090, 9200))
# A network larger than this is the world, whose halves are two rules.
_WORLD_PREFIX = 8
_RULE = "alicloud:ecs/securityGroupRule:SecurityGroupRule"
_INSTANCE = "alicloud:ecs/instance:Instance"
_DISK = "alicloud:ecs/ecsDisk:EcsDisk"
_ADDRESS = "alicloud:ecs/eipAddress:EipAddress"
_RDS = "alicloud:rds/instance:Instance"
_TAIR = "alicloud:kvstore/instance:Instance"
_BALANCER = "alicloud:alb/loadBalancer:LoadBalancer"
_SCALING_GROUP = "alicloud:ess/scalingGroup:ScalingGroup"
_SCALING_CONFIGURATION = "alicloud:ess/scalingConfiguration:ScalingConfiguration"
_NAS = "alicloud:nas/fileSystem:FileSystem"
_NAS_RULE = "alicloud:nas/accessRule:AccessRule"
_TAGS = ("managed-by", "project", "stack")
_TAGGED = (
    _INSTANCE,
    _DISK,
    _ADDRESS,
    _RDS,
    _TAIR,
    _BALANCER,
    _NAS,
    _SCALING_GROUP,
    _SCALING_CONFIGURATION,
    "alicloud:ecs/ecsKeyPair:EcsKeyPair",
    "alicloud:ecs/securityGroup:SecurityGroup",
    "alicloud:vpc/network:Network",
    "alicloud:vpc/switch:Switch",
)
_PRODUCTION = ("prod", "production")


@dataclass(frozen=True)
class Resource:
    """What a resource is registered with. stack: its stack's name. inputs: under the names of Pulumi's schema."""

    type: str
    stack: str
    inputs: Mapping[str, Any]
    protect: bool


@dataclass(frozen=True)
class Policy:
    """check: yields what is wrong with a resource and what to do."""

    name: str
    description: str
    check: Callable[[Resource], Iterator[str]]


def _ssh(resource: Resource) -> Iterator[str]:
    for source in _opened(resource, (_SSH,)):
        if source.prefixlen < _WORLD_PREFIX:
            yield f"{source} may reach SSH; name the networks of your office or VPN in access.ssh"


def _statistics(resource: Resource) -> Iterator[str]:
    for source in _opened(resource, _PRIVATE_PORTS):
        if not source.is_private:
            yield (
                f"{source} may reach port {resource.inputs['portRange']}, where databases and statistics answer; "
                "use another port for the site, or a private network"
            )
    mounting = resource.inputs.get("sourceCidrIp") if resource.type == _NAS_RULE else None
    if mounting and not ip_network(mounting, strict=False).is_private:
        yield f"{mounting} may mount the file system; give a rule to each server of the application"


def _opened(resource: Resource, ports: tuple[int, ...]) -> Iterator[IPv4Network | IPv6Network]:
    """Yield the networks that a rule lets reach one of the ports."""
    inputs = resource.inputs
    is_open = inputs.get("type") == "ingress" and inputs.get("policy", "accept") == "accept"
    if resource.type != _RULE or not is_open or inputs.get("ipProtocol") not in ("tcp", "all"):
        return
    first, _, last = str(inputs.get("portRange", "-1/-1")).partition("/")
    if first != "-1" and not any(int(first) <= port <= int(last) for port in ports):
        return
    for name in ("cidrIp", "ipv6CidrIp"):
        if inputs.get(name):
            yield ip_network(inputs[name], strict=False)


def _tags(resource: Resource) -> Iterator[str]:
    if resource.type in _TAGGED:
        missing = [name for name in _TAGS if not (resource.inputs.get("tags") or {}).get(name)]
        if missing:
            yield f"it lacks the tags {', '.join(missing)}; pass the tags of __main__.py to it"


def _encrypted(resource: Resource) -> Iterator[str]:
    if resource.type == _INSTANCE and resource.inputs.get("systemDiskEncrypted") is not True:
        yield "its system disk is not encrypted; set server.encrypted: true before the server is created, or replace it"
    if resource.type == _SCALING_CONFIGURATION and resource.inputs.get("systemDiskEncrypted") is not True:
        yield "the system disks of its servers are not encrypted; set server.encrypted: true, which new servers have"
    if resource.type == _DISK and resource.inputs.get("encrypted") is not True:
        yield "it is not encrypted; set server.encrypted: true before it is created, or move the data to a new one"
    if resource.type == _NAS and resource.inputs.get("encryptType") not in (1, 2):
        yield "it is not encrypted; only a new file system can be"


def _protected(resource: Resource) -> Iterator[str]:
    kept = (_INSTANCE, _ADDRESS, _DISK, _RDS, _TAIR, _BALANCER, _NAS)
    if resource.stack in _PRODUCTION and resource.type in kept and not resource.protect:
        yield (
            "`pulumi destroy` would delete it; set server.protect, data.protect or mysql.protect for disks, and "
            "redis.protect for Tair: true"
        )


POLICIES = (
    Policy("no-ssh-from-the-world", "The world must not reach SSH.", _ssh),
    Policy(
        "no-public-statistics",
        "Only private networks reach databases, Redis, file systems, metrics and statistics.",
        _statistics,
    ),
    Policy("tagged", "Each resource says which project and stack it is of.", _tags),
    Policy("encrypted-disks", "System disks, data disks and file systems are encrypted.", _encrypted),
    Policy(
        "protected-prod",
        "Servers, addresses, disks, file systems, databases and Tair of production cannot be deleted by mistake.",
        _protected,
    ),
)
