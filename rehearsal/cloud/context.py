"""What the rehearsed resource types work with."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rehearsal.cloud.keys import Keys
from rehearsal.cloud.lxd import Lxd
from rehearsal.cloud.store import project_of
from rehearsal.engine.resource import Context


@dataclass(frozen=True)
class CloudContext(Context):
    """One run. image: alias of the base image. cache: the host's folder of packages.

    say(text): prints a line of progress. published(address): called when the stack has got a public address.
    """

    keys: Keys
    image: str
    cache: Path
    say: Callable[[str], None]
    published: Callable[[str], None] = lambda address: None
    host: Lxd = field(default_factory=Lxd)
    # Reading and writing bridges, ACLs and forwards is one step: only one thread may be in it.
    network_lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def stack(self) -> str:
        return self.state.stack

    @property
    def lxd(self) -> Lxd:
        """LXD seen from the stack's own project, where its machines are."""
        return Lxd(project_of(self.stack))
