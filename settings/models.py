"""The settings of a stack: one frozen model per config key, unknown keys forbidden.

A key that maps to a directive has the directive's name in snake_case, so each
server's own manual explains it.
"""

from ipaddress import IPv4Network
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from settings import combinations, text
from settings.base import Model, SettingsError
from settings.servers import Gunicorn, Nginx, Serving, Supervisor, Systemd, Uwsgi

__all__ = ["Access", "App", "Mirrors", "Network", "Release", "Server", "Settings", "SettingsError", "Site"]


def _sequence(value: object) -> object:
    # `pulumi config set --path access.ssh 203.0.113.0/24` stores a single text.
    return (value,) if isinstance(value, str) else value


def _as_text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


class App(Model):
    source: text.LocalPath = Field("./app", description="Folder of the application, from the project's folder.")
    module: text.ModuleName = Field("app", description="Module that the server imports.")
    wsgi_file: text.InsidePath | None = Field(
        None, description="File that the server loads in place of a module, such as site.wsgi."
    )
    callable: text.Identifier = Field("app", description="Name of the WSGI callable in the module or file.")
    requirements: text.InsidePath = Field("requirements.txt", description="pip's requirements file, in the folder.")
    env: dict[text.EnvName, Annotated[SecretStr, BeforeValidator(_as_text)]] = Field(
        default_factory=dict, description="Environment of the application. Every value is a secret."
    )
    health: text.UrlPath = Field("/healthz", description="The probe: a release is good when this answers 2xx.")
    exclude: tuple[text.Glob, ...] = Field(
        (), description="Files left out of a release, beside .git, .env*, virtual environments and caches."
    )

    @model_validator(mode="after")
    def _env_values(self) -> Self:
        for name, value in self.env.items():
            if "\0" in value.get_secret_value():
                raise ValueError(f"env.{name}: allowed: any text without NUL characters")
        return self


class Site(Model):
    server_name: text.ServerName | None = Field(None, description="Domain of the site; none serves any.")


class Mirrors(Model):
    packages: tuple[text.Url, ...] = Field(
        (), description="Package sources of the OS, tried in order; none: the OS's default."
    )
    epel: tuple[text.Url, ...] = Field((), description="EPEL sources (centos7), tried in order.")
    index: tuple[text.Url, ...] = Field(
        (), description="Python package indexes, the first that answers is used; none: Alibaba's."
    )


class Server(Model):
    os: Literal["centos7", "debian12"] = Field("centos7", description="Operating system of the server.")
    instance_type: text.InstanceType = Field(
        "ecs.e-c1m1.large",
        description="ECS instance type. The default (2 vCPU, 2 GiB) is the smallest that compiles uWSGI with ease.",
    )
    image: text.ImageId | None = Field(None, description="Image id; none: the OS's newest system image.")
    zone: text.Zone | None = Field(
        None, description="Zone id; none: the first that offers the instance type. A later change does nothing."
    )
    disk_gib: int = Field(20, ge=20, le=2048, description="System disk, GiB.")
    bandwidth_mbps: int = Field(5, ge=1, le=200, description="Peak bandwidth of the public address, Mbit/s.")
    spot: bool = Field(False, description="Use a spot instance: cheaper, and taken back at any time.")
    protect: bool = Field(False, description="Refuse to delete or replace the server and its address.")
    mirrors: Mirrors = Field(Mirrors(), description="Package sources of the server.")


# What a VPC takes: https://www.alibabacloud.com/help/en/vpc/user-guide/create-and-manage-a-vpc
_PRIVATE = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))


class Network(Model):
    cidr: text.Cidr = Field("10.76.0.0/20", description="Addresses of the private network, a /16 to a /24.")

    @model_validator(mode="after")
    def _prefix(self) -> Self:
        network = IPv4Network(self.cidr)
        if not any(map(network.subnet_of, _PRIVATE)) or not 16 <= network.prefixlen <= 24:
            raise ValueError("cidr: allowed: a private IPv4 network from /16 to /24")
        return self


class Access(Model):
    http: Annotated[tuple[text.Cidr, ...], BeforeValidator(_sequence)] = Field(
        ("0.0.0.0/0",), description="Who may reach the site: IPv4 CIDRs."
    )
    ssh: Annotated[tuple[text.Cidr, ...], BeforeValidator(_sequence)] = Field(
        (), description="Who may reach SSH: IPv4 CIDRs. Required in the cloud: releases come over SSH."
    )
    ssh_open: bool = Field(False, description="Allow 0.0.0.0/0 in access.ssh.")
    public_key: text.PublicKey | None = Field(
        None, description="OpenSSH public key that may log in as root. Required in the cloud."
    )
    private_key_file: text.LocalPath | None = Field(None, description="File with the private key; none: the SSH agent.")
    host_key: text.HostKey | None = Field(None, description="The server's SSH host key, when it is known beforehand.")

    @model_validator(mode="after")
    def _once(self) -> Self:
        for key, cidrs in (("http", self.http), ("ssh", self.ssh)):
            twice = [cidr for cidr in cidrs if cidrs.count(cidr) > 1]
            if twice:
                raise ValueError(f"{key}: {twice[0]} stands there twice; allowed: each CIDR once")
        return self

    @model_validator(mode="after")
    def _ssh_open(self) -> Self:
        if "0.0.0.0/0" in self.ssh and not self.ssh_open:
            raise ValueError("ssh: 0.0.0.0/0 opens SSH to the world; allowed only with access.ssh_open: true")
        return self


class Release(Model):
    keep: int = Field(5, ge=1, le=100, description="Releases kept on the machine.")
    generation: int = Field(0, ge=0, description="Raise it to apply the same release again.")


class Settings(Model):
    """All settings of one stack."""

    app: App = App()
    site: Site = Site()
    server: Server = Server()
    network: Network = Network()
    access: Access = Access()
    serving: Serving = Serving()
    uwsgi: Uwsgi = Uwsgi()
    gunicorn: Gunicorn = Gunicorn()
    nginx: Nginx = Nginx()
    supervisor: Supervisor = Supervisor()
    systemd: Systemd = Systemd()
    release: Release = Release()

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        combinations.check(self)
        return self
