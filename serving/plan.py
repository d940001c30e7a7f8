"""The serving plan: what a server has and runs, as plain values, printable before a deploy."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from contract.documents import Host, Release
from contract.service_documents import Database, Redis
from kinds.place import Place
from kinds.process_managers import Program
from kinds.service import Service
from kinds.systems import System


@dataclass(frozen=True)
class File:
    """A text file of a server. `mode` is octal text such as 0644; the owner is root."""

    path: str
    text: str
    mode: str = "0644"


@dataclass(frozen=True)
class Directory:
    """A directory of a server. `owner` is user:group, `mode` octal text."""

    path: str
    owner: str
    mode: str


@dataclass(frozen=True)
class User:
    """A system user without a login, beside its own group a member of `groups`."""

    name: str
    home: str
    groups: tuple[str, ...]


# What a machine does: both, nginx alone, the application alone for nginx on another machine, a service alone, or bring
# releases to servers that come and go.
Role = Literal["whole", "front", "app", "service", "release"]


@dataclass(frozen=True)
class SitePlan:
    """A site: its program, its part of nginx's configuration, its releases.

    place: its names on the server. pins: what its virtual environments hold beside the application's
    requirements. configs: file name → text with @@fact@@ placeholders, part of every release. program: how
    the process manager is told. server: name of the application server. sources: archives that travel with a release,
    name in it → path on this machine. ports: TCP ports that clients use; the last one is in the site's URL. secure:
    whether that port speaks TLS. host: a name that the site answers to, None for any. release: what the release tool
    needs to know.
    """

    place: Place
    pins: tuple[str, ...]
    configs: dict[str, str]
    program: Program
    server: str
    sources: dict[str, str]
    ports: tuple[int, ...]
    secure: bool
    host: str | None
    location: str
    release: Release

    def url(self, address: str) -> str:
        """URL of the site: its domain, or the server's address when it has none."""
        scheme, usual = ("https", 443) if self.secure else ("http", 80)
        port = "" if self.ports[-1] == usual else f":{self.ports[-1]}"
        return f"{scheme}://{self.host or address}{port}{self.location}"


@dataclass(frozen=True)
class ServingPlan:
    """All that is known of a server before it runs.

    role: what it does. system: facts of its operating system. groups, users, directories: made once, by cloud-init.
    bootstrap_files: path → text that a server gets once. configs: file name → text of what its sites
    share. sources: as a site's. ports: the TCP ports that its clients reach, the world or nginx. host: what the
    release tool needs to know of the machine. service: what a machine has that has it alone. numbers: user or group →
    its number, for those that must have the same number on other machines. store_units: units of systemd that are
    started when the server is ready for its first release.
    """

    role: Role
    system: System
    packages: tuple[str, ...]
    services: tuple[str, ...]
    groups: tuple[str, ...]
    users: tuple[User, ...]
    directories: tuple[Directory, ...]
    bootstrap_files: dict[str, str]
    has_nginx: bool
    configs: dict[str, str]
    sources: dict[str, str]
    ports: tuple[int, ...]
    host: Host | Database | Redis
    sites: tuple[SitePlan, ...]
    service: Service | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)
    store_units: tuple[str, ...] = ()

    @property
    def bootstrap_version(self) -> str:
        """Changes when, and only when, a server must be built anew: OS, packages, users, directories."""
        parts = (
            self.system.name,
            self.packages,
            self.services,
            sorted(self.bootstrap_files.items()),
            self.groups,
            [(user.name, user.home, user.groups) for user in self.users],
            [(directory.path, directory.owner, directory.mode) for directory in self.directories],
            # Nothing without them: another text would build each server anew.
            *([sorted(self.numbers.items())] if self.numbers else []),
        )
        return f"{self.system.name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Machine:
    """One server of a stack, or what the members of its scaling group have in common. group: its security group's.

    name: empty, front, app-<number>, db, redis, release or members. instance_type: of ECS, as the setting `key` has it.
    """

    name: str
    group: str
    instance_type: str
    key: str
    plan: ServingPlan

    def named(self, stack: str) -> str:
        """Name of the machine's resources. stack: name of the stack's."""
        return f"{stack}-{self.name}" if self.name else stack
