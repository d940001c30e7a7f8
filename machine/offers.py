"""How a delivery is rolled out over the members of a scaling group: who gets it when, and when it settles.

look: who lives? ─▶ try: the first takes it ─▶ it is settled ─▶ bring: the others, some at once ─▶ closed
                                └─▶ refused, or it does not end: what is settled stays, and the first goes back to it

decide() is all of it, as a function of what the members have written, what this roll-out remembers, and its own clock;
no clock is compared with another machine's. What an earlier roll-out has left when it was killed comes to its end here:
an offer that was not settled is replaced, and members that do not serve what is settled get their turn, whichever way
this delivery goes. Python 3.6, standard library only.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple, Union

from contract.store_documents import Member, Offer, Settled, Silence, Silent
from store import Damaged, Members

# Seconds to see which members live: each writes its file every 2 seconds.
LOOK_SECONDS = 20.0
# A member that writes nothing for so long is taken for dead. A file system that is away for a minute kills nobody.
LIFE_SECONDS = 90.0
# Seconds to wait for a member that lives.
WAIT_SECONDS = 600.0
# A roll-out that comes late has not looked meanwhile.
STEP_SECONDS = 10.0
# A delivery that ends each machine that takes it must not end all of them.
FIRSTS = 3
# Seconds between two lines about the same waiting.
PATIENCE = 60.0


class Plan(NamedTuple):
    """What a roll-out is to do. number: 0 to bring to its end what an earlier roll-out has left.

    at_once: how many members that serve may take it at a time. seconds: that a member may take. commands: sites whose
    commands the first member runs. is_first: whether no delivery was ever accepted.
    """

    number: int
    at_once: int
    seconds: int
    commands: List[str]
    is_first: bool


class Sight(NamedTuple):
    """What was seen of a member. silent: seconds of looking without a change. lives: whether one was seen at all."""

    member: Member
    silent: float = 0.0
    lives: bool = False


class Named(NamedTuple):
    """A member that the offer names. since: on the own clock."""

    turn: int
    since: float


class Memory(NamedTuple):
    """What a roll-out remembers. phase: look, try, bring or closed. began, looked, said: on the own clock.

    settled, offer: as the store has them. is_served: whether any member has served what is settled. turn: the highest.
    named: by the offer. tried: members that died as the first. failed: member → why it does not serve what is settled.
    problem, lines: why the delivery is not settled. silent: what earlier roll-outs have seen.
    """

    began: float
    settled: Optional[Settled]
    is_served: bool
    offer: Offer
    turn: int
    phase: str = "look"
    looked: float = 0.0
    said: float = 0.0
    sights: Dict[str, Sight] = {}
    named: Dict[str, Named] = {}
    tried: List[str] = []
    failed: Dict[str, str] = {}
    problem: str = ""
    lines: List[str] = []
    silent: Dict[str, Silence] = {}


class Accept(NamedTuple):
    """What is written when a member has served a delivery first."""

    number: int
    member: str


Write = Union[Accept, Settled, Offer]


class Decision(NamedTuple):
    """What comes next. writes: to be written in this order before anything else is decided. lines: for the user."""

    memory: Memory
    writes: List[Write]
    lines: List[str]


def decide(plan: Plan, memory: Memory, members: Members, now: float) -> Decision:
    """The next step of a roll-out. members: what they have written. now: seconds on the own clock."""
    memory = watch(memory, members, now)
    if memory.phase == "look":
        return _look(plan, memory, now)
    if memory.phase == "try":
        return _try(plan, memory, now)
    return _bring(plan, memory, now)


def watch(memory: Memory, members: Members, now: float) -> Memory:
    """What is known after another look."""
    passed = min(max(now - memory.looked, 0.0), STEP_SECONDS)
    sights = {}
    for name in set(memory.sights) | set(members.known) | set(members.unreadable):
        problem, member = members.unreadable.get(name), members.known.get(name)
        sight = memory.sights.get(name)
        if problem and not isinstance(problem, Damaged):
            # Nobody has looked at this member, so nobody has seen that it is silent.
            pass
        elif sight is None:
            # A damaged file counts as one that says nothing. A member that lives writes it again.
            member = member or Member(-1)
            before = memory.silent.get(name)
            sight = Sight(member, before.seconds if before and before.counter == member.counter else 0.0)
        elif member is None or member.counter == sight.member.counter:
            sight = sight._replace(silent=sight.silent + passed)
        else:
            sight = Sight(member, 0.0, True)
        if sight:
            sights[name] = sight
    return memory._replace(sights=sights, looked=now)


def living(memory: Memory) -> List[str]:
    """Names of the members that live."""
    return sorted(name for name, sight in memory.sights.items() if sight.lives and sight.silent <= LIFE_SECONDS)


def gone(memory: Memory) -> List[str]:
    """Names of the members that have written nothing for so long that their files can be removed."""
    return sorted(name for name, sight in memory.sights.items() if sight.silent > LIFE_SECONDS)


def silent(memory: Memory) -> Silent:
    """What the next roll-out is to know of the members that have written nothing, and have not been forgotten."""
    found = {name: sight for name, sight in memory.sights.items() if not sight.lives and name not in gone(memory)}
    return Silent({name: Silence(sight.member.counter, sight.silent) for name, sight in found.items()})


def _look(plan: Plan, memory: Memory, now: float) -> Decision:
    there, passed = living(memory), now - memory.began
    is_clear = len(there) == len(memory.sights) > 0
    if not is_clear and passed < LOOK_SECONDS:
        return Decision(memory, [], [])
    writes, lines = [], []  # type: List[Write], List[str]
    settled = memory.settled
    if settled and not memory.is_served:
        # It was settled when no member lived.
        servers = sorted(name for name, sight in memory.sights.items() if serves(sight.member, settled.number))
        if servers:
            writes.append(Accept(settled.number, servers[0]))
            memory = memory._replace(is_served=True)
    if not plan.number:
        return _then(_bring(plan, memory._replace(phase="bring"), now), writes, lines)
    if there:
        return _then(_offer_first(plan, memory, _first(memory, there), now), writes, lines)
    if plan.is_first and not memory.is_served:
        lines.append("no member lives yet: delivery {} is settled, and members that boot take it".format(plan.number))
        own = Settled(plan.number)
        closed = Offer(turn=memory.turn)
        memory = memory._replace(settled=own, offer=closed, phase="closed")
        return Decision(memory, [*writes, own, closed], lines)
    if passed < WAIT_SECONDS:
        return _then(_wait(memory, "a member that lives", now), writes, lines)
    problem = "no member has lived for {:.0f} s".format(WAIT_SECONDS)
    return _then(_bring(plan, memory._replace(problem=problem, phase="bring"), now), writes, lines)


def _first(memory: Memory, there: List[str]) -> str:
    """The member that takes a delivery first, of those that live and have not died of it."""
    settled = memory.settled.number if memory.settled else None

    def order(name: str) -> Tuple[bool, bool, bool, bool, str]:
        member = memory.sights[name].member
        # The first member of a roll-out that was killed is the only one that may not serve what is settled.
        was_first = name == memory.offer.first and memory.offer.number not in (None, settled)
        is_busy = member.doing is not None
        # No other member may run commands while this one does.
        was_first = was_first or bool(member.doing and member.doing.commands)
        return (not was_first, is_busy, member.refused is not None, member.number != settled, name)

    return min(there, key=order)


def _offer_first(plan: Plan, memory: Memory, name: str, now: float) -> Decision:
    turn = memory.turn + 1
    offer = Offer(plan.number, {name: turn}, name, plan.commands, turn)
    memory = memory._replace(phase="try", turn=turn, named={name: Named(turn, now)}, offer=offer, said=now)
    line = "delivery {} is offered to {}, the first of {}".format(plan.number, name, len(living(memory)))
    return Decision(memory, [offer], [line])


def _try(plan: Plan, memory: Memory, now: float) -> Decision:
    ((name, named),) = memory.named.items()
    member, passed = memory.sights[name].member, now - named.since
    if serves(member, plan.number):
        old = memory.settled
        settled = old if old and old.number == plan.number else Settled(plan.number, old.number if old else None)
        lines = ["{} serves delivery {}, which is settled now".format(name, plan.number)]
        memory = memory._replace(phase="bring", named={}, settled=settled, is_served=True)
        return _then(_bring(plan, memory, now), [Accept(plan.number, name), settled], lines)
    if member.refused and member.refused.turn == named.turn:
        problem = "member {} refused delivery {}".format(name, plan.number)
        return _fail(plan, memory, problem, member.refused.lines, now)
    if name in living(memory):
        if passed <= plan.seconds + LIFE_SECONDS:
            return _wait(memory, "{}, which takes delivery {}".format(name, plan.number), now)
        return _fail(plan, memory, "member {} has not ended within {:.0f} s".format(name, passed), [], now)
    tried = [*memory.tried, name] if name not in memory.tried else memory.tried
    line = "{} has written nothing for {:.0f} s".format(name, LIFE_SECONDS)
    if len(tried) == FIRSTS:
        problem = "{} members died of delivery {}, one after the other: {}".format(
            FIRSTS, plan.number, ", ".join(tried)
        )
        return _fail(plan, memory, problem, [], now)
    others = [other for other in living(memory) if other not in tried]
    if others:
        return _then(_offer_first(plan, memory._replace(tried=tried), _first(memory, others), now), [], [line])
    if passed <= WAIT_SECONDS + LIFE_SECONDS:
        return _wait(memory, "{}, and no other member lives".format(line), now)
    return _fail(plan, memory, "{}, and no other member lives".format(line), [], now)


def _fail(plan: Plan, memory: Memory, problem: str, lines: List[str], now: float) -> Decision:
    """Take the offer back: what was settled stays."""
    memory = memory._replace(phase="bring", named={}, problem=problem, lines=lines)
    return _bring(plan, memory, now)


def _bring(plan: Plan, memory: Memory, now: float) -> Decision:
    """Give each living member that does not serve what is settled its turn, and close the offer after the last one."""
    # Nobody goes to a delivery that nobody has served: the members that boot find out with the lease.
    settled = memory.settled if memory.is_served else None
    if settled is None:
        closed = Offer(turn=memory.turn)
        return Decision(memory._replace(phase="closed", offer=closed), [closed], [])
    memory, lines = _judge(plan, memory, settled.number, now)
    memory, offered = _name(plan, memory, settled.number, now)
    turns = {name: named.turn for name, named in memory.named.items()}
    offer = Offer(settled.number, turns, turn=memory.turn) if turns else Offer(turn=memory.turn)
    writes = [offer] if offer != memory.offer else []  # type: List[Write]
    memory = memory._replace(offer=offer, phase="bring" if turns else "closed")
    what = "{}, which take delivery {}".format(", ".join(sorted(turns)), settled.number)
    waiting = _wait(memory, what, now) if turns else Decision(memory, [], [])
    return _then(waiting, writes, lines + offered)


def _name(plan: Plan, memory: Memory, number: int, now: float) -> Tuple[Memory, List[str]]:
    """Give members their turn, as many at once as the plan allows."""
    members = {name: sight.member for name, sight in memory.sights.items()}
    there = [name for name in living(memory) if name not in memory.failed and name not in memory.named]
    behind = [name for name in there if not serves(members[name], number)]
    room = plan.at_once - len([name for name in memory.named if _has_requests(members[name], number)])
    named, turn, lines = dict(memory.named), memory.turn, []
    # The members that a killed roll-out has left busy have their turn first, because they are on their way already.
    for name in sorted(behind, key=lambda name: (members[name].doing is None, name)):
        if _has_requests(members[name], number):
            if room <= 0:
                continue
            room -= 1
        turn += 1
        named[name] = Named(turn, now)
        lines.append("delivery {} is offered to {}".format(number, name))
    said = now if lines else memory.said
    return memory._replace(named=named, turn=turn, said=said), lines


def _has_requests(member: Member, number: int) -> bool:
    """Whether the load balancer asks a member, or will ask it before it serves this number."""
    return member.number is not None or (member.doing is not None and member.doing.number != number)


def _judge(plan: Plan, memory: Memory, number: int, now: float) -> Tuple[Memory, List[str]]:
    """Find who of the named members serves what is settled, and who never will in this roll-out."""
    named, failed, lines = dict(memory.named), dict(memory.failed), []
    there = living(memory)
    for name, turn in memory.named.items():
        member, passed = memory.sights[name].member, now - turn.since
        problem = ""
        if serves(member, number):
            count = len([other for other in there if serves(memory.sights[other].member, number)])
            lines.append("{} serves delivery {} ({} of {})".format(name, number, count, len(there)))
        elif member.refused and member.refused.turn == turn.turn:
            problem = "refused delivery {}: {}".format(number, " | ".join(member.refused.lines[-3:]) or "no reason")
        elif name not in there:
            problem = "has written nothing for {:.0f} s".format(LIFE_SECONDS)
        elif passed > plan.seconds + LIFE_SECONDS:
            problem = "does not serve delivery {} after {:.0f} s".format(number, passed)
        else:
            continue
        del named[name]
        if problem:
            failed[name] = problem
            lines.append("warning: member {} {}; the load balancer decides whether it serves on".format(name, problem))
    return memory._replace(named=named, failed=failed), lines


def serves(member: Member, number: int) -> bool:
    """Whether a member serves a delivery, and takes no other one just now."""
    return member.number == number and (member.doing is None or member.doing.number == number)


def _wait(memory: Memory, what: str, now: float) -> Decision:
    if now - memory.said < PATIENCE:
        return Decision(memory, [], [])
    return Decision(memory._replace(said=now), [], ["waiting for " + what])


def _then(decision: Decision, writes: List[Write], lines: List[str]) -> Decision:
    """A decision with what comes before it."""
    return decision._replace(writes=[*writes, *decision.writes], lines=[*lines, *decision.lines])
