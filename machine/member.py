"""A member of a scaling group: takes deliveries from the store as the release host asks, or what is settled.

look at the store ─▶ decide ─▶ write the own file ─▶ look again: is it still so? ─▶ apply ─▶ write the own file

A member says what it takes before it takes it, and then looks again. So whoever moves what is settled and then lists
the members sees each member that still takes the delivery before, and keeps that delivery. What the store does not say
now changes nothing: an offer that cannot be read is not an offer that was taken back.

A member that serves nothing takes what is settled by itself. One that serves waits for its turn while an offer is open,
and moves by itself when none is.

As a program, this module lies in <store>/tool/ and runs as wsgi-ecs-member.service. Python 3.6, standard library only.
"""

import os
import sys
import time
from typing import Callable, Dict, List, NamedTuple, Optional

import lease_socket
import own_machine
from commands import Say, say
from contract import paths
from contract.store_documents import Member, Offer, Outcome, Refusal, Settled, Task
from lease import Lease
from own_machine import Machine
from store import Store, Unreadable

STEP_SECONDS = 2.0
# Seconds, on the own clock, after which a member tries again what is settled; they double with each failure.
RETRY_SECONDS, RETRY_LIMIT = 30.0, 600.0
# Lines of a refusal that others see, and characters of a line.
_LINES, _WIDTH = 40, 1000


class View(NamedTuple):
    """What the store says. is_accepted: whether any member has served what is settled. sites: of what is settled."""

    settled: Optional[Settled]
    offer: Offer
    is_accepted: bool
    sites: List[str]


class Memory(NamedTuple):
    """What a member remembers. doing: what it takes. is_written: whether its file says so. runs: whether it has begun.

    retry: when to try again what is settled, on the own clock. failures: in a row.
    """

    counter: int = 0
    doing: Optional[Task] = None
    is_written: bool = False
    runs: bool = False
    refused: Optional[Refusal] = None
    retry: float = 0.0
    failures: int = 0


def wanted(member: str, view: View, number: Optional[int], leads: bool) -> Optional[Task]:
    """What a member should take by what the store says, None for nothing. number: that it serves, None for nothing.

    leads: whether it holds the lease, which decides who takes the first delivery of all and runs its commands.
    """
    offer, settled = view.offer, view.settled
    if offer.number is not None and member in offer.members:
        commands = offer.commands if offer.first == member else []
        return Task(offer.number, offer.members[member], commands) if offer.number != number else None
    if settled is None or settled.number == number:
        return None
    if number is not None and offer.number is not None:
        return None
    if view.is_accepted:
        return Task(settled.number)
    return Task(settled.number, 0, view.sites) if leads else None


def is_due(task: Optional[Task], memory: Memory, now: float) -> bool:
    """Whether a member tries a task now: each turn of an offer once, and what is settled again after a while."""
    refused = memory.refused
    if task is None or refused is None:
        return task is not None
    if task.turn:
        return refused.turn != task.turn
    return refused.number != task.number or now >= memory.retry


def competes(memory: Memory, view: View, number: Optional[int], now: float) -> bool:
    """Whether a member wants the lease: it serves, or it may be the first that ever does."""
    if number is not None or view.settled is None:
        return number is not None
    return not view.is_accepted and is_due(Task(view.settled.number), memory, now)


def ended(memory: Memory, outcome: Outcome, now: float) -> Memory:
    """What a member remembers when its task has ended. now: on its own clock."""
    task = memory.doing
    memory = memory._replace(doing=None, is_written=False, runs=False)
    if outcome.is_done or task is None:
        return memory._replace(refused=None, failures=0)
    lines = [line[:_WIDTH] for line in outcome.lines[-_LINES:]]
    wait = min(RETRY_SECONDS * 2 ** min(memory.failures, 10), RETRY_LIMIT)
    refused = Refusal(task.number, task.turn, lines)
    return memory._replace(refused=refused, retry=now + wait, failures=memory.failures + 1)


class Watcher:
    """The program of a member. say: prints a line for whoever reads its log."""

    def __init__(self, name: str, store: Store, machine: Machine, say: Say) -> None:
        self.name, self.store, self.machine, self.say = name, store, machine, say
        self.lease = Lease(store.lease_folder(), name)
        self.memory = self._remembered()
        # What this step and the one before have said of the store, so that no line is said again with each step.
        self.problems = []  # type: List[str]
        self.said = []  # type: List[str]

    def _remembered(self) -> Memory:
        """What this program has written before it was started again."""
        try:
            own = self.store.member(self.name)
        except Unreadable:
            own = None
        # What this machine has begun goes on, or its outcome has yet to be told.
        doing = self.machine.begun()
        memory = Memory(doing=doing, runs=doing is not None)
        return memory._replace(counter=own.counter, refused=own.refused) if own else memory

    def step(self, now: float) -> None:
        """Look once, do what is to be done, and write the own file. now: seconds on the own clock."""
        outcome = self.machine.outcome() if self.memory.runs else None
        if outcome:
            self._say_outcome(outcome)
            self.memory = ended(self.memory, outcome, now)
        number, sites = self.machine.serves()
        self.said, self.problems = self.problems, []
        self._despite_store(lambda: self._decide(number, now))
        # The file says that this member lives, even while nobody can read what it should do.
        self._despite_store(lambda: self._write(number, sites))

    def _despite_store(self, act: Callable[[], object]) -> None:
        """Do something, and go on when the store refuses: the next step does it again."""
        try:
            act()
        except (Unreadable, OSError) as error:
            if str(error) not in self.said:
                self.say("the store: {}; what serves goes on".format(error))
            self.problems.append(str(error))

    def _decide(self, number: Optional[int], now: float) -> None:
        if self.memory.runs:
            self._lead(now, number is not None or self.lease.watched.holds)
            return
        view = look(self.name, self.store, number)
        leads = self._lead(now, competes(self.memory, view, number, now))
        task = wanted(self.name, view, number, leads)
        if task is None or not is_due(task, self.memory, now):
            self.memory = self.memory._replace(doing=None, is_written=False)
        elif task == self.memory.doing and self.memory.is_written:
            self.say("taking delivery {}{}".format(task.number, " and running its commands" if task.commands else ""))
            self.machine.begin(task)
            self.memory = self.memory._replace(runs=True)
        else:
            self.memory = self.memory._replace(doing=task, is_written=False)

    def _lead(self, now: float, wants: bool) -> bool:
        """Renew or watch the lease. Returns whether it is this member's; a store that refuses says that it is not."""
        leads = []  # type: List[bool]
        self._despite_store(lambda: leads.append(self.lease.step(now, wants)))
        return any(leads)

    def _write(self, number: Optional[int], sites: Dict[str, str]) -> None:
        memory = self.memory._replace(counter=self.memory.counter + 1)
        seconds = int(self.machine.seconds())
        self.store.report(self.name, Member(memory.counter, number, sites, memory.doing, memory.refused, seconds))
        self.memory = memory._replace(is_written=memory.doing is not None)

    def _say_outcome(self, outcome: Outcome) -> None:
        number = self.memory.doing.number if self.memory.doing else "?"
        self.say("delivery {} {}".format(number, "serves" if outcome.is_done else "was refused"))
        for line in outcome.lines if not outcome.is_done else []:
            self.say("| " + line)

    def holds_lease(self) -> bool:
        """Whether this member runs what must run on one member at a time, to be asked just before each run."""
        try:
            return self.lease.holds()
        except OSError:
            return False


def look(member: str, store: Store, number: Optional[int]) -> View:
    """What the store says to a member. number: that the member serves. Raises Unreadable."""
    offer = store.offer()
    if member in offer.members:
        # Whatever is settled, even if nobody can read it.
        return View(None, offer, True, [])
    settled = store.settled()
    if settled is None or number is not None or store.is_accepted(settled.number):
        return View(settled, offer, True, [])
    # Nobody had lived when this was settled, so the release host could not see that a member serves it.
    if any(other.number == settled.number for other in store.members().known.values()):
        return View(settled, offer, True, [])
    delivery = store.delivery(settled.number)
    return View(settled, offer, False, sorted(delivery.sites) if delivery else [])


def run(
    watcher: Watcher,
    path: str,
    is_old: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Take steps until another tool takes the place of this one, which is_old() says, and no task runs.

    path: of the socket on which it says whether it holds the lease.
    """
    # The first step finds that the lease is this member's still.
    watcher.step(clock())
    lease_socket.start(path, watcher.holds_lease)
    while watcher.memory.runs or not is_old():
        sleep(STEP_SECONDS)
        watcher.step(clock())


def main(arguments: List[str]) -> None:
    """arguments: folders of the store and of the member's files, paths of log and socket, and name; none at first."""
    here = os.path.dirname(os.path.realpath(__file__))
    program = os.path.join(here, "member.py")
    if not arguments:
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        found = [root, own_machine.FOLDER, own_machine.LOG, paths.LEASE_SOCKET, own_machine.name()]
        # Start again from the folder that `tool` leads to, because the link may change while modules are imported.
        os.execv(sys.executable, [sys.executable, "-B", program, *found])  # noqa: S606
    root, folder, log, path, name = arguments
    link = os.path.join(root, "tool")
    say("member {} takes releases from {}".format(name, root))
    machine = own_machine.OwnMachine(root, folder, log)
    # systemd starts the tool that has come.
    run(Watcher(name, Store(root), machine, say), path, lambda: os.path.realpath(link) not in (link, here))


if __name__ == "__main__":
    main(sys.argv[1:])
