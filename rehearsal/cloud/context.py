"""What the rehearsed resource types work with."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rehearsal.cloud.image import BaseImage
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.lxd import Lxd
from rehearsal.cloud.store import project_of
from rehearsal.engine.resource import Context


@dataclass(frozen=True)
class CloudContext(Context):
    """One run. images: id of a cloud's image → the base image that boots in its place.

    say(text): prints a line of progress. published(address): called when the stack has got a public address.
    """

    keys: Keys
    images: Mapping[str, BaseImage]
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
