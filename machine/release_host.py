"""The release host: puts deliveries into the store and rolls them out over the members of a scaling group.

Only this machine writes deliveries, what is settled and the offer, and one run at a time has its lock (lock.py), so the
store needs no lock of NFS. It remembers nothing: a release host that is built anew finds all in the store. A roll-out
that was killed is brought to its end by the next one, or by resume(). Python 3.6, standard library only.
"""

import functools
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple

import lock
from commands import ReleaseError, Say
from contract.store_documents import Offer, Settled, Silent
from offers import Accept, Memory, Plan, Write, decide, gone, silent
from store import Damaged, Store, Unreadable, staying, sums

STEP_SECONDS = 2.0
# Seconds for which a roll-out goes on trying while the store refuses. With a hard mount it hangs instead.
STORE_SECONDS = 300.0
# Seconds that a run may have the lock of this machine.
LOCK_SECONDS = 3600
# Seconds that a member may take when no delivery says so.
_SECONDS = 900
_AGAIN = "run up again when the shared file system answers"
# Turns that are left out when nobody knows how many were given.
_UNKNOWN_TURNS = 1000


class RollOut:
    """A roll-out that is under way. number: of the delivery, 0 to end only what an earlier roll-out has left.

    at_once: as in Plan. keep: how many accepted deliveries stay for a rollback. now: seconds on the own clock. Raises
    Unreadable while the store refuses, and ReleaseError for a delivery that is not there.
    """

    def __init__(self, store: Store, number: int, at_once: int, keep: int, say: Say, now: float) -> None:
        self.store, self.say, self.keep = store, say, keep
        offer = self._or_none(store.offer)
        settled = self._or_none(store.settled)
        accepted = _accepted(store)
        noted = self._or_none(store.silent) or Silent()
        members = store.members().known.values()
        turns = [member.refused.turn for member in members if member.refused]
        turns += [member.doing.turn for member in members if member.doing]
        turns += [offer.turn] if offer else [_UNKNOWN_TURNS + max(turns or [0])]
        self.plan = self._plan(number, at_once, accepted, accepted | {member.number or 0 for member in members})
        is_served = settled is not None and settled.number in accepted
        # An offer that is damaged is written anew, whatever it was.
        offer = offer or Offer(-1)
        self.memory = Memory(now, settled, is_served, offer, max(turns), looked=now, said=now, silent=noted.members)
        self.writes: List[Write] = []
        self.lines: List[str] = []
        self.problem = ""
        self.refused_since: Optional[float] = None

    def _or_none(self, read: Callable[[], Any]) -> Any:
        """What a file says, None for a damaged one."""
        try:
            return read()
        except Damaged as error:
            self.say("warning: the store: {}; it counts as absent".format(error))
            return None

    def _plan(self, number: int, at_once: int, accepted: Set[int], served: Set[int]) -> Plan:
        delivery = self._or_none(functools.partial(self.store.delivery, number)) if number else None
        if number and delivery is None:
            raise ReleaseError("delivery {} is not in the store".format(number), then="run up again")
        commands: List[str] = []
        # The commands of a release run once: not for a delivery or a release that a member has served before.
        if delivery and number not in accepted:
            releases: Set[Tuple[str, str]] = set()
            for other in served:
                known = self._or_none(functools.partial(self.store.delivery, other))
                releases |= set(known.sites.items()) if known else set()
            commands = sorted(site for site, release in delivery.sites.items() if (site, release) not in releases)
        return Plan(number, at_once, delivery.seconds if delivery else _SECONDS, commands, not accepted)

    def step(self, now: float) -> bool:
        """Look at the members and write what comes next. Returns whether the roll-out has ended. Raises ReleaseError.

        What could not be written is written by the next step, before anything else is decided.
        """
        try:
            if not self.writes and self.memory.phase != "closed":
                members = self.store.members()
                for problem in members.unreadable.values():
                    if not members.known and not isinstance(problem, Damaged):
                        raise problem
                decision = decide(self.plan, self.memory, members, now)
                self.memory, self.writes, self.lines = decision.memory, list(decision.writes), decision.lines
            while self.writes:
                self._write(self.writes[0])
                del self.writes[0]
        except (Unreadable, OSError) as error:
            self._wait_for_store(error, now)
            return False
        self.refused_since, self.problem = None, ""
        for line in self.lines:
            self.say(line)
        self.lines = []
        if self.memory.phase != "closed":
            return False
        self._tidy_up()
        return True

    def _write(self, document: Write) -> None:
        if isinstance(document, Accept):
            self.store.accept(document.number, document.member)
        elif isinstance(document, Settled):
            self.store.settle(document)
        else:
            self.store.make_offer(document)

    def _wait_for_store(self, error: Exception, now: float) -> None:
        since = self.refused_since = now if self.refused_since is None else self.refused_since
        if now - since > STORE_SECONDS:
            what = "the store has refused for {:.0f} s: {}".format(now - since, error)
            raise ReleaseError(what, then=_AGAIN) from error
        if str(error) != self.problem:
            self.say("waiting for the store: {}".format(error))
            self.problem = str(error)

    def _tidy_up(self) -> None:
        """Remove what nobody needs. A failure does not end the release."""
        try:
            self.store.note_silent(silent(self.memory))
            for name in gone(self.memory):
                self.store.forget(name)
            members = self.store.members()
            if members.unreadable:
                # A delivery that is served might be removed.
                self.say("no delivery is removed: {}".format("; ".join(map(str, members.unreadable.values()))))
                return
            known = members.known.values()
            settled, offer = self.memory.settled, self.memory.offer
            kept = staying(self.store.numbers(), _accepted(self.store), settled, offer, known, self.keep)
            self.store.prune(kept)
        except (Unreadable, OSError) as error:
            self.say("tidying up failed, and the next release tries again: {}".format(error))

    def check(self) -> None:
        """Raise ReleaseError when the delivery was not settled."""
        if self.memory.problem:
            settled = self.memory.settled
            stays = "delivery {} stays settled".format(settled.number) if settled else "nothing is settled"
            what = "{}; {}".format(self.memory.problem, stays)
            raise ReleaseError(what, "\n".join(self.memory.lines), "fix what the lines say, and run up again")


def _accepted(store: Store) -> Set[int]:
    return {number for number in store.numbers() if store.is_accepted(number)}


def next_number(store: Store) -> int:
    """The number of the next delivery: higher than all that anybody has seen. Raises Unreadable."""
    members = store.members().known.values()
    found = store.numbers() + [member.number or 0 for member in members]
    found += [member.doing.number for member in members if member.doing]
    for read in (store.settled, store.offer):
        try:
            document = read()
        except Damaged:
            continue
        found += [document.number or 0] if document else []
    return max(found or [0]) + 1


def release(
    store: Store,
    sites: Dict[str, str],
    seconds: int,
    archives: Mapping[str, str],
    secrets: Mapping[str, bytes],
    at_once: int,
    keep: int,
    say: Say,
) -> int:
    """Deliver and roll out. Returns the delivery's number. Raises ReleaseError, OSError or Unreadable.

    What is settled already is not delivered again: only members that do not serve it get their turn. sites, seconds: as
    in Delivery. archives, secrets: as in Store.deliver.
    """
    with lock.acquire_lock(LOCK_SECONDS, "a roll-out"):
        store.make()
        number = _same(store, sites, archives, secrets)
        if number:
            say("delivery {} is settled already, with the same releases and secrets".format(number))
            # If no member has served it yet, the first one that takes it says whether it can.
            run(store, 0 if store.is_accepted(number) else number, at_once, keep, say)
            return number
        number = next_number(store)
        store.deliver(number, sites, seconds, archives, secrets)
        run(store, number, at_once, keep, say)
    return number


def _same(
    store: Store, sites: Dict[str, str], archives: Mapping[str, str], secrets: Mapping[str, bytes]
) -> Optional[int]:
    """The number of what is settled, if these are its releases and secrets. Raises Unreadable or OSError."""
    try:
        settled = store.settled()
        delivery = store.delivery(settled.number) if settled else None
    except Damaged:
        return None
    if not (settled and delivery and delivery.sites == sites):
        return None
    return settled.number if delivery.files == sums(archives, secrets) else None


def rollback(store: Store, number: int, at_once: int, keep: int, say: Say) -> int:
    """Roll out an older delivery, 0 for the one that was settled before. Returns its number. Raises as release()."""
    with lock.acquire_lock(LOCK_SECONDS, "a rollback"):
        if not number:
            settled = store.settled()
            number = settled.previous or 0 if settled else 0
        accepted = sorted(_accepted(store))
        if number not in accepted:
            what = (
                "delivery {} was never served".format(number) if number else "no delivery was settled before this one"
            )
            shown = ", ".join(map(str, accepted)) or "none"
            raise ReleaseError("{}; allowed: {}".format(what, shown))
        run(store, number, at_once, keep, say)
    return number


def resume(store: Store, at_once: int, keep: int, say: Say) -> None:
    """Bring a roll-out that was killed to its end: take back what is not settled, and finish what is."""
    with lock.acquire_lock(LOCK_SECONDS, "the end of a roll-out that was killed"):
        run(store, 0, at_once, keep, say)


def run(
    store: Store,
    number: int,
    at_once: int,
    keep: int,
    say: Say,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Roll a delivery out. Parameters are those of RollOut. Raises ReleaseError when the delivery was not settled."""
    began, rollout = clock(), None  # type: float, Optional[RollOut]
    while rollout is None:
        try:
            rollout = RollOut(store, number, at_once, keep, say, clock())
        except Unreadable as error:
            if clock() - began > STORE_SECONDS:
                raise ReleaseError(str(error), then=_AGAIN) from error
            sleep(STEP_SECONDS)
    while not rollout.step(clock()):
        sleep(STEP_SECONDS)
    rollout.check()
