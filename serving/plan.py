"""The serving plan: what a server has and runs, as plain values, printable before a deploy."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from serving import layout, nginx, supervisor, uwsgi
from serving.systems import SYSTEMS, System
from serving.templates import source
from settings import Settings


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


@dataclass(frozen=True)
class ServingPlan:
    """All that is known of a server before it runs.

    system: facts of its operating system. groups, users, directories: made once, by cloud-init.
    pins: what its virtual environments hold beside the application's requirements.
    configs: file name → text with @@fact@@ placeholders, part of every release.
    ports: the TCP ports that the world may reach. server_name: the site's domain, None for any.
    release: what the release tool needs to know.
    """

    system: System
    groups: tuple[str, ...]
    users: tuple[User, ...]
    directories: tuple[Directory, ...]
    pins: tuple[str, ...]
    configs: dict[str, str]
    ports: tuple[int, ...]
    server_name: str | None
    release: dict[str, Any]

    def url(self, address: str) -> str:
        """URL of the site: its domain, or the server's address when it has none."""
        port = "" if self.ports[0] == 80 else f":{self.ports[0]}"
        return f"http://{self.server_name or address}{port}/"

    @property
    def bootstrap_version(self) -> str:
        """Changes when, and only when, a server must be built anew: OS, packages, users, directories."""
        parts = (
            self.system.name,
            self.system.packages,
            self.groups,
            [(user.name, user.home, user.groups) for user in self.users],
            [(directory.path, directory.owner, directory.mode) for directory in self.directories],
        )
        return f"{self.system.name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


_TOOL = ("release", "unpacked", "slots", "venvs", "servers", "files", "probe", "facts", "with_env")

_DIRECTORIES = (
    Directory(layout.ROOT, "root:root", "0755"),
    Directory(layout.INCOMING, "root:root", "0700"),
    Directory(f"{layout.ROOT}/venvs", "root:root", "0755"),
    Directory(layout.SITE_ROOT, f"root:{layout.SHARED_GROUP}", "0750"),
    Directory(f"{layout.SITE_ROOT}/releases", f"root:{layout.SHARED_GROUP}", "0750"),
    Directory(f"{layout.SITE_ROOT}/slots", f"root:{layout.SHARED_GROUP}", "0750"),
    Directory(layout.ETC, "root:root", "0755"),
    Directory(layout.LOG, f"root:{layout.APP_USER}", "0750"),
    Directory("/var/lib/wsgi-ecs", "root:root", "0755"),
)


def make_plan(settings: Settings) -> ServingPlan:
    """Settings → ServingPlan, without I/O beyond reading templates."""
    system = SYSTEMS[settings.server.os]
    configs = {**nginx.files(settings, system), **uwsgi.files(settings), **supervisor.files(settings, system)}
    pins = (*system.build_pins, uwsgi.PIN)
    return ServingPlan(
        system=system,
        groups=(layout.SHARED_GROUP,),
        users=(
            User(layout.APP_USER, "/nonexistent", (layout.SHARED_GROUP,)),
            User(layout.BUILD_USER, layout.BUILD_HOME, (layout.SHARED_GROUP,)),
        ),
        directories=_DIRECTORIES,
        pins=pins,
        configs=configs,
        ports=(settings.nginx.listen,),
        server_name=settings.site.server_name,
        release={
            "site": layout.SITE,
            "system": system.name,
            "build_pins": list(system.build_pins),
            "server_pin": uwsgi.PIN,
            "requirements": settings.app.requirements,
            "ports": {name: list(pair) for name, pair in uwsgi.ports(settings).items()},
            "program": supervisor.program(),
            "supervisor_file": f"{system.supervisor_programs}/{supervisor.program()}{system.supervisor_suffix}",
            "socket": f"{layout.RUN}/{layout.SITE}-@@slot@@.sock",
            "log": f"{layout.LOG}/{layout.SITE}-@@slot@@.log",
            "probe": {
                "path": settings.app.health,
                "host": settings.site.server_name or "localhost",
                "port": settings.nginx.listen,
            },
            "stop_seconds": settings.supervisor.stopwaitsecs,
            "keep": settings.release.keep,
            "generation": settings.release.generation,
        },
    )


def release_files(plan: ServingPlan) -> dict[str, str]:
    """Relative path → text of what a release carries beside the application."""
    return {
        **{f"config/{name}": text for name, text in plan.configs.items()},
        "release.json": json.dumps(plan.release, indent=1, sort_keys=True) + "\n",
        **{f"tool/{name}.py": source(f"machine/{name}.py") for name in _TOOL},
    }
