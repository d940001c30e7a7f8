"""In a rehearsal a machine that has its certificates from Let's Encrypt asks a test CA of this host instead."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from rehearsal import host, pebble
from rehearsal.stack import Stack, section

# Name of the file with what vouches for the CA and for what it has signed.
ROOTS = "ca.pem"
_LETS_ENCRYPT = "letsencrypt.org"
_BOOL = TypeAdapter(bool)
_END = "-----END CERTIFICATE-----\n"
Point = Callable[[str], None]


def overlay(stack: Stack, roots: Path, say: Callable[[str], None]) -> tuple[Stack, Point, list[str]]:
    """tls.directory and tls.ca of the test CA, which runs from here on, in a stack that names none of its own.

    roots: file that gets the roots which vouch for it and for what it signs. Returns the stack, what tells the CA
    the public address of the stack, and a line for the user. Raises UserError or RehearsalError.
    """
    ca = pebble.Pebble(stack.name)
    if not wanted(stack):
        ca.close()
        roots.unlink(missing_ok=True)
        return stack, lambda address: None, []
    host.install(pebble.PACKAGES, say)
    ca.open()
    ca.start()
    # What an earlier one has signed, from before this host's restart, is still good.
    kept = roots.read_text() if roots.is_file() else ""
    new = [f"{text}{_END}" for text in ca.roots.read_text().split(_END)[:-1]]
    roots.write_text(kept + "".join(text for text in new if text not in kept))
    told, note = _told(stack, ca.directory, roots)
    return told, ca.point, [note]


def foreseen(stack: Stack, roots: Path) -> tuple[Stack, list[str]]:
    """What overlay makes of a stack while its CA runs, for a preview, which starts none."""
    if not wanted(stack):
        return stack, []
    with suppress(OSError):
        directory = pebble.Pebble(stack.name).directory
        if roots.is_file():
            told, note = _told(stack, directory, roots)
            return told, [note]
    return stack, ["tls.acme: up starts a test CA on this host, and names it in place of Let's Encrypt"]


def _told(stack: Stack, directory: str, roots: Path) -> tuple[Stack, str]:
    told = {**section(stack, "tls"), "directory": directory, "ca": str(roots)}
    config = {**stack.config, f"{stack.project}:tls": json.dumps(told)}
    where = f".rehearsal/{stack.name}/{roots.name}"
    note = f"tls.acme: a test CA on this host is asked, in place of Let's Encrypt; its roots: {where}"
    return replace(stack, config=config), note


def wanted(stack: Stack) -> bool:
    """Whether a site of the stack has its certificate from Let's Encrypt, by name or because none is named."""
    shared, sites = section(stack, "tls"), section(stack, "sites").values()
    asked = [shared, *(site["tls"] for site in sites if isinstance(site, dict) and isinstance(site.get("tls"), dict))]
    named = urlsplit(str(shared.get("directory", f"https://{_LETS_ENCRYPT}"))).hostname or ""
    return f".{named}".endswith(f".{_LETS_ENCRYPT}") and any(_yes(tls.get("acme", False)) for tls in asked)


def _yes(value: object) -> bool:
    """A setting as the program takes it: yes, on and 1 are true as well."""
    with suppress(ValidationError):
        return _BOOL.validate_python(value)
    return False
