"""Stories of roll-outs over a group, in which the release host and the members do what they really do."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.store_documents import Accepted, Member, Offer, Settled, Silence, Silent, Task
from tests.builders.group import FAST, Killed, World
from tests.unit.machine import module

commands: Any = module("commands")
files: Any = module("files")
offers: Any = module("offers")
release_host: Any = module("release_host")
store: Any = module("store")


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        yield World(Path(folder), keep=2)


@pytest.fixture
def served(world: World) -> World:
    """Three members that serve delivery 1."""
    for name in "abc":
        world.join(name, offset=ord(name) * 1000.0, rounds=2)
    world.ask()
    world.settle_down()
    assert world.serving() == {"a": 1, "b": 1, "c": 1}
    world.lines.clear()
    return world


def begun(world: World, number: int) -> dict[str, int]:
    """Which members have begun to take a delivery, and how often."""
    found = {
        name: len([task for task in node.machine.history if task.number == number])
        for name, node in world.nodes.items()
    }
    return {name: count for name, count in found.items() if count}


def leaders(world: World, number: int) -> list[str]:
    """Which members have run the commands of a delivery."""
    found = [(name, task) for name, node in world.nodes.items() for task in node.machine.history]
    return [name for name, task in found if task.number == number and task.commands]


def test_the_first_member_takes_a_delivery_before_the_others_do(served: World) -> None:
    served.ask()
    served.pass_time(5)
    assert served.serving() == {"a": 2, "b": 1, "c": 1} or begun(served, 2) == {"a": 1}
    served.settle_down()
    assert served.serving() == {"a": 2, "b": 2, "c": 2}
    assert served.lines == [
        "delivery 2 is offered to a, the first of 3",
        "a serves delivery 2, which is settled now",
        "delivery 2 is offered to b",
        "b serves delivery 2 (2 of 3)",
        "delivery 2 is offered to c",
        "c serves delivery 2 (3 of 3)",
    ]
    assert leaders(served, 2) == ["a"]


def test_a_refused_delivery_touches_one_member_and_says_why(served: World) -> None:
    served.ask(bad=True)
    served.settle_down()
    assert served.serving() == {"a": 1, "b": 1, "c": 1}
    assert begun(served, 2) == {"a": 1}
    assert served.errors == ["member a refused delivery 2; delivery 1 stays settled\ndelivery 2 has no application"]
    # The next one begins with a member that has refused nothing.
    served.ask()
    served.settle_down()
    assert leaders(served, 3) == ["b"]
    assert served.serving() == {"a": 3, "b": 3, "c": 3}


def test_another_member_is_tried_when_the_first_one_dies(served: World) -> None:
    served.ask()
    served.pass_time(4)
    served.nodes["a"].lives = False
    served.settle_down()
    assert served.serving() == {"b": 2, "c": 2}
    assert "a has written nothing for 90 s" in served.lines
    assert leaders(served, 2) == ["a", "b"]


def test_a_delivery_that_ends_its_members_does_not_end_all(world: World) -> None:
    for name in "abcde":
        world.join(name)
    world.ask()
    world.settle_down()
    for node in world.nodes.values():
        node.machine.rounds = 1000
    world.ask()
    for _ in range(200):
        world.pass_time()
        for node in world.nodes.values():
            # Its memory is full.
            node.lives = node.lives and not (node.machine.task and node.machine.task.number == 2)
    assert len(world.serving()) == 2
    assert world.errors[0].startswith("3 members died of delivery 2, one after the other: a, b, c")


def test_a_member_that_fails_alone_is_named_and_tries_again_by_itself(served: World) -> None:
    served.nodes["b"].machine.is_sick = True
    served.ask()
    served.settle_down()
    assert served.serving() == {"a": 2, "b": 1, "c": 2}
    assert served.errors == []
    (line,) = [line for line in served.lines if line.startswith("warning: ")]
    assert line.startswith("warning: member b refused delivery 2: delivery 2 has no application; the load balancer")
    served.nodes["b"].machine.is_sick = False
    served.pass_time(120)
    assert served.serving() == {"a": 2, "b": 2, "c": 2}
    assert begun(served, 2)["b"] > 2


def test_a_member_that_has_not_ended_in_its_time_refuses(served: World) -> None:
    served.nodes["a"].machine.rounds = 60
    served.ask()
    served.pass_time(45)
    served.nodes["a"].machine.rounds = 0
    served.settle_down()
    (error,) = served.errors
    assert error.startswith("member a has not ended within 21")
    # It has ended later, and has gone back.
    assert served.serving() == {"a": 1, "b": 1, "c": 1}


def test_as_many_members_as_allowed_take_a_delivery_at_once(world: World) -> None:
    world.at_once = 2
    for name in "abcdef":
        world.join(name, rounds=3)
    world.ask()
    world.settle_down()
    world.ask()
    most = 0
    for _ in range(60):
        world.pass_time()
        running = [node for node in world.nodes.values() if node.watcher.memory.runs]
        most = max(most, len(running))
    assert most == 2
    assert set(world.serving().values()) == {2}


def test_a_member_that_joins_takes_what_is_settled_even_without_a_release_host(served: World) -> None:
    served.join("d")
    served.pass_time(4)
    assert served.serving()["d"] == 1
    assert served.nodes["d"].machine.history == [Task(1)]


def test_a_member_that_joins_during_a_roll_out_ends_with_the_rest(served: World) -> None:
    served.ask()
    served.pass_time(3)
    # It reads what is settled just before that moves.
    served.join("d", rounds=6)
    served.settle_down()
    assert served.nodes["d"].machine.history[0] == Task(1)
    assert set(served.serving().values()) == {2}


def test_a_member_looks_again_before_it_takes_what_it_has_said(served: World) -> None:
    node = served.join("d")
    node.step()
    said = node.said()
    assert said is not None
    assert said.doing == Task(1)
    number = served.deliver({"app": "r2"})
    served.host.accept(number, "a")
    served.host.settle(Settled(number, 1))
    for _ in range(3):
        node.step()
    assert node.machine.history == [Task(2)]


def test_the_first_delivery_of_all_is_settled_before_anybody_lives(world: World) -> None:
    world.ask()
    world.pass_time(6)
    assert world.lines == ["no member lives yet: delivery 1 is settled, and members that boot take it"]
    for name in "abc":
        world.join(name, rounds=4)
    world.pass_time(30)
    assert world.serving() == {"a": 1, "b": 1, "c": 1}
    assert leaders(world, 1) == ["a"]


def test_nobody_but_the_leader_tries_the_first_delivery_of_all_at_a_time(world: World) -> None:
    world.ask(bad=True)
    world.pass_time(6)
    for name in "abc":
        world.join(name, rounds=4)
    for _ in range(250):
        world.pass_time()
        assert len([node for node in world.nodes.values() if node.watcher.memory.runs]) <= 1
    assert set(begun(world, 1)) == {"a", "b", "c"}
    # The next delivery needs no member that serves.
    world.ask()
    world.settle_down()
    assert world.serving() == {"a": 2, "b": 2, "c": 2}


def test_a_second_delivery_is_settled_without_members_as_long_as_nobody_has_served(world: World) -> None:
    for _ in range(2):
        world.ask()
        world.pass_time(6)
    assert world.host.settled() == Settled(2)


def test_a_group_without_members_is_waited_for(served: World) -> None:
    for node in served.nodes.values():
        node.lives = False
    served.ask()
    served.settle_down()
    assert served.errors == ["no member has lived for 600 s; delivery 1 stays settled\n"]
    assert "waiting for a member that lives" in served.lines
    served.ask()
    served.pass_time(40)
    served.join("d")
    served.settle_down()
    assert served.serving() == {"d": 3}


def killed_after(world: World, writes: int) -> None:
    """Roll a delivery out, with a release host that is killed after some writes of it."""
    world.ask()
    world.step_host()
    world.host.writes_left = writes
    world.pass_time(40)
    world.host.writes_left = None


@pytest.mark.parametrize("writes", range(8))
@pytest.mark.parametrize("bad", [False, True])
def test_the_next_roll_out_ends_what_a_killed_one_has_left(served: World, writes: int, bad: bool) -> None:
    killed_after(served, writes)
    assert served.asked == []
    settled = served.host.settled().number
    assert settled == (2 if writes >= 3 else 1)
    served.ask(bad=bad)
    served.settle_down()
    assert set(served.serving().values()) == {settled if bad else 3}
    assert served.host.offer().number is None


@pytest.mark.parametrize("bad", [False, True])
def test_members_that_a_killed_roll_out_has_left_have_their_turn_one_after_the_other(served: World, bad: bool) -> None:
    served.join("d", rounds=2)
    served.pass_time(6)
    killed_after(served, 3)
    assert served.serving() == {"a": 2, "b": 1, "c": 1, "d": 1}
    served.ask(bad=bad)
    for _ in range(80):
        served.pass_time()
        assert len([node for node in served.nodes.values() if node.watcher.memory.runs]) <= 1
    assert set(served.serving().values()) == {2 if bad else 3}


@pytest.mark.parametrize("writes", range(8))
def test_the_end_of_a_killed_roll_out_needs_no_new_delivery(served: World, writes: int) -> None:
    killed_after(served, writes)
    served.ask_end()
    served.settle_down()
    assert set(served.serving().values()) == {served.host.settled().number}
    assert served.host.offer() == Offer(turn=served.host.offer().turn)


def test_a_member_waits_for_its_turn_while_the_release_host_is_gone(served: World) -> None:
    killed_after(served, 4)
    served.pass_time(100)
    assert served.host.settled().number == 2
    assert served.serving() == {"a": 2, "b": 2, "c": 1}


def test_a_refused_turn_is_not_taken_again_while_the_release_host_is_gone(served: World) -> None:
    served.ask(bad=True)
    served.step_host()
    served.host.writes_left = 1
    served.pass_time(60)
    assert served.host.offer().number == 2
    assert begun(served, 2) == {"a": 1}


def test_a_rollback_is_a_roll_out_of_an_older_delivery_without_commands(served: World) -> None:
    served.ask()
    served.settle_down()
    served.ask_back(1)
    served.settle_down()
    assert set(served.serving().values()) == {1}
    assert served.host.settled() == Settled(1, 2)
    assert leaders(served, 1) == ["a"]


def test_commands_run_for_new_releases_alone(served: World) -> None:
    served.ask({"shop": "s1", "blog": "b1"})
    served.settle_down()
    served.ask({"shop": "s2", "blog": "b1"})
    served.settle_down()
    found = [task.commands for node in served.nodes.values() for task in node.machine.history if task.number == 3]
    assert sorted(found) == [[], [], ["shop"]]


def test_what_nobody_needs_is_removed(served: World) -> None:
    for bad in (True, False, False, True, False):
        served.ask(bad=bad)
        served.settle_down()
    # What is settled, the one before, and the highest number; two that were accepted stay for a rollback.
    assert served.host.numbers() == [4, 6]
    served.nodes["c"].frozen = True
    served.ask()
    served.settle_down()
    assert 6 in served.host.numbers()
    assert served.serving()["c"] == 6


def test_a_number_is_never_given_twice(served: World) -> None:
    for _ in range(2):
        served.ask(bad=True)
        served.settle_down()
    assert sorted(served.bad) == [1, 2, 3]
    # Even if somebody has removed the deliveries.
    served.host.prune([])
    served.host.make_offer(Offer(7, {}))
    assert release_host.next_number(served.host) == 8


def test_a_member_that_is_gone_is_forgotten_after_some_roll_outs(served: World) -> None:
    served.nodes["c"].lives = False
    counter = served.host.member("c").counter
    served.ask()
    served.settle_down()
    assert served.host.silent().members["c"].counter == counter
    for _ in range(5):
        served.ask()
        served.settle_down()
    assert sorted(served.host.members().known) == ["a", "b"]
    assert served.host.silent() == Silent()
    assert 1 not in served.host.numbers()


def test_a_silence_that_has_ended_counts_no_more() -> None:
    memory = offers.Memory(0.0, None, False, Offer(), 0, silent={"a": Silence(7, 80.0), "b": Silence(7, 80.0)})
    memory = offers.watch(memory, store.Members({"a": Member(7), "b": Member(8)}), 0.0)
    assert [memory.sights[name].silent for name in "ab"] == [80.0, 0.0]
    memory = offers.watch(memory, store.Members({"a": Member(7)}), 1000.0)
    assert [memory.sights[name].silent for name in "ab"] == [90.0, 10.0]


@pytest.mark.parametrize("name", ["offer.json", "settled.json", "members/b.json", "silent.json"])
@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[1]", b'{"number": "one", "counter": []}'])
def test_a_damaged_file_moves_nobody_and_ends_nothing(served: World, name: str, text: bytes) -> None:
    (Path(served.folder) / name).write_bytes(text)
    served.pass_time(20)
    assert served.serving() == {"a": 1, "b": 1, "c": 1}
    assert begun(served, 1) == {"a": 1, "b": 1, "c": 1}
    said = [line for node in served.nodes.values() for line in node.lines if "damaged" in line]
    if name in ("offer.json", "settled.json"):
        # Each member says so once.
        assert len(said) == 3
    served.ask()
    served.settle_down()
    assert served.serving() == {"a": 2, "b": 2, "c": 2}


def test_an_offer_that_cannot_be_read_is_not_taken_back(served: World) -> None:
    killed_after(served, 1)
    assert served.serving() == {"a": 2, "b": 1, "c": 1}
    offer = Path(served.folder) / "offer.json"
    text = offer.read_bytes()
    offer.write_bytes(b"")
    served.pass_time(20)
    assert served.serving()["a"] == 2
    # An offer that is gone was taken back.
    offer.write_bytes(text)
    served.pass_time()
    offer.unlink()
    served.pass_time(20)
    assert served.serving()["a"] == 1


def test_members_serve_on_and_say_so_while_the_store_refuses(served: World) -> None:
    served.nodes["a"].store.refusals = 100
    served.pass_time(10)
    assert served.nodes["a"].lines[-1].endswith("what serves goes on")
    assert len(served.nodes["a"].lines) < 10
    served.nodes["a"].store.refusals = 0
    served.ask()
    served.settle_down()
    assert set(served.serving().values()) == {2}


def test_a_roll_out_waits_for_the_store_but_not_for_ever(served: World) -> None:
    served.ask()
    served.pass_time(2)
    served.host.refusals = 100000
    served.pass_time(20)
    served.host.refusals = 0
    served.settle_down()
    assert any(line.startswith("waiting for the store: ") for line in served.lines)
    assert set(served.serving().values()) == {2}
    served.ask()
    served.pass_time(2)
    served.host.refusals = 100000
    served.pass_time(60)
    assert served.errors[-1].startswith("the store has refused for 30")
    served.host.refusals = 0
    served.ask_end()
    served.settle_down()
    assert len(set(served.serving().values())) == 1


def test_a_waiting_roll_out_says_what_it_waits_for(served: World) -> None:
    served.nodes["a"].machine.rounds = 25
    served.ask()
    served.pass_time(20)
    assert served.lines == ["delivery 2 is offered to a, the first of 3", "waiting for a, which takes delivery 2"]


def test_a_frozen_roll_out_takes_nobody_for_dead() -> None:
    memory = offers.Memory(0.0, None, False, Offer(), 0)
    for number, now in ((1, 0.0), (2, 2.0), (2, 500.0)):
        memory = offers.watch(memory, store.Members({"a": Member(number)}), now)
    assert offers.living(memory) == ["a"]


def test_a_program_that_starts_again_goes_on_counting_and_does_not_try_again(served: World) -> None:
    counter = served.host.member("a").counter
    served.ask(bad=True)
    served.pass_time(8)
    served.host.make_offer(Offer(2, {"a": served.host.offer().turn}, "a", [], served.host.offer().turn))
    served.nodes["a"].start()
    served.pass_time(5)
    assert served.host.member("a").counter > counter
    assert begun(served, 2) == {"a": 1}


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store, and a release host that looks for a moment and locks a file of this test."""
    monkeypatch.setattr(files, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(release_host, "STEP_SECONDS", 0.01)
    monkeypatch.setattr(offers, "LOOK_SECONDS", 0.1)
    yield store.Store(str(tmp_path / "store"))


def test_two_releases_at_once_are_one_after_the_other(quick: Any, tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "0123.tar.gz").write_bytes(b"archive")

    def release(secret: bytes) -> None:
        archives, secrets = {"0123.tar.gz": str(tmp_path / "0123.tar.gz")}, {"app.json": secret}
        number = release_host.release(quick, {"app": "0123"}, 60, archives, secrets, 1, 1, lines.append)
        lines.append(f"ended {number}")

    threads = [threading.Thread(target=release, args=[secret]) for secret in (b"1", b"2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = "no member lives yet: delivery {} is settled, and members that boot take it"
    assert sorted(lines) == sorted([said.format(1), said.format(2), "ended 1", "ended 2"])
    assert lines.index(said.format(1)) < lines.index(said.format(2))
    assert quick.settled() == Settled(2)


def test_a_rollback_goes_to_a_delivery_that_was_served(quick: Any) -> None:
    quick.make()
    for number in (1, 2, 3):
        quick.deliver(number, {"app": str(number)}, 60, {}, {})
    quick.accept(1, "a")
    quick.settle(Settled(1))
    with pytest.raises(commands.ReleaseError, match=r"^no delivery was settled before this one; allowed: 1$"):
        release_host.rollback(quick, 0, 1, 1, print)
    with pytest.raises(commands.ReleaseError, match=r"^delivery 3 was never served; allowed: 1$"):
        release_host.rollback(quick, 3, 1, 1, print)


def test_a_killed_delivery_is_no_delivery(world: World) -> None:
    world.host.writes_left = 1
    with pytest.raises(Killed):
        world.deliver({"app": "1"})
    assert world.host.numbers() == []
    assert world.host.delivery(1) is None
    world.host.writes_left = None
    assert world.deliver({"app": "1"}) == 1
    world.host.prune([1])
    assert [path.name for path in (Path(world.folder) / "deliveries").iterdir()] == ["1"]
    assert world.host.read(Accepted, "deliveries/1/accepted.json") is None
