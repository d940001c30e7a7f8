"""The machines of a stack: what they are, where they are, how many, and who may reach them."""

from collections.abc import Iterator
from ipaddress import IPv4Network, collapse_addresses
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from kinds.systems import SYSTEMS, System
from kinds.systems import Name as SystemName
from schema import dependencies, text
from schema.base import Cidrs, Model, Rule, sequence
from settings.alb import Alb
from settings.scaling import Scaling

Packages = Annotated[tuple[dependencies.PackageName, ...], BeforeValidator(sequence)]

# Servers with a public address use the first, by HTTPS, and all others the VPC's own mirror, which speaks HTTP alone.
# https://developer.aliyun.com/mirror/
INDEX, VPC_INDEX = "https://mirrors.aliyun.com/pypi/simple/", "http://mirrors.cloud.aliyuncs.com/pypi/simple/"


class Mirrors(Model):
    packages: tuple[text.RepositoryUrl, ...] = Field(
        (), description="Package sources of the OS, tried in order; none: the OS's default."
    )
    epel: tuple[text.RepositoryUrl, ...] = Field((), description="EPEL sources (centos7, alinux3), tried in order.")
    index: tuple[text.Url, ...] = Field(
        (), description="Python package indexes, of which the first that answers is used; none: Alibaba's."
    )


class Server(Model):
    os: SystemName = Field(
        "centos7", description="Operating system of the server; debian13 is recommended for new projects."
    )
    instance_type: text.InstanceType = Field(
        "ecs.e-c1m1.large",
        description="ECS instance type. The default (2 vCPU, 2 GiB) is the smallest that compiles uWSGI with ease.",
    )
    image: text.ImageId | None = Field(None, description="Id of the image; none: the OS's newest system image.")
    zone: text.Zone | None = Field(
        None,
        description="Id of the zone; none: the first that offers the instance type. A later change takes "
        "effect with a new network.",
    )
    disk_gib: int = Field(20, ge=20, le=2048, description="Size of the system disk, GiB.")
    encrypted: bool = Field(
        False,
        description="Encrypt the system disks and data disks that are created from now on; an existing disk stays as "
        "it is. The account needs KMS, whose key for cloud disks costs nothing, and the instance type must take "
        "encrypted disks.",
    )
    http_tokens: Literal["auto", "required", "optional"] = Field(
        "auto",
        description="Whether a new server's metadata are told only to programs that fetch a token first; a server that "
        "exists stays as it is. auto: required on an OS whose image's cloud-init fetches one for sure (debian13), else "
        "optional.",
    )
    bandwidth_mbps: int = Field(5, ge=1, le=200, description="Peak bandwidth of the public address, Mbit/s.")
    spot: bool = Field(
        False, description="Use a spot instance, which is cheaper and may be released by the cloud at any time."
    )
    protect: bool = Field(False, description="Refuse to delete or replace the server and its public address.")
    mirrors: Mirrors = Field(Mirrors(), description="Package sources of the server.")
    security_updates: text.Window | None = Field(
        "02:00-05:00",
        description="Window, in the server's time, in which a server starts to install its security updates each "
        "day; null: it installs none. Nothing that serves is restarted, and packages that would are left to you "
        "(docs/security.md). There are none for centos7.",
    )
    packages: Packages = Field(
        (),
        description="Packages of the OS that the applications need, such as git or libpq-dev. A release installs a new "
        "package on the running server.",
    )
    packages_of: dict[SystemName, Packages] = Field(
        default_factory=dict,
        description="OS to its list in place of server.packages, for an OS whose packages have other names.",
    )

    @property
    def system(self) -> System:
        """Facts of the operating system."""
        return SYSTEMS[self.os]

    @property
    def own_packages(self) -> tuple[str, ...]:
        """The packages of the OS for the applications, each once."""
        return tuple(dict.fromkeys(self.packages_of.get(self.os, self.packages)))

    @property
    def requires_tokens(self) -> bool:
        """Whether metadata need a token: without it, no user data would reach an older cloud-init."""
        is_sure = self.system.fetches_tokens and not self.image
        return self.http_tokens == "required" or (self.http_tokens == "auto" and is_sure)

    @property
    def updates_window(self) -> str | None:
        """When the server installs security updates, None if it installs none."""
        return self.security_updates if self.system.has_updates else None

    def rules(self) -> Iterator[Rule]:
        """Yield the rules between the system, its mirrors and its updates."""
        yield (
            "server.security_updates",
            "security_updates" in self.model_fields_set and bool(self.security_updates) and not self.system.has_updates,
            f"{self.os} has had no updates since June 2024",
            "null, or another server.os",
        )
        yield (
            "server.mirrors.epel",
            bool(self.mirrors.epel) and not self.system.has_epel,
            f"{self.os} has no EPEL",
            "server.mirrors.packages",
        )


# What a VPC takes: https://www.alibabacloud.com/help/en/vpc/user-guide/create-and-manage-a-vpc
_PRIVATE = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))


class Network(Model):
    cidr: text.Cidr = Field(
        "10.76.0.0/20",
        description=(
            "Address range of the private network, from /16 to /24. A change replaces the network and all servers; "
            "the public address and the data disks stay."
        ),
    )
    standby_cidr: text.Cidr | None = Field(
        None,
        description="Address range of what is in a second zone, such as the standby of mysql.managed; none: the /24 "
        "after network.cidr. It is decided when that is made.",
    )
    entrance_cidr: text.Cidr | None = Field(
        None,
        description="Address range of the load balancer of topology.entrance: alb, from /16 to /23, half of it in each "
        "of two zones; none: a free /23 beside network.cidr. A change replaces the load balancer.",
    )

    @model_validator(mode="after")
    def _prefix(self) -> Self:
        network = IPv4Network(self.cidr)
        if not any(map(network.subnet_of, _PRIVATE)) or not 16 <= network.prefixlen <= 24:
            raise ValueError("cidr: allowed: a private IPv4 network from /16 to /24")
        return self

    @model_validator(mode="after")
    def _standby(self) -> Self:
        second = IPv4Network(self.second_cidr)
        if not any(map(second.subnet_of, _PRIVATE)) or not 16 <= second.prefixlen <= 24:
            raise ValueError("standby_cidr: allowed: a private IPv4 network from /16 to /24")
        if second.overlaps(IPv4Network(self.cidr)):
            raise ValueError(f"standby_cidr: {second} overlaps network.cidr; allowed: a network beside {self.cidr}")
        return self

    @model_validator(mode="after")
    def _entrance(self) -> Self:
        if not self.entrance_cidr:
            return self
        found = IPv4Network(self.entrance_cidr)
        if not any(map(found.subnet_of, _PRIVATE)) or not 16 <= found.prefixlen <= 23:
            raise ValueError("entrance_cidr: allowed: a private IPv4 network from /16 to /23")
        for other in (self.cidr, self.second_cidr):
            if found.overlaps(IPv4Network(other)):
                raise ValueError(f"entrance_cidr: {found} overlaps {other}; allowed: a network beside {self.cidr}")
        return self

    @property
    def balancer_cidr(self) -> str:
        """The address range of the load balancer: the given one, or a free /23 after the network, or before it."""
        if self.entrance_cidr:
            return self.entrance_cidr
        taken = [IPv4Network(self.cidr), IPv4Network(self.second_cidr)]
        first, size = taken[0], 512
        after = -(-(int(first.broadcast_address) + 1) // size) * size
        before = int(first.network_address) // size * size
        starts = [*(after + step * size for step in range(3)), *(before - step * size for step in range(1, 4))]
        # 192.168.0.0/16 has private networks neither after nor before it.
        beside = [IPv4Network((start, 23)) for start in (*starts, *(int(each.network_address) for each in _PRIVATE))]
        return next(
            str(each) for each in beside if any(map(each.subnet_of, _PRIVATE)) and not any(map(each.overlaps, taken))
        )

    @property
    def both_cidrs(self) -> str:
        """The smallest network that holds the address ranges in both zones."""
        found = IPv4Network(self.cidr)
        while not IPv4Network(self.second_cidr).subnet_of(found):
            found = found.supernet()
        return str(found)

    @property
    def second_cidr(self) -> str:
        """The address range in a second zone: a given one, or the /24 after the network, or the one before it."""
        first = IPv4Network(self.cidr)
        starts = (int(first.broadcast_address) + 1, int(first.network_address) - 256)
        beside = [each for each in (IPv4Network((start, 24)) for start in starts) if any(map(each.subnet_of, _PRIVATE))]
        # 192.168.0.0/16 has private networks neither after nor before it.
        return self.standby_cidr or str(beside[0] if beside else "10.77.0.0/24")


class Topology(Model):
    entrance: Literal["nginx", "alb"] = Field(
        "nginx",
        description="What receives the requests for several machines: nginx on a machine of its own, or a load "
        "balancer of the cloud over two zones, behind which each machine has nginx and the application "
        "(docs/beyond-one-machine.md). A change replaces the servers.",
    )
    alb: Alb = Field(Alb(), description="The load balancer of topology.entrance: alb.")
    app_servers: int = Field(
        0,
        ge=0,
        le=20,
        description="Number of machines that run the application behind nginx's machine, or behind the load balancer; "
        "0: one machine runs both.",
    )
    instance_type: text.InstanceType | None = Field(
        None, description="ECS instance type of the app servers; none: server.instance_type."
    )
    scaling: Scaling | None = Field(
        None,
        description="Servers behind the load balancer that come and go with the load, in place of app_servers "
        "(docs/beyond-one-machine.md). A fixed machine brings them their releases.",
    )

    @property
    def servers(self) -> int:
        """The number of machines with the application at most, 0 for one machine that has everything."""
        return self.scaling.max if self.scaling else self.app_servers

    @property
    def is_apart(self) -> bool:
        """Whether the application runs on other machines than nginx."""
        return self.app_servers > 0 and not self.is_balanced

    @property
    def is_balanced(self) -> bool:
        """Whether a load balancer of the cloud receives the requests."""
        return self.entrance == "alb"

    @property
    def names(self) -> list[str]:
        """Names of the machines that run the application, where they have names."""
        return [f"app-{number}" for number in range(1, self.app_servers + 1)]

    def rules(self, front: str) -> Iterator[Rule]:
        """Yield the rules between the machines and what stands in front of them."""
        yield (
            "topology.app_servers",
            self.is_apart and front == "none",
            "they stand behind nginx",
            "serving.front: nginx",
        )
        yield (
            "topology.instance_type",
            self.instance_type is not None and not self.app_servers,
            "there is no machine of its own for the application",
            "topology.scaling.instance_types" if self.scaling else "topology.app_servers: 1 or more",
        )


class Access(Model):
    http: Cidrs = Field(("0.0.0.0/0",), description="IPv4 CIDRs that may reach the site.")
    ssh: Cidrs = Field(
        (), description="IPv4 CIDRs that may reach SSH. Required in the cloud, because releases use SSH."
    )
    ssh_open: bool = Field(False, description="Allow 0.0.0.0/0 in access.ssh.")
    metrics: Cidrs = Field(
        (),
        description="Private IPv4 CIDRs, such as that of network.cidr, that may read every server's metrics; none: "
        "only the server itself.",
    )
    public_key: text.PublicKey | None = Field(
        None, description="OpenSSH public key that may log in as root. Required in the cloud."
    )
    private_key_file: text.LocalPath | None = Field(
        None, description="File with the private key; none: the SSH agent is used."
    )
    host_key: text.HostKey | None = Field(
        None,
        description="SSH host key of the server with the public address, if it is known beforehand; none: the key that "
        "the first session with the server has found. A running server's key is checked before anything is changed. A "
        "new server has a new key, so remove this setting before a change that replaces the server.",
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        for key, cidrs in (("http", self.http), ("ssh", self.ssh), ("metrics", self.metrics)):
            twice = [cidr for cidr in cidrs if cidrs.count(cidr) > 1]
            if twice:
                raise ValueError(f"{key}: {twice[0]} stands there twice; allowed: each CIDR once")
        return self

    @model_validator(mode="after")
    def _ssh_open(self) -> Self:
        if IPv4Network("0.0.0.0/0") in collapse_addresses(map(IPv4Network, self.ssh)) and not self.ssh_open:
            raise ValueError("ssh: 0.0.0.0/0 opens SSH to the world; allowed only with access.ssh_open: true")
        return self

    @model_validator(mode="after")
    def _private_metrics(self) -> Self:
        for cidr in self.metrics:
            if not any(map(IPv4Network(cidr).subnet_of, _PRIVATE)):
                ranges = ", ".join(map(str, _PRIVATE))
                raise ValueError(f"metrics: {cidr} is not a private network; allowed: networks in {ranges}")
        return self
