"""Versions of members in the store: what belongs to members that are made of something else is removed with them.

A scaling group whose members change is made anew, and the group before it is deleted when the new one serves. So the
part of another version goes when members of this version live, and nobody has written there for as long as it takes to
be taken for dead (offers.py). No clock of another machine is asked. Python 3.6, standard library only.
"""

import os
import re
import time
from typing import Callable, Dict, List

import files
from commands import Say
from offers import LIFE_SECONDS, STEP_SECONDS
from store import Store, Unreadable

_VERSION = re.compile(r"[0-9a-f]{12}(\.old)?\Z")
_LOOK_SECONDS = 2.0


class Watched:
    """The versions of a store. folder: that holds a folder for each version. version: whose members get releases."""

    def __init__(self, folder: str, version: str) -> None:
        self.folder, self.version = folder, version
        self.others = self._others()

    def _others(self) -> List[str]:
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        return sorted(name for name in names if _VERSION.match(name) and name != self.version)

    def _counters(self, version: str) -> Dict[str, int]:
        members = Store(os.path.join(self.folder, version)).members()
        if members.unreadable:
            raise Unreadable("members of version {} cannot be read".format(version))
        return {name: member.counter for name, member in members.known.items()}

    def prune(
        self,
        say: Say,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Remove the other versions in which nobody lives. Nothing is removed when anything cannot be read."""
        try:
            self._prune(say, clock, sleep)
        except (Unreadable, OSError) as error:
            say("no other version is removed from the store: {}".format(error))

    def _prune(self, say: Say, clock: Callable[[], float], sleep: Callable[[float], object]) -> None:
        # Members of another version may be booting just now, as long as nobody lives here who takes their place.
        if not self.others or not self._counters(self.version):
            return
        before = {version: self._counters(version) for version in [self.version, *self.others]}
        watched, looked, silent = 0.0, clock(), list(self.others)
        lives = False
        while silent and watched < LIFE_SECONDS:
            sleep(_LOOK_SECONDS)
            now = clock()
            # A look that comes late has not looked meanwhile.
            watched, looked = watched + min(now - looked, STEP_SECONDS), now
            lives = lives or self._counters(self.version) != before[self.version]
            silent = [version for version in silent if self._counters(version) == before[version]]
        for version in silent if lives else []:
            path = os.path.join(self.folder, version)
            if not version.endswith(".old"):
                # What is half removed must not be found under its name.
                os.rename(path, path + ".old")
                path += ".old"
            files.remove(path)
            say("version {} is removed from the store: nobody lives there".format(version))
