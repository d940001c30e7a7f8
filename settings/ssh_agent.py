"""The SSH agent that Pulumi's commands log in with when no private key is set.

Its protocol: https://datatracker.ietf.org/doc/html/draft-ietf-sshm-ssh-agent
"""

import base64
import os
import socket
import struct

from settings.server import Access

_REQUEST_IDENTITIES = struct.pack(">IB", 1, 11)
_IDENTITIES_ANSWER = 12
# Seconds for an agent's answer, and bytes that it may have.
_PATIENCE, _MOST = 10, 1 << 20


def look(access: Access) -> tuple[str | None, str | None]:
    """Why nobody can log in, for there is neither a private key nor an agent with one; and what else is doubtful."""
    if access.private_key_file or not hasattr(socket, "AF_UNIX"):
        return None, None
    path = os.environ.get("SSH_AUTH_SOCK")
    why, found = "no SSH agent runs (SSH_AUTH_SOCK is not set)", []
    if path:
        try:
            why, found = "the SSH agent has no key", _keys(path)
        except (OSError, ValueError, struct.error):
            why = f"no SSH agent answers at {path}"
    if not found:
        return (
            f"access.private_key_file: not set, and {why}; "
            "allowed: a file with the private key, or an agent with it (ssh-add)"
        ), None
    if access.public_key and access.public_key.split()[1] not in found:
        return None, (
            "access.public_key: the SSH agent does not have its private key, and a new server lets in nobody else; "
            "allowed: an agent that has it (ssh-add)"
        )
    return None, None


def _keys(path: str) -> list[str]:
    """Base64 blobs of the public keys that an agent has. Raises OSError, ValueError or struct.error."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(_PATIENCE)
        agent.connect(path)
        agent.sendall(_REQUEST_IDENTITIES)
        answer = agent.makefile("rb")
        (size,) = struct.unpack(">I", answer.read(4))
        body = answer.read(min(size, _MOST))
    kind, count = struct.unpack_from(">BI", body)
    if kind != _IDENTITIES_ANSWER:
        raise ValueError(kind)
    found, at = [], 5
    for _ in range(count):
        (length,) = struct.unpack_from(">I", body, at)
        found.append(base64.b64encode(body[at + 4 : at + 4 + length]).decode())
        # A comment follows each key.
        (comment,) = struct.unpack_from(">I", body, at + 4 + length)
        at += 8 + length + comment
    return found
