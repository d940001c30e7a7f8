"""What a rehearsal reads of a stack's settings, and what it changes in them before the program reads them.

No other module of the rehearsal reads settings. A value that is not what the program expects is left to the program,
which refuses it with its own message.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from rehearsal.engine.stack import Stack

# The system that has a base image, the systems that are rehearsed on it, and the program's default.
_IMAGE = "debian12"
_WITHOUT_IMAGE = ("centos7", "alinux3", "ubuntu2204")
_DEFAULT_OS = "centos7"
# Programs that a stack may have built from source.
_PROGRAMS = ("nginx", "uwsgi")
_LETS_ENCRYPT = "letsencrypt.org"
_BOOL = TypeAdapter(bool)


@dataclass(frozen=True)
class SourceArchive:
    """An archive that a machine would download. program: nginx or uwsgi."""

    program: str
    version: str
    sha256: str


def rehearsed(stack: Stack, public_key: str) -> tuple[Stack, list[str]]:
    """The stack as `up` rehearses it, and a line for the user about each change."""
    server = _section(stack, "server")
    system = server.get("os", _DEFAULT_OS)
    own, key_notes = with_key(stack, public_key)
    if system not in _WITHOUT_IMAGE:
        return own, key_notes
    if isinstance(mirrors := server.get("mirrors"), dict):
        # Drop package mirrors, because those of another system are useless on this image.
        server["mirrors"] = {key: value for key, value in mirrors.items() if key not in ("packages", "epel")}
    note = f"rehearsed on {_IMAGE} because there is no {system} image; {system}'s own package steps are skipped"
    return _with(own, "server", {**server, "os": _IMAGE}), [note, *key_notes]


def with_key(stack: Stack, public_key: str) -> tuple[Stack, list[str]]:
    """The stack with its own operating system, which may have no image here, and with a public key."""
    active = replace(stack, config={**stack.config, "rehearsal:active": "true"})
    access = _section(stack, "access")
    if access.get("public_key") is not None:
        return active, []
    note = "access.public_key is not set, so the rehearsal's own key is used"
    return _with(active, "access", {**access, "public_key": public_key}), [note]


def operating_system(stack: Stack) -> str:
    return str(_section(stack, "server").get("os", _DEFAULT_OS))


def source_archives(stack: Stack) -> Iterator[SourceArchive]:
    """The archives that the stack names by a URL and a checksum."""
    for program in _PROGRAMS:
        settings = _section(stack, program)
        sha256 = str(settings.get("sha256"))
        by_url = settings.get("install") == "source" and "://" in str(settings.get("archive"))
        if by_url and re.fullmatch("[0-9a-f]{64}", sha256):
            yield SourceArchive(program, str(settings.get("version")), sha256)


def with_archive(stack: Stack, program: str, file: Path) -> Stack:
    """The stack with a local file in place of an archive's URL."""
    return _with(stack, program, {**_section(stack, program), "archive": str(file)})


def asks_lets_encrypt(stack: Stack) -> bool:
    """Whether a site has its certificate from Let's Encrypt, either by name or because no other CA is named."""
    shared, sites = _section(stack, "tls"), _section(stack, "sites").values()
    each = [shared, *(site["tls"] for site in sites if isinstance(site, dict) and isinstance(site.get("tls"), dict))]
    host = urlsplit(str(shared.get("directory", f"https://{_LETS_ENCRYPT}"))).hostname or ""
    return f".{host}".endswith(f".{_LETS_ENCRYPT}") and any(_true(tls.get("acme", False)) for tls in each)


def with_authority(stack: Stack, directory: str, ca: Path) -> Stack:
    """The stack with another CA. directory: URL of its ACME directory. ca: file with its roots."""
    return _with(stack, "tls", {**_section(stack, "tls"), "directory": directory, "ca": str(ca)})


def ca_file(stack: Stack, root: Path) -> Path | None:
    """File with the roots that vouch for the stack's sites; None for the well-known roots. root: the project."""
    value = _section(stack, "tls").get("ca")
    return root / Path(value).expanduser() if isinstance(value, str) else None


def _true(value: object) -> bool:
    """A boolean setting as the program reads it: yes, on and 1 are true, too."""
    with suppress(ValidationError):
        return _BOOL.validate_python(value)
    return False


def _with(stack: Stack, name: str, values: dict[str, Any]) -> Stack:
    return replace(stack, config={**stack.config, f"{stack.project}:{name}": json.dumps(values)})


def _section(stack: Stack, name: str) -> dict[str, Any]:
    """One structured key of the project's config; empty when it is not set or not a map."""
    try:
        value = json.loads(stack.config.get(f"{stack.project}:{name}", "{}"))
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
