"""The settings of a stack: one frozen model per config key, unknown keys forbidden.

A key that maps to a directive has the directive's name in snake_case, so each
server's own manual explains it.
"""

from ipaddress import IPv4Network, collapse_addresses
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from settings import combinations, text
from settings.base import Cidrs, Model, SettingsError, printable
from settings.database import Mysql
from settings.servers import Gunicorn, Nginx, Serving, Supervisor, Systemd, Uwsgi
from settings.tls import Tls

__all__ = ["Access", "App", "Mirrors", "Network", "Release", "Server", "Settings", "SettingsError", "Site", "Topology"]


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
        (),
        description="Files left out of a release, beside .git, .env*, virtual environments, caches and editors' files.",
    )

    @model_validator(mode="after")
    def _env_values(self) -> Self:
        for name, value in self.env.items():
            if "\0" in value.get_secret_value():
                raise ValueError(f"env.{name}: allowed: any text without NUL characters")
        return self


class Site(Model):
    name: text.SiteName = Field("app", description="Its name on the machine: of its user, folders and program.")
    server_name: text.ServerName | None = Field(None, description="Domain of the site; none serves any.")
    location: text.SiteLocation = Field("/", description="URL path that it stands at; another site has the rest.")


class Mirrors(Model):
    packages: tuple[text.RepositoryUrl, ...] = Field(
        (), description="Package sources of the OS, tried in order; none: the OS's default."
    )
    epel: tuple[text.RepositoryUrl, ...] = Field((), description="EPEL sources (centos7, alinux3), tried in order.")
    index: tuple[text.Url, ...] = Field(
        (), description="Python package indexes, the first that answers is used; none: Alibaba's."
    )


class Server(Model):
    os: Literal["centos7", "alinux3", "debian12", "ubuntu2204"] = Field(
        "centos7", description="Operating system of the server."
    )
    instance_type: text.InstanceType = Field(
        "ecs.e-c1m1.large",
        description="ECS instance type. The default (2 vCPU, 2 GiB) is the smallest that compiles uWSGI with ease.",
    )
    image: text.ImageId | None = Field(None, description="Image id; none: the OS's newest system image.")
    zone: text.Zone | None = Field(
        None,
        description="Zone id; none: the first that offers the instance type. A later change waits for a new network.",
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


class Topology(Model):
    app_servers: int = Field(
        0, ge=0, le=20, description="Machines that run the application behind nginx's; 0: one machine has both."
    )
    instance_type: text.InstanceType | None = Field(
        None, description="ECS instance type of the app servers; none: server.instance_type."
    )


class Access(Model):
    http: Cidrs = Field(("0.0.0.0/0",), description="Who may reach the site: IPv4 CIDRs.")
    ssh: Cidrs = Field((), description="Who may reach SSH: IPv4 CIDRs. Required in the cloud: releases come over SSH.")
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
        if IPv4Network("0.0.0.0/0") in collapse_addresses(map(IPv4Network, self.ssh)) and not self.ssh_open:
            raise ValueError("ssh: 0.0.0.0/0 opens SSH to the world; allowed only with access.ssh_open: true")
        return self


class Release(Model):
    keep: int = Field(5, ge=1, le=100, description="Releases kept on the machine.")
    generation: int = Field(0, ge=0, description="Raise it to apply the same release again.")


# The site that a server has before its first release.
BUILTIN = "app"
# What a site of its own may say; the rest is the machine's.
SITE_KEYS = ("app", "site", "serving", "uwsgi", "gunicorn", "nginx", "tls", "supervisor", "systemd", "release")
MACHINE_KEYS = {
    "site": ("name",),
    "serving": ("process_manager", "front"),
    "nginx": (
        "install",
        "version",
        "archive",
        "sha256",
        "prefix",
        "user",
        "keepalive_timeout",
        "client_header_timeout",
    ),
    "tls": ("directory", "ca"),
}


class Settings(Model):
    """All settings of one stack: its machine, and its site or what its sites have in common."""

    app: App = App()
    site: Site = Site()
    server: Server = Server()
    network: Network = Network()
    topology: Topology = Topology()
    access: Access = Access()
    serving: Serving = Serving()
    uwsgi: Uwsgi = Uwsgi()
    gunicorn: Gunicorn = Gunicorn()
    nginx: Nginx = Nginx()
    tls: Tls = Tls()
    supervisor: Supervisor = Supervisor()
    systemd: Systemd = Systemd()
    mysql: Mysql = Mysql()
    release: Release = Release()
    sites: dict[text.SiteName, dict[str, dict[str, Any]]] = Field(
        default_factory=dict,
        description="Site's name to its own settings, which go before those of the stack.",
        # Their secrets are plain text until of_site has read them.
        repr=False,
    )

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if self.sites:
            for name, own in self.sites.items():
                _check_keys(name, own)
        else:
            combinations.check(self)
        return self

    @property
    def owner(self) -> str:
        """The site's own user, which the server has for it."""
        # The emperor is one process of one user, which cannot become another.
        return f"wsgi-{BUILTIN if self.serving.process_manager == 'emperor' else self.site.name}"

    @property
    def user(self) -> str:
        """The user that the site runs as."""
        return (self.uwsgi.uid if self.serving.app_server == "uwsgi" else self.gunicorn.user) or self.owner

    @property
    def is_apart(self) -> bool:
        """Whether the application runs on other machines than nginx."""
        return self.topology.app_servers > 0

    @property
    def has_database(self) -> bool:
        """Whether a machine of its own runs MySQL for the application."""
        return bool(self.mysql.model_fields_set)

    @property
    def env(self) -> dict[str, SecretStr]:
        """The environment of the application: its own, and where its database is."""
        return {**self.app.env, **(self.mysql.env if self.has_database else {})}

    @property
    def socket(self) -> str | None:
        """uwsgi.socket, or where uWSGI listens when nothing is said; None when it speaks HTTP."""
        if self.uwsgi.http or self.uwsgi.http_socket:
            return None
        return self.uwsgi.socket or ("0.0.0.0:3031" if self.is_apart else "unix")

    @property
    def bind(self) -> str:
        """gunicorn.bind, or where gunicorn listens when nothing is said."""
        return self.gunicorn.bind or ("0.0.0.0:8000" if self.is_apart else "unix")

    def of_site(self, name: str) -> "Settings":
        """The whole settings of a site of `sites`. Raises pydantic.ValidationError."""
        shared = self.model_dump(exclude_unset=True, exclude={"sites"})
        return Settings.model_validate(_merged(shared, {**self.sites[name], "site": _named(self.sites[name], name)}))

    @property
    def each(self) -> tuple["Settings", ...]:
        """The whole settings of each site."""
        return tuple(map(self.of_site, self.sites)) if self.sites else (self,)


def _named(own: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    return {**own.get("site", {}), "name": name}


def _check_keys(name: str, own: dict[str, dict[str, Any]]) -> None:
    for part, values in own.items():
        if part not in SITE_KEYS:
            raise ValueError(f"sites.{name}.{printable(part)}: unknown key; allowed: {', '.join(SITE_KEYS)}")
        for key in values:
            if key in MACHINE_KEYS.get(part, ()):
                where = "the site's key in sites" if key == "name" else f"{part}.{key}, for all sites"
                raise ValueError(f"sites.{name}.{part}.{key}: one for the machine; allowed: {where}")


def _merged(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Maps key by key, anything else as `own` has it."""
    found = dict(shared)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = _merged(found[key], value) if both else value
    return found
