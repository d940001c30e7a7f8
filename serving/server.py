"""What every server of a stack gets, whatever runs on it: sshd, the journal, and who reaches the metadata of the cloud.

https://man.openbsd.org/sshd_config and https://www.freedesktop.org/software/systemd/man/latest/journald.conf.html
"""

from contract import paths
from contract.documents import JOURNALD_FILE, METADATA_SCRIPT, METADATA_UNIT, SSHD_FILE
from settings import StackSettings
from templates import render, source

# What ssh-audit finds no fault with, the best first. A server leaves out what its sshd does not know. Pulumi's own SSH
# client knows curve25519-sha256, AES and the MACs, and OpenSSH knows all since 7.4.
_ALGORITHMS = {
    "KexAlgorithms": (
        "mlkem768x25519-sha256",
        "sntrup761x25519-sha512",
        "sntrup761x25519-sha512@openssh.com",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
    ),
    "Ciphers": (
        "aes256-gcm@openssh.com",
        "aes128-gcm@openssh.com",
        "aes256-ctr",
        "aes192-ctr",
        "aes128-ctr",
    ),
    "MACs": ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "umac-128-etm@openssh.com"),
    "HostKeyAlgorithms": ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"),
}


def host_files(stack: StackSettings) -> dict[str, str]:
    """File name → text."""
    algorithms = dict(_ALGORITHMS)
    kind = stack.access.host_key.split()[0] if stack.access.host_key else ""
    if kind == "ssh-rsa" or kind.startswith("ecdsa-"):
        # Whoever checks the server by this key must still be shown it, and Pulumi's SSH client asks for it by its type.
        algorithms["HostKeyAlgorithms"] += (kind,)
    metadata = {
        METADATA_SCRIPT: source("templates/metadata/metadata.sh"),
        METADATA_UNIT: render("templates/metadata/metadata.service.j2", script=f"{paths.ETC}/{METADATA_SCRIPT}"),
    }
    return {
        **({} if stack.confinement.metadata else metadata),
        SSHD_FILE: render("templates/server/sshd.conf.j2", algorithms=algorithms),
        JOURNALD_FILE: source("templates/server/journald.conf"),
    }
