"""How SSH reaches a server, and what to do when it does not."""

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Seconds for a connection.
_PATIENCE = 5
# What ssh says of a host key that is not the known one.
_OTHER_KEY = ("HOST IDENTIFICATION HAS CHANGED", "Host key verification failed", "No ED25519 host key is known")
_REFUSED = ("Permission denied", "Too many authentication failures")


@dataclass(frozen=True)
class Way:
    """The way to a server.

    host: IPv4 address. alias: name of the server in the file known_hosts. key: file with the private key, None for the
    SSH agent and the user's own keys. accepts_new: whether the key of a server that known_hosts does not have is added
    to it; a server with another key is refused in any case. jump: the ssh command line of a server to go through.
    front: the way to that server.
    """

    host: str
    alias: str
    known_hosts: Path
    key: Path | None
    accepts_new: bool = False
    jump: tuple[str, ...] = ()
    front: "Way | None" = None
    user: str = "root"
    port: int = 22

    def command(self, *flags: str) -> list[str]:
        """The ssh command line that reaches this server and no other. A command may follow. flags: such as -t."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new" if self.accepts_new else "yes",
            "HostKeyAlias": self.alias,
            "UserKnownHostsFile": _quoted(self.known_hosts),
            "GlobalKnownHostsFile": os.devnull,
            # With a lower level, ssh does not report a connection that ends before or after it was made.
            "LogLevel": "INFO",
            "ConnectTimeout": str(_PATIENCE),
            "ServerAliveInterval": "10",
        }
        if self.key:
            options = {"IdentitiesOnly": "yes", **options}
        if self.jump:
            # Use ProxyCommand, because ProxyJump ignores the key and the host keys of these options.
            *first, target = (word.replace("%", "%%") for word in self.jump)
            options["ProxyCommand"] = shlex.join([*first, "-W", "%h:%p", target])
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        identity = ["-i", str(self.key)] if self.key else []
        # Ignore the user's own configuration, which is for the user's own machines.
        start = ["ssh", "-F", os.devnull, *flags, *identity]
        return [*start, *words, "-p", str(self.port), f"{self.user}@{self.host}"]


def _quoted(path: Path) -> str:
    """A path as ssh reads a list of paths: one with spaces is quoted."""
    return f'"{path}"' if any(character.isspace() for character in str(path)) else str(path)


def advice(way: Way, printed: str) -> str | None:
    """What to do after ssh has failed; None if its own words say enough. printed: what ssh has printed."""
    if way.front and (of_front := explain(way.front)):
        # The words of both servers look the same.
        return of_front
    if any(words in printed for words in _OTHER_KEY):
        if not way.accepts_new:
            return (
                f"the server at {way.host} does not have its known host key, so somebody may be in between; if you "
                "know why the key has changed, see 'Host keys' in docs/day-to-day.md"
            )
        forget = f"ssh-keygen -R {way.alias} -f {shlex.quote(str(way.known_hosts))}"
        return (
            f"the server at {way.host} has another host key than at the first connection, so somebody may be in "
            f"between; if you know why the key has changed: {forget}"
        )
    if any(words in printed for words in _REFUSED):
        return (
            f"the server at {way.host} refuses the private key; set access.private_key_file to the one of "
            "access.public_key, or add it to the SSH agent (ssh-add -l lists its keys)"
        )
    if "Connection timed out" in printed or "Connection refused" in printed or "No route to host" in printed:
        return f"no SSH connection to {way.host}; access.ssh must allow your address, and the server must run"
    return None


def explain(way: Way) -> str | None:
    """Try the way again, and say what to do about a failure; None if ssh gets in or its own words say enough."""
    command = [*way.command(), "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return advice(way, done.stderr) if done.returncode == 255 else None
