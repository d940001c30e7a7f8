"""The keeper's own program, which `up` starts for a stack with a scaling group: python -m rehearsal.commands.keep.

Every 2 s it looks at the groups without the stack's lock. What it finds twice in a row it puts right with the lock; a
look while a run holds the lock changes nothing. It prints to its log.
"""

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rehearsal.cloud import lock, members, scaling
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.keys import keys_of
from rehearsal.cloud.lxd import SERVED_TAG
from rehearsal.cloud.store import load_state
from rehearsal.commands.owner import give_project_to_user
from rehearsal.engine.errors import RehearsalError, UserError

# Seconds between two looks, and after one that failed.
_EVERY = 2
_AFTER_FAILURE = 30


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}", flush=True)


class Keeper:
    """Looks after the scaling groups of a stack. root: the project."""

    def __init__(self, root: Path, stack: str) -> None:
        self.root, self.stack = root, stack
        self._seen: Mapping[str, str] = {}

    def look(self) -> bool:
        """Look once, and put right what was wrong at the look before, too. Returns whether there is a group."""
        context = self._context()
        groups = scaling.groups(context) if context.state.exists else []
        faults = {id_: text for group in groups for id_, text in group.faults().items()}
        lasting = {id_: text for id_, text in faults.items() if id_ in self._seen}
        self._seen = faults
        if lasting or any(group.newly_served() for group in groups):
            try:
                with lock.stack_lock(self.stack, is_keeper=True):
                    self._act(lasting)
            except UserError:
                # A run holds the lock, and changes the groups itself.
                self._seen = {}
        return bool(groups)

    def _act(self, lasting: Mapping[str, str]) -> None:
        # A run may have changed everything since the look.
        context = self._context()
        if not context.state.exists:
            return
        for group in scaling.groups(context):
            for member in group.newly_served():
                members.mark(context.lxd, member.id, SERVED_TAG)
                say(f"{member.name} gets requests")
            if faults := {id_: text for id_, text in group.faults().items() if id_ in lasting}:
                say(f"{'; '.join(faults.values())}: replacing")
                self._seen = {}
                group.heal(faults)
                give_project_to_user(self.root)

    def _context(self) -> CloudContext:
        return CloudContext(self.root, load_state(self.stack), keys_of(self.root, self.stack), {}, say)


def keep(keeper: Keeper) -> None:
    """Look until the stack has no scaling group any more."""
    say("looks after the machines of the scaling group")
    while True:
        time.sleep(_EVERY)
        try:
            if not keeper.look():
                break
        except (RehearsalError, UserError, OSError) as error:
            say(f"{error}; next look in {_AFTER_FAILURE} s")
            time.sleep(_AFTER_FAILURE)
    say("the stack has no scaling group any more")


if __name__ == "__main__":
    keep(Keeper(Path(sys.argv[2]), sys.argv[1]))
