"""The lease: which one of the members runs what must run on one machine at a time, such as the commands of `schedule`.

    lease/<number>   made with O_EXCL by the member that takes the lease; the highest number holds
                     {"holder": id, "counter": n}, which the holder writes again and again

A member takes the next number when the highest file has not changed for LEASE_SECONDS of its own clock, so no clock is
compared with another machine's. The holder asks for the next number by its name just before each run: an NFS client
asks the server then, while it may list a folder as it was a minute ago.

Two members may run at once in one case: a holder that has just asked, and is then cut off or frozen for longer than
LEASE_SECONDS before or while the command runs, runs on while the next holder runs, too. Python 3.6, standard library
only.
"""

import contextlib
import json
import os
from typing import List, NamedTuple, Optional

# How long a holder may write nothing. A file system that is away for a minute must not pass the lease on.
LEASE_SECONDS = 90.0
# A watcher that comes late (a frozen machine, a slow store) has not watched meanwhile.
STEP_SECONDS = 10.0


class Watched(NamedTuple):
    """What a member remembers of the lease. number: the highest, 0 for none. text: of its file.

    silent: seconds for which the member has looked and seen no change. looked: when, on its own clock. holds: whether
    the lease is this member's.
    """

    number: int = 0
    text: bytes = b""
    silent: float = 0.0
    looked: float = 0.0
    holds: bool = False


def watch(before: Watched, number: int, text: bytes, now: float) -> Watched:
    """What is known after another look. number, text: of the highest file. now: on the own clock."""
    if (number, text) != (before.number, before.text):
        return Watched(number, text, 0.0, now)
    passed = min(max(now - before.looked, 0.0), STEP_SECONDS)
    return before._replace(silent=before.silent + passed, looked=now)


def is_free(watched: Watched) -> bool:
    """Whether a member that does not hold the lease may take it."""
    return watched.number == 0 or watched.silent >= LEASE_SECONDS


class Lease:
    """A member's part in the lease. folder: lease/ of the store. Methods raise OSError when the store refuses."""

    def __init__(self, folder: str, member: str) -> None:
        self.folder, self.member = folder, member
        self.watched = Watched()
        self.counter = 0

    def step(self, now: float, competes: bool = True) -> bool:
        """Renew the lease, or watch it and take it when it is free. Returns whether it is this member's.

        competes: whether this member wants the lease. A member that does not want it lets its lease run out.
        """
        if not competes:
            self.watched = self.watched._replace(holds=False)
        if self.watched.holds:
            self._renew()
            if self.holds():
                return True
        number = max(self._numbers() or [0])
        text = self._text(number)
        if competes and self._holder(text) == self.member and not self.watched.holds:
            # This program has started again, and its machine holds the lease still.
            self.watched = Watched(number, text, holds=True)
            return self.holds()
        self.watched = watch(self.watched, number, text, now)._replace(holds=False)
        if competes and is_free(self.watched):
            self._take(number + 1)
        return self.watched.holds

    def holds(self) -> bool:
        """Whether the lease is this member's just now: to be asked before each run."""
        if not self.watched.holds:
            return False
        # The order matters. The next number may have been taken and pruned, but then this number was pruned before it.
        if self._exists(self.watched.number + 1):
            return False
        return self._holder(self._text(self.watched.number)) == self.member

    def _renew(self) -> None:
        self.counter += 1
        try:
            # A file that was pruned must not come back, so it is not replaced.
            descriptor = os.open(self._path(self.watched.number), os.O_WRONLY)
        except FileNotFoundError:
            return
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._content())
            file.flush()
            os.fsync(file.fileno())

    def _take(self, number: int) -> None:
        try:
            descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._content())
            file.flush()
            os.fsync(file.fileno())
        # The list of a moment ago may have been old, and this number one that was pruned. The client reads the folder
        # again now, because it has just changed it.
        if max(self._numbers()) != number:
            return
        self.watched = Watched(number, self._content(), holds=True)
        for old in self._numbers():
            if old < number - 1:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path(old))

    def _content(self) -> bytes:
        # Each text is as long as the one before, because it is written over it.
        return json.dumps({"holder": self.member, "counter": "{:015d}".format(self.counter)}).encode()

    def _numbers(self) -> List[int]:
        return sorted(int(name) for name in os.listdir(self.folder) if name.isdigit())

    def _text(self, number: int) -> bytes:
        try:
            with open(self._path(number), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def _exists(self, number: int) -> bool:
        try:
            with open(self._path(number), "rb"):
                return True
        except FileNotFoundError:
            return False

    def _holder(self, text: bytes) -> Optional[str]:
        try:
            return str(json.loads(text.decode())["holder"])
        except (ValueError, TypeError, KeyError):
            return None

    def _path(self, number: int) -> str:
        return os.path.join(self.folder, str(number))
