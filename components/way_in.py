"""Whether Pulumi's commands will get into the stack's server, found out before anything is changed.

The commands try a server that refuses them for minutes, and do not say why. Only the server with the public address is
asked: the others are reached through it with the same key.
"""

import os
import subprocess

import pulumi
import pulumi_alicloud as alicloud

from components import lookup
from settings import private_key_doubt, refused
from settings.server import Access

# Seconds for the server's answer.
_PATIENCE = 5
# What ssh prints when a server refuses the key, after which trying again does not help.
_FINAL = ("Permission denied", "Too many authentication failures")


def check(address_name: str, access: Access) -> None:
    """Refuse keys with which nobody gets in. address_name: of the stack's public address. Raises pulumi.RunError.

    What an existing server does not answer, because it is off or out of reach, is left to the release. A rehearsal
    logs in with keys of its own.
    """
    if pulumi.Config("rehearsal").get_bool("active"):
        return
    doubt = None if pulumi.runtime.is_dry_run() else private_key_doubt(access)
    if not (access.host_key or doubt):
        return
    answer = lookup.ask(alicloud.ecs.get_eip_addresses, address_name=address_name)
    bound = (found for found in answer.addresses if found.address_name == address_name and found.instance_id)
    addresses = [found.ip_address for found in bound]
    for address in addresses:
        keys = host_keys(address) if access.host_key else []
        if access.host_key and keys and access.host_key.split()[1] not in (key.split()[1] for key in keys):
            raise refused(
                f"access.host_key: the server at {address} does not have it; "
                f"allowed: its own, such as {min(keys, key=len)}, if you trust this server"
            )
    # A running server may let in other keys than the program gives to a new one.
    if doubt and all(refuses(address, access.private_key_file) for address in addresses):
        raise refused(doubt)


def check_host_key(address: str, known: str, again: str) -> None:
    """Refuse a server that shows other host keys than the known one. Raises pulumi.RunError.

    Pulumi's commands would try such a server for minutes. A server that does not answer is left to them. again: the
    command that learns the key anew. In a rehearsal, the commands themselves refuse such a server at once.
    """
    if pulumi.Config("rehearsal").get_bool("active"):
        return
    # A key of another type says nothing of this one.
    keys = [key for key in host_keys(address) if key.split()[0] == known.split()[0]]
    if keys and " ".join(known.split()[:2]) not in keys:
        raise pulumi.RunError(
            f"the server at {address} shows another host key than at its first contact, so somebody may be in "
            f"between; if you know why the key has changed: {again}"
        )


def host_keys(address: str) -> list[str]:
    """The host keys that a server shows, as `<type> <base64>`; none when it, or ssh-keyscan, does not answer."""
    done = _run("ssh-keyscan", "-T", str(_PATIENCE), address)
    lines = [line.split() for line in done.stdout.splitlines() if not line.startswith("#")] if done else []
    return sorted(" ".join(words[1:3]) for words in lines if len(words) > 2)


def refuses(address: str, private_key_file: str | None) -> bool:
    """Whether a server refuses root with this private key, or with the SSH agent's for None."""
    # Nothing is sent to the server but the login, so it does not matter here whether it is the right one.
    options = ["-F", "none", "-o", f"UserKnownHostsFile={os.devnull}", "-o", "StrictHostKeyChecking=no"]
    options += ["-o", "BatchMode=yes", "-o", "PreferredAuthentications=publickey", "-o", f"ConnectTimeout={_PATIENCE}"]
    # Unlike Pulumi, ssh would try the keys of the home folder beside the agent's.
    options += ["-o", "IdentitiesOnly=yes", "-i", private_key_file] if private_key_file else ["-o", "IdentityFile=none"]
    done = _run("ssh", *options, f"root@{address}", "true")
    return done is not None and done.returncode == 255 and any(words in done.stderr for words in _FINAL)


def _run(*command: str) -> "subprocess.CompletedProcess[str] | None":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=4 * _PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
