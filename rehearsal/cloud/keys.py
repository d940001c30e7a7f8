"""The rehearsal's own SSH key of a stack, and the host keys of its machines.

    .rehearsal/<stack>/id_ed25519, id_ed25519.pub, known_hosts, ca.pem    (git-ignored, 0700)

Host keys are read through LXD, so a first connection is checked like any other.
"""

import shutil
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from operations.connection import Way
from rehearsal.engine.errors import RehearsalError

# A public key for runs that make no machine, where no key exists yet.
NO_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@dataclass(frozen=True)
class Keys:
    """Paths of a stack's key pair and known hosts. A machine is listed there by its id."""

    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def private(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def public(self) -> str:
        """Text of the public key."""
        return (self.folder / "id_ed25519.pub").read_text().strip()

    def ensure(self) -> bool:
        """Make the key pair unless it exists. Returns whether it was made."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        if self.private.is_file() and self.private.with_suffix(".pub").is_file():
            return False
        self.private.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "wsgi-ecs-rehearsal", "-f", str(self.private)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RehearsalError(f"ssh-keygen: {done.stderr.strip()}")
        return True

    def know(self, machine: str, host_keys: list[str]) -> None:
        """Note a machine's public host keys (`type base64`), which replace its earlier ones."""
        with self._lock:
            old = self.known_hosts.read_text().splitlines() if self.known_hosts.is_file() else []
            lines = [line for line in old if line.split(" ")[0] != machine]
            lines += [f"{machine} {' '.join(key.split()[:2])}" for key in host_keys]
            scratch = self.known_hosts.with_suffix(".new")
            scratch.write_text("".join(f"{line}\n" for line in lines))
            scratch.replace(self.known_hosts)

    def pin(self, machine: str, host_key: str) -> Path:
        """Return a file of known hosts with this key (`type base64`) of a machine, and no other."""
        path = self.folder / f"{machine}.host_key"
        with self._lock:
            scratch = path.with_suffix(".new")
            scratch.write_text(f"{machine} {' '.join(host_key.split()[:2])}\n")
            scratch.replace(path)
        return path

    def remove(self) -> None:
        """Delete the keys and all that lies beside them, and the folder of all stacks when it is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()

    def forget(self, machine: str) -> None:
        (self.folder / f"{machine}.host_key").unlink(missing_ok=True)
        if self.known_hosts.is_file():
            self.know(machine, [])

    def way(self, machine: str, host: str, user: str = "root", port: int = 22, jump: Sequence[str] = ()) -> Way:
        """The way to this machine and no other.

        jump: the ssh command line of a machine to go through. Both machines are checked by their own host keys.
        """
        return Way(host, machine, self.known_hosts, self.private, jump=tuple(jump), user=user, port=port)

    def ssh(self, machine: str, host: str, user: str = "root", port: int = 22, jump: Sequence[str] = ()) -> list[str]:
        """The ssh command line of the way to a machine. A command may follow."""
        return self.way(machine, host, user, port, jump).command()


def keys_of(root: Path, stack: str) -> Keys:
    """The keys of a stack. root: the project."""
    return Keys(root / ".rehearsal" / stack)
