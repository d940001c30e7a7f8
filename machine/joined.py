"""Waits until enough members of a scaling group serve: release.py joined LEAST SECONDS, on the release host.

A member counts when it lives, serves what is settled, and has run for SECONDS, after which Auto Scaling has brought it
to the load balancer. Each member says for how long it has run, by its own clock. Python 3.6, standard library only.
"""

import time
from typing import Callable, List

from commands import ReleaseError, Say
from contract.store_documents import Offer
from offers import PATIENCE, WAIT_SECONDS, Memory, living, serves, watch
from store import Store, Unreadable

STEP_SECONDS = 2.0
# Seconds after which members that have refused are not waited for: each has tried again meanwhile (member.py).
REFUSED_SECONDS = 150.0


class Waiting:
    """The wait. store: of the members. least: how many are enough. seconds: that each has run. now: on the own clock.

    problem: what is missing, "" when nothing is. limit: seconds after which it fails. hope: when enough members might
    still have served, on the own clock.
    """

    def __init__(self, store: Store, least: int, seconds: int, now: float) -> None:
        self.store, self.least, self.seconds, self.began = store, least, seconds, now
        self.memory = Memory(now, None, False, Offer(), 0)
        self.problem = "the store has not been read"
        self.limit, self.hope = seconds + WAIT_SECONDS, now

    def look(self, now: float) -> None:
        """Look once."""
        try:
            settled = self.store.settled()
            if settled is None:
                self.problem, self.hope = "nothing is settled", now
                return
            delivery = self.store.delivery(settled.number)
            self.limit = self.seconds + WAIT_SECONDS + (delivery.seconds if delivery else 0)
            self.memory = watch(self.memory, self.store.members(), now)
        except Unreadable as error:
            self.problem, self.hope = str(error), now
            return
        there = {name: self.memory.sights[name].member for name in living(self.memory)}
        refusals = [member for member in there.values() if member.refused and member.refused.number == settled.number]
        if len(there) < self.least or len(there) - len(refusals) >= self.least:
            self.hope = now
        serving = [member for member in there.values() if serves(member, settled.number)]
        old = [member for member in serving if member.seconds >= self.seconds]
        self.problem = ""
        if len(old) < self.least:
            what = "{} of {} members serve delivery {}".format(len(serving), self.least, settled.number)
            if len(serving) >= self.least:
                what += ", and {} of them have run for {} s".format(len(old), self.seconds)
            self.problem = what + " ({} live)".format(len(there))

    def is_over(self, now: float) -> bool:
        """Whether nobody can hope any more."""
        return now - self.began > self.limit or now - self.hope > REFUSED_SECONDS

    def lines(self) -> List[str]:
        """Why members do not serve, in their own lines."""
        found = []  # type: List[str]
        for name in sorted(self.memory.sights):
            refused = self.memory.sights[name].member.refused
            if refused:
                found += ["member {} refused delivery {}:".format(name, refused.number), *refused.lines]
        return found


def wait(
    store: Store,
    least: int,
    seconds: int,
    say: Say,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Wait for the members. Parameters are those of Waiting. Raises ReleaseError, with the members' own refusals."""
    waiting = Waiting(store, least, seconds, clock())
    said, problem = clock() - PATIENCE, ""
    while waiting.problem:
        now = clock()
        waiting.look(now)
        if waiting.problem and waiting.is_over(now):
            lines = "\n".join(waiting.lines())
            then = "fix what the lines say, and run up again" if lines else "run up again"
            raise ReleaseError("{} after {:.0f} s".format(waiting.problem, now - waiting.began), lines, then)
        if waiting.problem and (waiting.problem != problem or now - said >= PATIENCE):
            say("waiting: {}".format(waiting.problem))
            said, problem = now, waiting.problem
        if waiting.problem:
            sleep(STEP_SECONDS)
    say("enough members serve: {}".format(least))
