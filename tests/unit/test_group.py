"""Promises of the store's protocol, whatever happens to members, the release host, their clocks and the store.

Hypothesis chooses what happens; the members, the roll-outs and the lease are the real ones, on a real folder.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.builders.group import FAST, ROUND, Node, World
from tests.unit.machine import module

lease, offers, store = (module(name) for name in ("lease", "offers", "store"))

_DAMAGE = st.sampled_from([b"", b"{", b'{"counter": "x"}', b"\xff", b"[]"])
_SPEEDS = st.floats(0.8, 1.25)
# The offset and the speed of a member's clock, and how many rounds it takes to apply a delivery.
_MEMBERS = st.tuples(st.floats(-1e6, 1e6), _SPEEDS, st.integers(0, 8))
_SITES = st.dictionaries(st.sampled_from(["blog", "shop"]), st.sampled_from(["r1", "r2", "r3", "r4"]), min_size=1)


class Group(RuleBasedStateMachine):
    """What may happen to a group."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=FAST))
        self.world = World(self.folder)
        self.seen = store.Store(str(self.folder))
        self.joined = 0
        # Deliveries that were settled before any member lived.
        self.unserved: set[int] = set()

    def teardown(self) -> None:
        try:
            self.calm_down()
        finally:
            shutil.rmtree(self.folder)

    def nodes(self, **state: bool) -> list[Node]:
        found = list(self.world.nodes.values())
        return [node for node in found if all(getattr(node, key) is value for key, value in state.items())]

    # What happens.

    @initialize(
        at_once=st.integers(1, 3), keep=st.integers(0, 2), speed=_SPEEDS, members=st.lists(_MEMBERS, max_size=4)
    )
    def begin(self, at_once: int, keep: int, speed: float, members: list[tuple[float, float, int]]) -> None:
        self.world.at_once, self.world.keep, self.world.speed = at_once, keep, speed
        for member in members:
            self.join(member)

    @precondition(lambda self: self.joined < 7)
    @rule(member=_MEMBERS)
    def join(self, member: tuple[float, float, int]) -> None:
        self.joined += 1
        self.world.join(f"i-{self.joined}", *member)

    @precondition(lambda self: len(self.world.asked) < 3)
    @rule(sites=_SITES, bad=st.sampled_from([False, False, True]))
    def ask(self, sites: dict[str, str], bad: bool) -> None:
        self.world.ask(sites, bad)

    @precondition(lambda self: not self.world.asked)
    @rule(data=st.data())
    def ask_back(self, data: Any) -> None:
        numbers = [number for number in self.seen.numbers() if self.seen.is_accepted(number)]
        if numbers:
            self.world.ask_back(data.draw(st.sampled_from(numbers)))

    @rule(rounds=st.sampled_from([1, 2, 3, 5, 8, 13, 20, 40, 120]), order=st.permutations(range(7)))
    def pass_time(self, rounds: int, order: list[int]) -> None:
        self.world.pass_time(rounds, lambda nodes: sorted(nodes, key=lambda node: order[int(node.name[2:]) - 1]))

    @rule(data=st.data(), steps=st.integers(1, 3))
    def one_is_faster(self, data: Any, steps: int) -> None:
        for step in [self.world.step_host, *(node.step for node in self.nodes())]:
            if data.draw(st.booleans()):
                for _ in range(steps):
                    step()

    @precondition(lambda self: self.nodes(lives=True))
    @rule(data=st.data(), what=st.sampled_from(["die", "freeze", "thaw", "start", "sick", "well", "refuse", "damage"]))
    def disturb_a_member(self, data: Any, what: str) -> None:
        busy = [node for node in self.nodes(lives=True) if node.watcher.memory.doing]
        node = data.draw(st.sampled_from(busy or self.nodes(lives=True)))
        if what in ("die", "freeze", "thaw", "start"):
            node.gaps.append(self.world.time)
        if what == "die":
            node.lives = False
        elif what in ("freeze", "thaw"):
            node.frozen = what == "freeze"
        elif what == "start":
            node.start()
        elif what in ("sick", "well"):
            node.machine.is_sick = what == "sick"
        elif what == "refuse":
            node.store.refusals = data.draw(st.integers(1, 8))
        else:
            self.damage(f"members/{node.name}.json", data.draw(_DAMAGE))

    @precondition(lambda self: self.world.asked)
    @rule(data=st.data(), what=st.sampled_from(["kill", "kill later", "kill later", "refuse", "damage"]))
    def disturb_the_host(self, data: Any, what: str) -> None:
        if what == "kill":
            self.world.kill_host()
        elif what == "kill later":
            self.world.host.writes_left = data.draw(st.integers(0, 8))
        elif what == "refuse":
            self.world.host.refusals = data.draw(st.integers(1, 8))
        else:
            self.damage("offer.json", data.draw(_DAMAGE))

    def damage(self, name: str, text: bytes) -> None:
        if (self.folder / name).exists():
            (self.folder / name).write_bytes(text)

    # What must hold at every step.

    def undisturbed(self, starts: list[tuple[Node, float]]) -> list[Node]:
        """Those who began something and were never frozen, dead or started again since."""
        return [node for node, began in starts if not any(gap >= began for gap in node.gaps)]

    def starts(self, number: int) -> list[tuple[Node, float, bool]]:
        """Who has begun to apply a delivery, when, and whether it ran commands."""
        return [
            (node, began, bool(task.commands))
            for node in self.world.nodes.values()
            for task, began in zip(node.machine.history, node.machine.times, strict=True)
            if task.number == number
        ]

    @invariant()
    def what_is_settled_was_served(self) -> None:
        self.check_what_is_settled()

    @invariant()
    def a_refused_delivery_reaches_one_member(self) -> None:
        self.check_what_is_settled()
        for number in (number for number, bad in self.world.bad.items() if bad and number not in self.unserved):
            assert len(self.undisturbed([(node, began) for node, began, _ in self.starts(number)])) <= 1

    @invariant()
    def commands_run_once(self) -> None:
        self.check_what_is_settled()
        for number in self.world.bad:
            leaders = [(node, began) for node, began, commands in self.starts(number) if commands]
            if number not in self.unserved:
                assert len(self.undisturbed(leaders)) <= 1, number

    @invariant()
    def one_member_runs_commands_at_a_time(self) -> None:
        running = [node for node in self.nodes(lives=True) if node.watcher.memory.runs]
        leading = [node for node in running if node.machine.history[-1].commands]
        assert len(self.undisturbed([(node, node.machine.times[-1]) for node in leading])) <= 1

    def check_what_is_settled(self) -> None:
        settled = self.seen.settled()
        if settled is None or any(settled.number in node.machine.accepted for node in self.world.nodes.values()):
            return
        if settled.number not in self.unserved:
            # Nobody has said of any delivery that it serves.
            assert not any(member.number for member in self.seen.members().known.values())
            assert not any(map(self.seen.is_accepted, self.seen.numbers()))
            self.unserved.add(settled.number)

    @invariant()
    def the_delivery_of_a_living_member_is_kept(self) -> None:
        numbers = self.seen.numbers()
        for node in self.nodes(lives=True, frozen=False):
            if node.machine.number is not None and not node.gaps:
                assert node.machine.number in numbers

    @invariant()
    def at_most_one_holds_the_lease(self) -> None:
        assert len([node for node in self.nodes(lives=True, frozen=False) if node.watcher.holds_lease()]) <= 1

    @invariant()
    def a_member_that_serves_waits_for_its_turn(self) -> None:
        assert [task for node in self.nodes() for task in node.machine.impatient] == []
        try:
            offer = self.seen.offer()
        except store.Damaged:
            return
        named = [self.world.nodes[name] for name in offer.members]
        old = [node for node in named if node.machine.number not in (None, offer.number)]
        assert len(old) <= self.world.at_once

    # What must hold in the end.

    def calm_down(self) -> None:
        """Let everything that was killed or frozen go on, and see that all healthy members serve what is settled."""
        world = self.world
        world.host.refusals, world.host.writes_left = 0, None
        for node in self.nodes(lives=True):
            node.store.refusals = 0
            node.frozen = False
        world.ask_end()
        world.settle_down(130)
        self.a_refused_delivery_reaches_one_member()
        self.commands_run_once()
        settled = self.seen.settled()
        for node in self.nodes(lives=True):
            if not node.machine.is_sick and settled and not world.bad[settled.number]:
                assert node.machine.number == settled.number, (node.name, settled, node.lines, world.lines)
        healthy = [node for node in self.nodes(lives=True) if node.machine.number is not None]
        assert len([node for node in healthy if node.watcher.holds_lease()]) == min(len(healthy), 1)


Group.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestGroup = Group.TestCase


def test_the_group_is_watched_for_longer_than_anybody_waits() -> None:
    assert 130 * ROUND > lease.LEASE_SECONDS + module("member").RETRY_LIMIT
    assert max(lease.STEP_SECONDS, offers.STEP_SECONDS) > ROUND * 1.25
