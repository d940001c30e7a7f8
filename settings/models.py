"""The settings of a stack: one frozen model per config key, unknown keys forbidden.

A key that maps to a directive has the directive's name in snake_case, so each
server's own manual explains it.
"""

from ipaddress import IPv4Network
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from settings import text

Count = Annotated[int, Field(ge=1, le=1024)]


class SettingsError(Exception):
    """A value that a user set and that is not allowed: one line with file, key and what is allowed."""


def _sequence(value: object) -> object:
    # `pulumi config set --path access.ssh 203.0.113.0/24` stores a single text.
    return (value,) if isinstance(value, str) else value


def _as_text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)


class App(Model):
    source: text.LocalPath = Field("./app", description="Folder of the application, from the project's folder.")
    module: text.ModuleName = Field("app", description="Module that the server imports.")
    callable: text.Identifier = Field("app", description="Name of the WSGI callable in the module.")
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
    zone: text.Zone | None = Field(None, description="Zone id; none: the first that offers the instance type.")
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
    def _ssh_open(self) -> Self:
        if "0.0.0.0/0" in self.ssh and not self.ssh_open:
            raise ValueError("ssh: 0.0.0.0/0 opens SSH to the world; allowed only with access.ssh_open: true")
        return self


class Uwsgi(Model):
    processes: Literal["auto"] | Count = Field(
        "auto", description="Worker processes; auto: one per CPU of the machine."
    )
    threads: Count = Field(1, description="Threads per process; more than one costs CPU per request.")
    enable_threads: bool = Field(False, description="Let the application start threads of its own.")
    buffer_size: int = Field(
        32768, ge=4096, le=65535, description="Bytes of request headers; the default takes what nginx takes."
    )
    harakiri: int | None = Field(None, ge=1, le=3600, description="Kill a request after this many seconds.")
    max_requests: int | None = Field(None, ge=1, description="Replace a worker after this many requests.")
    stats: int = Field(
        9191,
        ge=1024,
        le=65534,
        description="Port of the statistics on loopback; a release may use the next one.",
    )


class Nginx(Model):
    listen: int = Field(80, ge=1, le=65535, description="Port of the site; the security group opens it.")
    charset: text.Charset = Field("utf-8", description="Charset of text answers, or off.")
    client_max_body_size: text.Size = Field("16m", description="Largest request body.")
    keepalive_timeout: int = Field(65, ge=0, le=3600, description="Seconds an idle connection stays open.")
    uwsgi_read_timeout: int = Field(60, ge=1, le=3600, description="Seconds between two reads from uWSGI.")
    static: dict[text.Location, text.InsidePath] = Field(
        default_factory=lambda: {"/static/": "static"},
        description="URL path to folder of the application that nginx serves itself.",
    )


class Supervisor(Model):
    startsecs: int = Field(1, ge=0, le=600, description="Seconds a program must run to count as started.")
    startretries: int = Field(3, ge=0, le=100, description="Starts that may fail before giving up.")
    stopwaitsecs: int = Field(
        30, ge=2, le=3600, description="Seconds a stopping program may take to finish its requests."
    )


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
    uwsgi: Uwsgi = Uwsgi()
    nginx: Nginx = Nginx()
    supervisor: Supervisor = Supervisor()
    release: Release = Release()

    @model_validator(mode="after")
    def _ports(self) -> Self:
        taken = {22: "SSH", self.uwsgi.stats: "uwsgi.stats", self.uwsgi.stats + 1: "uwsgi.stats + 1"}
        if self.nginx.listen in taken:
            raise ValueError(f"nginx.listen: port {self.nginx.listen} is taken by {taken[self.nginx.listen]}")
        return self
