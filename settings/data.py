"""The folder that a site's application may write to, and the settings of what is in it."""

import re
from collections.abc import Iterator, Sequence

from pydantic import SecretStr

from contract import paths
from schema.base import Rule
from settings.site import SiteSettings

DATA_DIR = "DATA_DIR"
# CentOS 7's SQLite 3.7 makes its journal beside the link, where nobody may write; newer ones make it beside the file.
_OLD_SQLITE, _SQLITE = "centos7", (".sqlite3", ".sqlite", ".db")

# Its locks are of one machine, and its write-ahead log is memory of one: https://www.sqlite.org/useovernet.html
_NO_SQLITE = "SQLite breaks in a file system that machines share (data.shared)"
SQLITE_URL = re.compile(r"sqlite[a-z0-9+]*:(?!//$|.*:memory:)")

# Settings of folders that are served from a release.
_SERVED = ("nginx.static", "uwsgi.static_map")


def env(site: str) -> dict[str, SecretStr]:
    """The variables by which a site's application finds its data folder; app.env may set another HOME."""
    folder = SecretStr(paths.data(site))
    return {DATA_DIR: folder, "HOME": folder}


def rules(site: SiteSettings, system: str, is_apart: bool) -> Iterator[Rule]:
    """Yield the rules of what a site keeps. system: name of the servers' operating system."""
    folder, own = paths.data(site.site.name), site.app.env
    value = own[DATA_DIR].get_secret_value() if DATA_DIR in own else folder
    inside = value == folder or (value.startswith(f"{folder}/") and ".." not in value.split("/"))
    reason = "what the application writes elsewhere may be lost by a release"
    yield f"app.env.{DATA_DIR}", not inside, reason, f"{folder} (also without app.env.{DATA_DIR}), or a folder in it"
    entries = [path.rstrip("/") for path in site.app.persistent]
    for number, path in enumerate(entries):
        for other in entries[:number]:
            yield "app.persistent", overlap(path, other), f"{path} and {other} overlap", "each path once"
        for key, part in _released(site):
            reason = f"{key} needs {part} from each release"
            # A package may hold a folder to write to; nginx, which serves a folder, cannot enter the data folder.
            part = part.rstrip("/")
            is_needed = f"{part}/".startswith(f"{path}/") or (key in _SERVED and overlap(path, part))
            yield "app.persistent", is_needed, reason, "paths that the application writes"
        shared = site.data.shared and path.endswith(_SQLITE)
        yield "app.persistent", shared, f"{path}: {_NO_SQLITE}", "mysql, or a database elsewhere"
        yield (
            "app.persistent",
            system == _OLD_SQLITE and path.endswith(_SQLITE),
            f"SQLite of {system} cannot write to {path} through a link",
            "the folder that it is in, or a file in DATA_DIR",
        )
    for name, secret in own.items():
        shared = site.data.shared and bool(SQLITE_URL.match(secret.get_secret_value()))
        yield f"app.env.{name}", shared, _NO_SQLITE, "mysql, or a database elsewhere"
    is_twice = site.data.shared and site.data.disk_gib is not None
    yield "data.disk_gib", is_twice, "set, but data.shared has the data elsewhere", "one of the two"
    unprotected = bool(site.data.protect) and site.data.disk_gib is None and not site.data.shared
    yield "data.protect", unprotected, "set, but there is no data disk", "data.disk_gib with it, or data.shared"
    yield from _served_rules(site, is_apart)


def _served_rules(site: SiteSettings, is_apart: bool) -> Iterator[Rule]:
    served = site.data.served
    without = bool(served) and site.serving.front == "none"
    yield "data.served", without, "set, but serving.front is none", "serving.front: nginx"
    reason = "nginx is on another machine than the data of the application"
    yield (
        "data.served",
        bool(served) and is_apart,
        reason,
        "topology.app_servers: 0, or files that the application sends",
    )
    health = site.app.health.partition("?")[0]
    for path in served:
        yield f"data.served.{path}", health.startswith(path), "app.health lies in it", "another URL path"
        same = "static" in site.nginx.model_fields_set and path in site.nginx.static
        yield f"data.served.{path}", same, "nginx.static has it, too", "another URL path"
        for key in ("websocket", "pools"):
            same = path in getattr(site.nginx, key)
            yield f"data.served.{path}", same, f"nginx.{key} has it, too", "another URL path"
    is_unused = site.data.limit_rate is not None and not served
    yield "data.limit_rate", is_unused, "set, but data.served is empty", "folders in data.served"


def note(sites: Sequence[SiteSettings], has_disk: bool, is_protected: bool) -> str | None:
    """A line for a stack that keeps data on a disk that goes with its server; None for any other stack.

    is_protected: whether the server cannot be deleted or replaced.
    """
    kept = {
        "app.persistent": any(site.app.persistent for site in sites),
        "data.served": any(site.data.served for site in sites),
    }
    named = [key for key, is_set in kept.items() if is_set]
    if not named or has_disk or is_protected:
        return None
    return (
        f"{' and '.join(named)}: these data are on the server's own disk, and a replacement or destroy deletes them; "
        "data.disk_gib gives them a disk that outlives the server, and data.shared a file system"
    )


def overlap(one: str, other: str) -> bool:
    """Whether one of two paths is the other, or lies in it."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _released(site: SiteSettings) -> Iterator[tuple[str, str]]:
    """Yield the settings that name a path of the application's folder, with that path."""
    yield "app.requirements", site.app.requirements
    if site.app.wsgi_file:
        yield "app.wsgi_file", site.app.wsgi_file
    else:
        module = site.app.module.replace(".", "/")
        yield "app.module", module
        yield "app.module", f"{module}.py"
    if "static" in site.nginx.model_fields_set:
        for path in site.nginx.static.values():
            yield "nginx.static", path
    for path in site.nginx.error_page.values():
        yield "nginx.error_page", path
    if site.nginx.maintenance.page:
        yield "nginx.maintenance.page", site.nginx.maintenance.page
    for path in site.uwsgi.static_map.values():
        yield "uwsgi.static_map", path
