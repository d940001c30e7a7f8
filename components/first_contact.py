"""How the program comes to know the host key of a server that nobody has seen yet.

user data with a secret ─▶ server ─▶ first session: host key and proof ─▶ state of the stack ─▶ every later session

docs/decisions/0008-host-keys-from-the-first-session.md says why.
"""

import hashlib
import hmac
import re
import secrets

import pulumi

from contract.resources import FIRST_CONTACT
from templates import render

# pulumi-command asks for the type of the key that it has been given, so one type is enough.
_PRINTED = re.compile(r"(ssh-ed25519 [A-Za-z0-9+/]+=*)(?:\n([0-9a-f]{64}))?\n?")


def introduced(user_data: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return user data of a new server, with a new secret. USER_DATA_LIMIT leaves room for it."""
    # Another run makes another secret, which changes nothing: user data of an existing server are ignored, and the
    # state keeps the text that the server was made with.
    return pulumi.Output.secret(pulumi.Output.concat(user_data, f"{FIRST_CONTACT}{secrets.token_urlsafe(32)}\n"))


def command() -> str:
    """Return the command of the first session, which prints the host key and the proof."""
    return render("templates/release/host-key.sh.j2", line=FIRST_CONTACT)


def proof(secret: str, host_key: str) -> str:
    """Return what only a server that has read this secret can say of its host key."""
    return hashlib.sha256(f"{secret} {host_key} {secret}".encode()).hexdigest()


def repeated(urn: str) -> str:
    """Return the command that runs the first session of this urn again."""
    return f"pulumi up --replace '{urn}'"


def host_key(printed: str, user_data: str | None, address: str, urn: str) -> str:
    """Return the host key that the first session has printed. Raises pulumi.RunError if it is another server's.

    user_data: those that the server was made with. An earlier version's have no secret, and neither has a text that
    the state does not know; then the first session is trusted. address: the server's. urn: of the first session.
    """
    again = f"run the first session again, from a network that you trust: {repeated(urn)}"
    found = _PRINTED.fullmatch(printed)
    if not found:
        raise pulumi.RunError(f"the server at {address} has printed no host key that can be checked; {again}")
    secret = re.search(f"^{FIRST_CONTACT}(.+)$", user_data or "", re.MULTILINE)
    if not secret:
        # One that proves itself to a state without the secret, as a rehearsal's is, has been checked as it was made.
        if found[2]:
            return found[1]
        pulumi.info(
            f"the host key of the server at {address} is accepted without proof, as it is for servers of an earlier "
            f"version: {found[1]}"
        )
    elif not hmac.compare_digest(proof(secret[1], found[1]), found[2] or ""):
        raise pulumi.RunError(
            f"what answers at {address} is not the server that was made, so somebody may be in between; {again}"
        )
    return found[1]
