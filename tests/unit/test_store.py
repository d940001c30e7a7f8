"""The store's files and the lease: what readers see, whatever writers do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.codec import encode
from contract.store_documents import Delivery, Member, Offer, Refusal, Settled, Silent, Task
from tests.unit.machine import PROJECT, module, python36

commands: Any = module("commands")
lease: Any = module("lease")
store: Any = module("store")


@pytest.fixture
def shared(tmp_path: Path) -> Any:
    made = store.Store(str(tmp_path / "store"))
    made.make()
    return made


def names(shared: Any, folder: str) -> list[str]:
    return sorted(path.name for path in (Path(shared.folder) / folder).iterdir())


def test_a_document_is_read_as_it_was_written(shared: Any) -> None:
    member = Member(3, 2, {"app": "r1"}, Task(3, 7, ["app"]), Refusal(2, 6, ["no module named app"]))
    shared.report("i-1", member)
    shared.make_offer(Offer(3, {"i-1": 7}, "i-1", ["app"], 7))
    shared.settle(Settled(2, 1))
    assert shared.members() == store.Members({"i-1": member}, {})
    assert shared.offer() == Offer(3, {"i-1": 7}, "i-1", ["app"], 7)
    assert shared.settled() == Settled(2, 1)


def test_a_new_store_says_nothing(shared: Any) -> None:
    assert (shared.settled(), shared.offer(), shared.silent()) == (None, Offer(), Silent())
    assert (shared.numbers(), shared.members(), shared.delivery(1)) == ([], store.Members({}, {}), None)
    assert not shared.is_accepted(1)


_KEYS = st.sampled_from(["number", "members", "turn", "counter", "doing", "refused", "lines", "sites", "commands"])
_VALUES = st.sampled_from(
    [None, True, -1, "x", [], [1], ["x"], {}, {"a": 1}, {"a": "x"}, {"number": 1}, {"counter": 1}]
)
_FILES = st.binary(max_size=20) | st.dictionaries(_KEYS, _VALUES).map(lambda value: json.dumps(value).encode())


@given(_FILES)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_whatever_a_file_holds_is_a_document_or_damaged(data: bytes) -> None:
    for kind in (Member, Offer, Settled, Silent, Delivery):
        try:
            document = store.parsed(kind, "x.json", data)
        except store.Damaged as error:
            assert str(error).startswith("x.json is damaged: ")
        else:
            assert store.parsed(kind, "x.json", encode(document).encode()) == document


def test_a_member_whose_file_is_damaged_hides_no_other(shared: Any) -> None:
    shared.report("a", Member(1))
    for name in ("b.json", "c.json.new", "not a member.json"):
        (Path(shared.folder) / "members" / name).write_text("{")
    (Path(shared.folder) / "members/d.json").mkdir()
    found = shared.members()
    assert found.known == {"a": Member(1)}
    assert {name: type(error) for name, error in found.unreadable.items()} == {
        "b": store.Damaged,
        "d": store.Unreadable,
    }


def test_a_delivery_has_its_number_when_it_is_whole(shared: Any, tmp_path: Path) -> None:
    (tmp_path / "0123.tar.gz").write_bytes(b"archive")
    with pytest.raises(FileNotFoundError):
        shared.deliver(1, {"app": "0123"}, 60, {"0123.tar.gz": str(tmp_path / "none")}, {})
    assert shared.numbers() == []
    shared.deliver(1, {"app": "0123"}, 60, {"0123.tar.gz": str(tmp_path / "0123.tar.gz")}, {"app.json": b"secret"})
    assert names(shared, "deliveries") == ["1"]
    folder = tmp_path / "copy"
    folder.mkdir()
    assert shared.fetch(1, str(folder)).sites == {"app": "0123"}
    assert (folder / "app.json").read_bytes() == b"secret"
    assert (folder / "app.json").stat().st_mode & 0o777 == 0o600
    assert (Path(shared.folder) / "deliveries/1").stat().st_mode & 0o777 == 0o700


def test_a_delivery_leaves_its_folder_by_no_name(shared: Any) -> None:
    with pytest.raises(ValueError, match=r"^no names of files: \.\./settled\.json$"):
        shared.deliver(1, {}, 60, {}, {"../settled.json": b""})


@pytest.mark.parametrize("how", ["changed", "gone", "absent"])
def test_a_delivery_that_is_not_whole_is_refused(shared: Any, tmp_path: Path, how: str) -> None:
    shared.deliver(1, {"app": "0123"}, 60, {}, {"app.json": b"secret"})
    file = Path(shared.folder) / "deliveries/1/app.json"
    if how == "changed":
        file.write_bytes(b"secre")
    elif how == "gone":
        file.unlink()
    with pytest.raises(commands.ReleaseError, match=r"^(app\.json of )?delivery \d (is|cannot)"):
        shared.fetch(2 if how == "absent" else 1, str(tmp_path))


def test_nothing_that_anybody_needs_is_pruned() -> None:
    numbers = list(range(1, 12))
    members = [Member(1, 3), Member(1, None, {}, Task(4))]
    assert store.staying(numbers, {1, 2, 5, 6, 7}, Settled(6, 2), Offer(8, {}), members, 2) == {2, 3, 4, 6, 7, 8, 11}
    assert store.staying([1, 2], {1}, None, Offer(), [], 0) == {2}
    assert store.staying([], set(), None, Offer(), [], 2) == set()


def test_what_a_killed_run_has_left_is_removed(shared: Any) -> None:
    for name in ("1", "2.new", "3.old"):
        (Path(shared.folder) / "deliveries" / name).mkdir()
    shared.prune([1])
    assert names(shared, "deliveries") == ["1"]


class Members:
    """Members with a lease and clocks of their own, which nobody has set to the same time."""

    def __init__(self, shared: Any) -> None:
        self.leases = {name: lease.Lease(shared.lease_folder(), name) for name in "abc"}
        self.offsets = {"a": 0.0, "b": 1e6, "c": -50.0}
        self.time = 0.0
        self.folder = Path(shared.lease_folder())

    def pass_time(self, seconds: float, away: str = "") -> None:
        for _ in range(int(seconds / 2)):
            self.time += 2
            for name in self.leases:
                if name not in away:
                    self.leases[name].step(self.time + self.offsets[name])

    def holders(self) -> list[str]:
        return [name for name, each in self.leases.items() if each.holds()]


@pytest.fixture
def members(shared: Any) -> Members:
    return Members(shared)


def test_one_member_holds_the_lease_and_keeps_it(members: Members) -> None:
    members.pass_time(600)
    assert members.holders() == ["a"]
    assert [path.name for path in members.folder.iterdir()] == ["1"]


def test_another_member_takes_the_lease_of_one_that_writes_no_more(members: Members) -> None:
    members.pass_time(10)
    members.pass_time(80, away="a")
    assert members.holders() == ["a"]
    members.pass_time(20, away="a")
    # The one that was away finds out when it asks, before it has taken a step.
    assert members.holders() == ["b"]
    members.pass_time(10)
    assert members.holders() == ["b"]


def test_a_lease_that_was_pruned_comes_back_for_nobody(members: Members) -> None:
    members.pass_time(10)
    for away in ("a", "ab", "ac"):
        members.pass_time(120, away=away)
    assert sorted(path.name for path in members.folder.iterdir()) == ["3", "4"]
    assert members.holders() == ["b"]
    for _ in range(3):
        members.leases["a"].step(members.time)
        assert members.holders() == ["b"]


def test_a_number_below_the_highest_is_no_lease(members: Members) -> None:
    for number in (7, 9):
        (members.folder / str(number)).write_text("{}")
    first = members.leases["a"]
    # Its list of the folder is from a moment ago.
    first._take(8)
    assert not first.holds()
    assert first.watched.number == 0


def test_two_members_that_take_the_same_number_are_one_holder(members: Members) -> None:
    members.leases["a"]._take(1)
    members.leases["b"]._take(1)
    assert members.holders() == ["a"]


def test_a_program_that_starts_again_has_its_lease_still(members: Members, shared: Any) -> None:
    members.pass_time(10)
    members.leases["a"] = lease.Lease(shared.lease_folder(), "a")
    assert members.holders() == []
    members.pass_time(2)
    assert members.holders() == ["a"]


def test_a_member_that_does_not_want_the_lease_lets_it_run_out(members: Members) -> None:
    members.pass_time(10)
    for _ in range(60):
        members.leases["a"].step(members.time, competes=False)
        members.pass_time(2, away="a")
    assert members.holders() == ["b"]


@pytest.mark.parametrize("text", [b"", b"\xff", b"{"])
def test_a_damaged_lease_is_taken_by_somebody(members: Members, text: bytes) -> None:
    members.pass_time(10)
    (members.folder / "1").write_bytes(text)
    assert members.holders() == []
    members.pass_time(120)
    assert len(members.holders()) == 1


def test_a_watcher_that_was_frozen_takes_no_lease_at_once(members: Members) -> None:
    members.pass_time(10)
    members.time += 1000
    members.leases["b"].step(members.time + members.offsets["b"])
    assert members.holders() == ["a"]


def test_the_store_is_read_and_written_under_python_3_6(tmp_path: Path) -> None:
    python = python36()
    if python is None:
        pytest.skip("no python3.6 here: the store was not used under CentOS 7's Python")
    script = (
        "import sys; sys.path[:0] = ['machine', '.']\n"
        "import lease, member, offers, release_host, store\n"
        "from contract.store_documents import *\n"
        "shared = store.Store(sys.argv[1]); shared.make()\n"
        "shared.deliver(1, {'app': 'r1'}, 60, {}, {'app.json': b'x'})\n"
        "shared.report('a', Member(1, 1, {'app': 'r1'}, Task(2, 3, ['app']), Refusal(1, 2, ['x'])))\n"
        "shared.make_offer(Offer(1, {'a': 2}, 'a', ['app'], 2)); shared.settle(Settled(1))\n"
        "print(shared.members(), shared.offer(), shared.settled(), shared.delivery(1))\n"
        "rollout = release_host.RollOut(shared, 1, 1, 1, print, 0.0)\n"
        "print([rollout.step(float(now)) for now in range(3)], lease.Lease(shared.lease_folder(), 'a').step(0.0))\n"
    )
    printed = [
        subprocess.run(
            [each, "-B", "-c", script, str(tmp_path / str(number))],
            cwd=PROJECT, capture_output=True, text=True, check=True,
        ).stdout
        for number, each in enumerate([python, sys.executable])
    ]  # fmt: skip
    assert printed[0] == printed[1]
    assert "Damaged" not in printed[0]
