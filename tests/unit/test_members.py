"""Releases to a scaling group: the release host and members as real processes, which are killed and started again."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.scaled_group import VERSION, Group, Member, until
from tests.unit.machine import module


@pytest.fixture
def group() -> Iterator[Group]:
    found = Group()
    try:
        yield found
    finally:
        found.end()


@pytest.fixture
def sites() -> Iterator[Group]:
    """A group of two sites."""
    found = Group("app", "blog")
    try:
        yield found
    finally:
        found.end()


def serving(group: Group) -> set[str]:
    """What the members serve of the site app."""
    return {member.serves().get("site-app", "") for member in group.members.values()}


def held(group: Group) -> tuple[Member, Member, "subprocess.Popen[bytes]"]:
    """Two members that serve delivery 1, of which the first one is held as it takes delivery 2, and the roll-out."""
    group.rolled("1")
    one, two = group.join("i-1", "i-2")
    until(lambda: one.said() and two.said() and one.said().number == two.said().number == 1)
    one.hold()
    roll = group.roll("2")
    until(lambda: len(one.runs()) == 3)
    return one, two, roll


def test_a_release_reaches_all_members_and_its_commands_run_on_one(group: Group) -> None:
    printed = group.rolled("1")
    assert "no member lives yet: delivery 1 is settled, and members that boot take it" in printed
    one, two = group.join("i-1", "i-2")
    until(lambda: serving(group) == {"app-1"})
    until(lambda: one.said().number == two.said().number == 1)
    assert sorted([one.runs()[1], two.runs()[1]]) == ["apply site-app app-1", "follow site-app app-1"]
    assert json.loads((one.folder / "site-app.stdin").read_text())["env"] == {"SECRET": "s"}
    printed = group.rolled("2", at_once=1)
    assert [line for line in printed.splitlines() if "delivery 2" in line] == [
        "wsgi-ecs: delivery 2 is offered to i-1, the first of 2",
        "wsgi-ecs: i-1 serves delivery 2, which is settled now",
        "wsgi-ecs: delivery 2 is offered to i-2",
        "wsgi-ecs: i-2 serves delivery 2 (2 of 2)",
    ]
    assert serving(group) == {"app-2"}
    assert one.runs()[2:] == ["prepare host h2", "apply site-app app-2"]
    assert two.runs()[2:] == ["prepare host h2", "follow site-app app-2"]
    # The secrets of a delivery lie on a member only while it is taken.
    assert not list((one.folder / "own").rglob("*.json.new"))
    assert sorted(path.name for path in (one.folder / "own").iterdir()) == [
        "lock", "outcome.json", "serving.json", "task.json"
    ]  # fmt: skip
    # The very same again changes nothing.
    printed = group.rolled("2")
    assert "delivery 2 is settled already, with the same releases and secrets" in printed
    assert len(one.runs()) == len(two.runs()) == 4
    # Another secret is another delivery, and runs no command.
    group.rolled("2", word="other")
    assert json.loads((two.folder / "site-app.stdin").read_text())["env"] == {"SECRET": "other"}
    assert [member.runs()[-1] for member in (one, two)] == ["follow site-app app-2"] * 2


def test_a_refused_release_fails_with_the_members_own_lines(group: Group) -> None:
    group.rolled("1")
    group.join("i-1", "i-2")
    until(lambda: serving(group) == {"app-1"})
    printed = group.rolled("2", status=1, bad={"app": "no module named shop"})
    assert "wsgi-ecs: release refused: member i-1 refused delivery 2; delivery 1 stays settled\n" in printed
    assert "\nwsgi-ecs: release refused: no module named shop\n" in printed
    assert serving(group) == {"app-1"}
    assert len(group.members["i-2"].runs()) == 2
    # The host's part had moved.
    assert group.members["i-1"].serves()["host"] == "h1"


def test_a_site_that_had_moved_goes_back_when_another_one_is_refused(sites: Group) -> None:
    sites.rolled("1")
    (one,) = sites.join("i-1")
    until(lambda: one.said() and one.said().number == 1)
    sites.rolled("2", status=1, bad={"blog": "no module named blog"})
    assert one.serves() == {"host": "h1", "site-app": "app-1", "site-blog": "blog-1"}
    assert one.runs()[3:] == [
        "prepare host h2", "apply site-app app-2", "apply site-blog blog-2", "prepare host h1", "follow site-app app-1"
    ]  # fmt: skip
    assert one.said().number == 1


def test_a_member_that_is_killed_while_it_takes_a_delivery_finds_it_again(group: Group) -> None:
    one, _, roll = held(group)
    one.kill()
    one.start()
    until(lambda: one.text().count("takes releases") == 2)
    one.hold(False)
    group.ended(roll)
    assert serving(group) == {"app-2"}
    # The task went on, so nothing was done twice.
    assert one.runs()[2:] == ["prepare host h2", "apply site-app app-2"]


def test_a_member_whose_task_is_killed_takes_what_is_settled_again(group: Group) -> None:
    one, _, roll = held(group)
    one.kill_task()
    one.hold(False)
    printed = group.ended(roll, status=1)
    assert "member i-1 refused delivery 2" in printed
    assert "the run that took the delivery was killed" in printed
    # What it served was of two deliveries, so it was brought back to the one before.
    assert "i-1 serves delivery 1 (2 of 2)" in printed
    assert one.said().number == 1
    assert one.serves() == {"host": "h1", "site-app": "app-1"}
    assert one.runs()[3:] == ["prepare host h1", "follow site-app app-1"]


def test_a_release_host_that_is_killed_leaves_what_the_next_run_ends(group: Group) -> None:
    one, two, roll = held(group)
    roll.kill()
    roll.wait()
    one.hold(False)
    until(lambda: one.said().number == 2)
    # The user takes the change back.
    group.rolled("1")
    assert serving(group) == {"app-1"}
    assert two.runs() == ["prepare host h1", two.runs()[1]]


def test_another_tool_takes_the_place_of_a_members_between_tasks(group: Group) -> None:
    group.rolled("1")
    (one,) = group.join("i-1")
    until(lambda: one.said() and one.said().number == 1)
    (tool,) = (group.store / "tools").iterdir()
    assert (group.store / "tool").resolve() == tool
    one.hold()
    killed = group.roll("2")
    until(lambda: len(one.runs()) == 3)
    killed.kill()
    roll = group.roll("3", tool="# Another one.\n")
    until(lambda: (group.store / "tool").resolve() != tool)
    process = one.process
    assert process
    # It ends when its task has ended, and systemd starts the other tool.
    time.sleep(0.5)
    assert process.poll() is None
    one.hold(False)
    until(lambda: process.poll() == 0)
    one.start()
    group.ended(roll)
    assert serving(group) == {"app-3"}


def test_the_store_of_a_version_is_removed_when_nobody_lives_there(group: Group) -> None:
    other = group.store.with_name("ba9876543210")
    group.rolled("1")
    (one,) = group.join("i-1")
    until(lambda: one.said() and one.said().number == 1)
    # Members of the next version have not come yet.
    group.rolled("1", version=other.name)
    assert group.store.exists()
    assert "version ba9876543210 is removed from the store" in group.rolled("1")
    assert [path.name for path in group.store.parent.iterdir()] == [VERSION]


def test_the_release_host_waits_until_enough_members_serve(group: Group) -> None:
    group.rolled("1")
    (one,) = group.join("i-1")
    until(lambda: one.said() and one.said().number == 1)
    (two,) = group.join("i-2", holds=True)
    until(lambda: len(two.runs()) == 1)
    waiting = group.joined(2, 1)
    group.until_printed(waiting, "waiting: 1 of 2 members serve delivery 1 (2 live)")
    two.hold(False)
    assert group.ended(waiting).endswith("wsgi-ecs: enough members serve: 2\n")
    # A member says for how long it has run, which is longer than this test.
    assert one.said().seconds > 1


def test_members_that_never_serve_are_told_with_their_own_lines(group: Group) -> None:
    group.rolled("1", bad={"app": "no module named shop"})
    (one,) = group.join("i-1")
    until(lambda: one.said() and one.said().refused)
    printed = group.ended(group.joined(1, 0), status=1)
    assert "wsgi-ecs: the members are not ready: 0 of 1 members serve delivery 1 (1 live) after " in printed
    assert "member i-1 refused delivery 1:\n" in printed
    assert "wsgi-ecs: release refused: no module named shop\n" in printed


def test_one_member_at_a_time_has_the_lease(group: Group) -> None:
    group.rolled("1")
    one, two = group.join("i-1", "i-2")
    until(lambda: one.has_lease() or two.has_lease())
    holder, other = (one, two) if one.has_lease() else (two, one)
    assert not other.has_lease()
    # It is still the same member's after its program has started again.
    holder.kill()
    holder.start()
    assert holder.has_lease(seconds=30)
    assert not other.has_lease()
    holder.kill()
    # Nobody answers there any more.
    assert not holder.has_lease(seconds=0.5)
    until(other.has_lease)


def test_a_member_that_gives_no_answer_has_no_lease(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hangs:
        hangs.bind(str(tmp_path / "lease"))
        hangs.listen()
        began = time.monotonic()
        assert module("has_lease").main([str(tmp_path / "lease"), "0.5"]) == 1
        assert time.monotonic() - began < 5
