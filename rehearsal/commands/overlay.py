"""What a rehearsal reads of a stack's settings, and what it changes in them before the program reads them.

No other module of the rehearsal reads settings. They are read as the program reads them, typed and checked. Values
that cannot be read, and keys that no setting has, are left to the program, which refuses them in its own line or knows
them itself.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from kinds.databases import DATABASES
from kinds.systems import SYSTEMS, System
from rehearsal.cloud import daemon, given_images
from rehearsal.cloud.images import CLOUD_IMAGES, RECIPES, SUBSTITUTE
from rehearsal.engine.stack import Stack
from schema.base import SettingsError
from schema.from_source import FromSource
from settings import StackSettings
from settings import plain_secrets as plain
from settings.loader import parse, read
from settings.server import Server
from settings.stack import MACHINE_KEYS, SITE_KEYS, Document

# What is not the system's own in a rehearsal of one that is made of another.
_FAMILY = "{} with its own paths, users, services and package manager; the kernel, libc and programs are Debian 12's"
_ASSUMED = "{} does not say here whether setup --image has set an image of {}; the rehearsal's own is assumed"
_OTHER_MIRRORS = "server.mirrors is not asked for packages: they come from a repository of the rehearsal"
_ABSENT = "{}: not in the rehearsal's repository, so not installed here; in the cloud the real repositories are asked"
_RDS = "mysql.managed: MariaDB of Debian 12 on a machine of its own stands for RDS, without a standby and backups"
_TAIR = "redis.managed: Redis of Debian 12 on a machine of its own stands for Tair, without a standby and backups"
_ALB = "topology.entrance: HAProxy of Debian 12 on a machine of its own stands for the load balancer, for both zones"
_NO_TLS = "mysql.tls: off here, because only Alibaba Cloud has the certificate of RDS"
_LETS_ENCRYPT = "letsencrypt.org"
_OF_DISKS = " or ".join(f"`{key}.protect: false`" for key in (*DATABASES, "data"))
# The settings that take the protection off a resource, as a message names them.
UNPROTECT = f"`server.protect: false` ({_OF_DISKS} for a data disk, `redis.protect: false` for Tair)"


@dataclass(frozen=True)
class SourceArchive:
    """An archive that a machine would download. program: key of the settings that name it."""

    program: str
    version: str
    url: str
    sha256: str


def rehearsed(stack: Stack, public_key: str) -> tuple[Stack, list[str]]:
    """The stack as `up` rehearses it, and a line for the user about each change."""
    settings = _settings(stack)
    if settings is None:
        return with_key(stack, public_key)
    server = settings.server
    own, key_notes = with_key(stack, public_key)
    if settings.topology.is_balanced:
        key_notes.append(_ALB)
    if settings.managed:
        key_notes.append(_RDS)
        if settings.managed.ca:
            own = _changed(own, "mysql", tls="none", ca=None)
            key_notes.append(_NO_TLS)
    if settings.managed_redis:
        key_notes.append(_TAIR)
    # Package mirrors of another system, or of the family's own packages, are useless on this image.
    mirrors = server.mirrors.model_dump(include={"index"}, exclude_unset=True)
    has_os_python = not all(site.python.is_built for site in settings.sites)
    python_notes = _other_python(server.system) if has_os_python else []
    if server.os in RECIPES:
        family = RECIPES[server.os].family
        if family is None or given_images.origin(server.os):
            return own, key_notes
        assumed = [] if given_images.is_known() else [_ASSUMED.format(daemon.name(), server.os)]
        notes = [*assumed, _FAMILY.format(server.os), *python_notes, *key_notes]
        if server.mirrors.packages or server.mirrors.epel:
            own, notes = _changed(own, "server", mirrors=mirrors), [*notes, _OTHER_MIRRORS]
        absent = [name for name in server.own_packages if name not in family.repository.names]
        if absent:
            own, notes = _without_packages(own, server, absent), [*notes, _ABSENT.format(", ".join(absent))]
        return own, notes
    note = (
        f"rehearsed on {SUBSTITUTE} because there is no {server.os} image; {server.os}'s own package steps are skipped"
    )
    notes = [note, *python_notes, *key_notes]
    # Another operating system makes another server, as in the cloud, although both boot the same base image here.
    image = server.image or next(id_ for id_, system in CLOUD_IMAGES.items() if system == server.os)
    changed = _changed(own, "server", os=SUBSTITUTE, mirrors=mirrors, image=image)
    # The program checks the application against the Python of the stack's own system.
    return replace(changed, config={**changed.config, "rehearsal:os": server.os}), notes


def _other_python(system: System) -> list[str]:
    """A line about a Python of the server's that the rehearsal does not run."""
    own, here = (".".join(map(str, each.python_version)) for each in (system, SYSTEMS[SUBSTITUTE]))
    if own == here:
        return []
    return [
        f"{system.name} has Python {own}, and the rehearsal runs Python {here}: the application is not tried on {own}"
    ]


def _without_packages(stack: Stack, server: Server, absent: Collection[str]) -> Stack:
    """The stack without these packages of its operating system."""
    left = [name for name in server.own_packages if name not in absent]
    if server.os not in server.packages_of:
        return _changed(stack, "server", packages=left)
    return _changed(stack, "server", packages_of={**server.packages_of, server.os: left})


def with_key(stack: Stack, public_key: str) -> tuple[Stack, list[str]]:
    """The stack with its own operating system, which may have no image here, and with a public key."""
    active = replace(stack, config={**stack.config, "rehearsal:active": "true"})
    settings = _settings(stack)
    if settings is None or settings.access.public_key is not None:
        return active, []
    note = "access.public_key is not set, so the rehearsal's own key is used"
    return _changed(active, "access", public_key=public_key), [note]


def operating_system(stack: Stack) -> str:
    """Name of the stack's own operating system."""
    settings = _settings(stack)
    return settings.server.os if settings else ""


def plain_secrets(stack: Stack) -> list[str]:
    """A line about values of app.env that look like secrets and are not encrypted."""
    settings = _settings(stack)
    warning = settings and plain.warning(settings, lambda site, value: value in stack.secrets)
    return [warning] if warning else []


def source_archives(stack: Stack) -> Iterator[SourceArchive]:
    """The archives that the stack names by a URL and a checksum, each once."""
    settings = _settings(stack)
    if settings is None:
        return
    sites = ((site.app_server, site.python) for site in settings.sites)
    parts = (settings.nginx, *(part for parts in sites for part in parts))
    found = [part for part in parts if isinstance(part, FromSource) and part.is_remote]
    yield from dict.fromkeys(
        SourceArchive(part.key, part.version or "", part.archive or "", part.sha256 or "") for part in found
    )


def with_archive(stack: Stack, archive: SourceArchive, file: Path) -> Stack:
    """The stack with a local file in place of an archive's URL, wherever the settings name the URL."""

    def local(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: local(name, part) for name, part in value.items()}
        return str(file) if key == "archive" and value == archive.url else value

    keys = (f"{stack.project}:{name}" for name in (archive.program, "sites"))
    texts = {key: json.dumps(local(key, json.loads(stack.config[key]))) for key in keys if key in stack.config}
    return replace(stack, config={**stack.config, **texts})


def asks_lets_encrypt(stack: Stack) -> bool:
    """Whether a site has its certificate from Let's Encrypt, either by name or because no other CA is named."""
    settings = _settings(stack)
    if settings is None:
        return False
    host = urlsplit(settings.acme_directory).hostname or ""
    return f".{host}".endswith(f".{_LETS_ENCRYPT}") and any(site.tls.acme for site in settings.sites)


def with_authority(stack: Stack, directory: str, ca: Path) -> Stack:
    """The stack with another CA. directory: URL of its ACME directory. ca: file with its roots."""
    return _changed(stack, "tls", directory=directory, ca=str(ca))


def ca_file(stack: Stack, root: Path) -> Path | None:
    """File with the roots that vouch for the stack's sites; None for the well-known roots. root: the project."""
    settings = _settings(stack)
    return root / Path(settings.acme_ca).expanduser() if settings and settings.acme_ca else None


def problem(stack: Stack) -> str | None:
    """What is wrong with the stack's settings, as `<key>: <reason>; allowed: …`; None when they can be read."""
    file = f"stacks/Pulumi.{stack.name}.yaml"
    try:
        read(stack.config, stack.project, file)
    except SettingsError as error:
        return str(error).removeprefix(f"{file}: ")
    return None


def is_of_machine(key: str) -> bool:
    """Whether a setting belongs to the machine, so that no site has it in `sites`. key: with dots."""
    section, _, rest = key.partition(".")
    return section not in SITE_KEYS or rest.partition(".")[0] in MACHINE_KEYS.get(section, ())


def applications(stack: Stack) -> Iterator[tuple[str, str, Callable[[str], bool]]]:
    """(what its keys begin with in a message, app.source, whether a setting has a value) of each site."""
    settings = _settings(stack)
    for site in settings.sites if settings else ():
        yield settings.key_of(site), site.app.source, partial(_is_set, site)  # type: ignore[union-attr]


def _is_set(settings: BaseModel, key: str) -> bool:
    value: Any = settings
    for part in key.split("."):
        is_model = isinstance(value, BaseModel)
        if part not in (value.model_fields_set if is_model else value if isinstance(value, dict) else ()):
            return False
        value = getattr(value, part) if is_model else value[part]
    return True


def refusal(key: str, value: Any, system: str, beside: Iterable[tuple[str, Any]] = ()) -> str | None:
    """Why no stack of an operating system takes a setting with this value; None if one may.

    key: with dots. beside: keys and values that are set, too.
    """
    config: dict[str, Any] = {"server": {"os": system}}
    for name, given in (*beside, (key, value)):
        *parts, last = name.split(".")
        section = config
        for part in parts:
            section = section.setdefault(part, {})
        section[last] = given
    try:
        parse(config, "")
    except SettingsError as error:
        named, _, why = str(error).removeprefix(": ").partition(": ")
        # Rules between settings do not count, since other settings come with this one.
        is_unknown = key.startswith(f"{named}.") and why.startswith("unknown key")
        return why if key == named or is_unknown else None
    return None


def _settings(stack: Stack) -> StackSettings | None:
    """The stack's settings without keys that no setting has; None when they cannot be read."""
    known = {f"{stack.project}:{section}" for section in Document.model_fields}
    return _read(stack.project, stack.name, frozenset((key, stack.config[key]) for key in known & set(stack.config)))


@cache
def _read(project: str, name: str, config: frozenset[tuple[str, str]]) -> StackSettings | None:
    try:
        return read(dict(config), project, f"stacks/Pulumi.{name}.yaml")
    except SettingsError:
        return None


def _changed(stack: Stack, section: str, **values: Any) -> Stack:
    """The stack with other values in a section of its settings, which were read before."""
    key = f"{stack.project}:{section}"
    text = json.dumps({**json.loads(stack.config.get(key, "{}")), **values})
    return replace(stack, config={**stack.config, key: text})
