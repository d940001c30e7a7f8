"""A test CA of this host, which the machines of a rehearsal ask for certificates in place of Let's Encrypt."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rehearsal.cloud import host, pebble
from rehearsal.commands import overlay
from rehearsal.engine.stack import Stack

# Name of the file with the roots that vouch for the CA and for the certificates that it signs.
ROOTS = "ca.pem"
_END = "-----END CERTIFICATE-----\n"
Point = Callable[[str], None]


def start(stack: Stack, roots: Path, say: Callable[[str], None]) -> tuple[Stack, Point, list[str]]:
    """Start the test CA of a stack that asks Let's Encrypt, and name the CA in the stack's settings.

    roots: file to write, with the roots that vouch for the CA and its certificates. Returns the stack, a function that
    tells the CA the stack's public address, and a line for the user. Raises UserError or RehearsalError.
    """
    ca = pebble.Pebble(stack.name)
    if not overlay.asks_lets_encrypt(stack):
        ca.close()
        roots.unlink(missing_ok=True)
        return stack, lambda address: None, []
    host.install(pebble.PACKAGES, say)
    ca.open()
    ca.start()
    # Keep earlier roots, because certificates that were signed before this host restarted are still valid.
    kept = roots.read_text() if roots.is_file() else ""
    new = [f"{text}{_END}" for text in ca.roots.read_text().split(_END)[:-1]]
    roots.write_text(kept + "".join(text for text in new if text not in kept))
    return overlay.with_authority(stack, ca.directory, roots), ca.point, [_note(stack, roots)]


def foresee(stack: Stack, roots: Path) -> tuple[Stack, list[str]]:
    """What `start` makes of a stack whose CA runs already; a preview starts no CA."""
    if not overlay.asks_lets_encrypt(stack):
        return stack, []
    with suppress(OSError):
        directory = pebble.Pebble(stack.name).directory
        if roots.is_file():
            return overlay.with_authority(stack, directory, roots), [_note(stack, roots)]
    return stack, ["tls.acme: up starts a test CA on this host, which replaces Let's Encrypt"]


def _note(stack: Stack, roots: Path) -> str:
    where = f".rehearsal/{stack.name}/{roots.name}"
    return f"tls.acme: a test CA on this host replaces Let's Encrypt; its roots are in {where}"
