"""The keeper of scaling groups: what it replaces and when; and `./rehearse scale`, which it must not disturb."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from rehearsal.cli import main
from rehearsal.cloud import keeper, lock, processes, scaling, tokens
from rehearsal.cloud.lxd import LxdError
from rehearsal.cloud.scaling import Group
from rehearsal.commands import keep, machines, scale, status
from rehearsal.commands.keep import Keeper
from rehearsal.commands.show import Show
from rehearsal.engine.errors import UserError
from rehearsal.engine.state import Record, State
from tests.builders.scaled import GROUP, Scaled
from tests.builders.stack import PROJECT


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scaled:
    made = Scaled(monkeypatch, tmp_path)
    made.lxd.machines.clear()
    for module in (keep, machines, scale):
        if hasattr(module, "load_state"):
            monkeypatch.setattr(module, "load_state", lambda stack: State(made.store, made.store.load()))
    monkeypatch.setattr(machines, "reachable", lambda: True)
    monkeypatch.setattr(lock, "_FOLDER", tmp_path)
    image = made.context().images["debian_12"]
    monkeypatch.setattr("rehearsal.cloud.image.ensure", lambda name, say: image)
    return made


@pytest.fixture
def group(scaled: Scaled, tmp_path: Path) -> Group:
    (tmp_path / ".rehearsal/test").mkdir(parents=True)
    (tmp_path / ".rehearsal/test/id_ed25519.pub").write_text("ssh-ed25519 BBBB")
    return scaled.up({**GROUP, "minSize": 3})


@pytest.fixture
def kept(scaled: Scaled, group: Group, tmp_path: Path) -> Keeper:
    """A keeper that has seen all machines healthy."""
    made = Keeper(tmp_path, "test")
    assert made.look()
    assert all(member.has_served for member in group.members)
    return made


def test_a_machine_that_is_off_is_replaced_at_the_second_look(scaled: Scaled, group: Group, kept: Keeper) -> None:
    scaled.lxd.machines[f"{group.id}-2"]["status"] = "Stopped"
    kept.look()
    assert scaled.numbers() == [1, 2, 3], "a machine that restarts is off for a moment"
    kept.look()
    assert scaled.numbers() == [1, 3, 4]
    assert group.members[-1].switch == "vsw-2", "where the other one was"
    assert scaled.lxd.servers() == [f"{group.id}-{number}" for number in (1, 3, 4)]


def test_a_machine_that_is_gone_is_replaced(
    scaled: Scaled, group: Group, kept: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    del scaled.lxd.machines[f"{group.id}-1"]
    kept.look()
    kept.look()
    assert scaled.numbers() == [2, 3, 4]
    assert "Z 2 machines are there, and 3 are desired: replacing" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "numbers"), [(29, [1, 2, 3]), (30, [1, 3, 4])])
def test_a_machine_that_was_healthy_is_replaced_when_it_is_down_for_30_s(
    scaled: Scaled, group: Group, kept: Keeper, seconds: int, numbers: list[int]
) -> None:
    # The cloud sees a machine that is paused as one that runs.
    scaled.lxd.machines[f"{group.id}-2"]["status"] = "Frozen"
    scaled.ill = {f"{group.id}-2": seconds}
    kept.look()
    kept.look()
    assert scaled.numbers() == numbers
    kept.look()
    kept.look()
    assert len(scaled.numbers()) == 3, "the new one may take its time until it is healthy"


def test_a_machine_without_a_release_is_not_replaced(scaled: Scaled, kept: Keeper) -> None:
    scaled.heals = False
    new = scaled.up({**GROUP, "minSize": 4}).members[-1]
    scaled.heals, scaled.ill = True, {new.id: 300}
    for _ in range(3):
        kept.look()
    assert scaled.numbers() == [1, 2, 3, 4]


def test_nothing_is_touched_while_a_run_has_the_lock_or_after_it_has_put_things_right(
    scaled: Scaled, group: Group, kept: Keeper
) -> None:
    group.want(4)
    with lock.stack_lock("test"):
        for _ in range(3):
            kept.look()
    assert scaled.numbers() == [1, 2, 3]
    kept.look()
    group = Group(scaled.context(), group.id)
    group.settle()
    for _ in range(3):
        kept.look()
    assert scaled.numbers() == [1, 2, 3, 4]


def test_the_lock_is_free_while_all_is_well(kept: Keeper) -> None:
    kept.look()
    with lock.stack_lock("test"):
        assert kept.look()


def test_it_goes_on_after_a_failure_and_ends_with_its_group(
    scaled: Scaled, kept: Keeper, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks, slept = ["fails", "well", "no group"], list[float]()

    def look() -> bool:
        found = looks.pop(0)
        if found == "fails":
            raise LxdError("LXD is away")
        return found == "well"

    monkeypatch.setattr(kept, "look", look)
    monkeypatch.setattr(time, "sleep", slept.append)
    keep.keep(kept)
    assert slept == [2, 30, 2, 2]
    assert "LXD is away; next look in 30 s" in capsys.readouterr().out


def test_a_stack_that_is_gone_needs_no_keeper(scaled: Scaled, kept: Keeper) -> None:
    scaled.store.delete()
    assert not kept.look()


def test_its_process_is_found_by_its_stack_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An LXD that does not exist: the keeper says so and tries again.
    monkeypatch.setenv("LXD_DIR", str(tmp_path))
    stack, deadline = f"keeper-{tmp_path.name}", time.monotonic() + 60

    def start(times: int) -> list[int]:
        keeper.start(PROJECT, stack, tmp_path)
        while keeper.log_file(tmp_path).read_text().count("looks after the machines") < times:
            assert time.monotonic() < deadline, keeper.log_file(tmp_path).read_text()
            time.sleep(0.1)
        return keeper.running(stack)

    try:
        (first,), (second,) = start(1), start(2)
        assert first != second
        assert keeper.running(stack[:-1]) == []
    finally:
        keeper.stop(stack)
    assert keeper.running(stack) == []


def test_other_processes_are_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "mine"]) as process:
        processes.end(lambda: processes.running(lambda words: words[-2:] == ["other", ""]))
        assert process.poll() is None
        # Until the program has begun, its command is that of this process.
        deadline = time.monotonic() + 10
        while not processes.running(lambda words: words[3:4] == ["mine"]) and time.monotonic() < deadline:
            time.sleep(0.01)
        processes.end(lambda: processes.running(lambda words: words[3:4] == ["mine"]))
        assert process.wait(10) != 0 or process.returncode is not None


def test_scale_makes_and_takes_machines(scaled: Scaled, group: Group, tmp_path: Path) -> None:
    for count, numbers in ((4, [1, 2, 3, 4]), (3, [1, 2, 3])):
        assert scale.scale(tmp_path, "test", count) == 0
        assert scaled.numbers() == numbers
        assert Group(scaled.context(), group.id).desired == count


@pytest.mark.parametrize("count", [2, 5, -1])
def test_scale_stays_within_min_and_max(group: Group, tmp_path: Path, count: int) -> None:
    with pytest.raises(UserError, match=r"topology\.scaling has min 3 and max 4; allowed: 3 to 4"):
        scale.scale(tmp_path, "test", count)


def test_scale_without_a_scaling_group_or_a_number_is_one_line(scaled: Scaled, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no scaling group"):
        scale.scale(tmp_path, "test", 2)
    done = CliRunner().invoke(main, ["scale", "many"])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)


def test_new_machines_are_waited_for_only_where_others_are_healthy(
    scaled: Scaled, group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(scaling.Group, "wait", lambda self, new: waited.append(len(list(new))))
    scaled.heals = False
    scale.scale(tmp_path, "test", 4)
    assert waited == []
    assert "no machine is healthy" in capsys.readouterr().out


def test_the_day_to_day_commands_reach_a_member(
    scaled: Scaled, group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".rehearsal/test/id_ed25519").touch()
    monkeypatch.setattr(machines, "Lxd", lambda project: scaled.lxd)
    state = scaled.context().state
    state.remove(*state.records(tokens.SERVER_GROUP))
    for type_, name in (
        (tokens.INSTANCE, "wsgi-ecs-test-release-instance"),
        (tokens.SERVER_GROUP, "wsgi-ecs-test-blog-servers"),
    ):
        urn, outputs = f"urn:pulumi:test::wsgi-ecs::{type_}::{name}", {"primaryIpAddress": "10.71.0.9"}
        state.put(Record(state.new_serial(), urn, type_, name, "i-1", {}, outputs, status="done"))
    scaled.lxd.machines["i-1"] = {"name": "i-1", "status": "Running", "config": {}}
    scaled.lxd.machines[f"{group.id}-2"]["status"] = "Stopped"
    found = machines.rehearsed(tmp_path, "test")
    assert [machine.name for machine in found.machines] == ["release", "member-1", "member-2", "member-3"]
    member = found.named(f"{group.id}-1")
    assert (member.name, member.sites, member.missing) == ("member-1", ("blog",), None)
    assert (member.way.command()[-1], member.way.jump) == ("root@10.71.0.1", ())
    assert "is stopped" in str(found.named("member-2").missing)
    assert found.with_nginx == found.machines[1:], "the release host has none"


def test_status_names_the_members_and_the_keepers_log(
    scaled: Scaled, group: Group, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scaled.ill = {f"{group.id}-2": 3}
    status._show_members(tmp_path, scaled.context().state, Show(), {})
    assert capsys.readouterr().out.splitlines() == [
        f"  scaling group {group.id}: 3 machines desired, 3 to 4 allowed",
        "  machine member-1: Running, 10.71.0.1, in the load balancer: UP",
        "  machine member-2: Running, 10.72.0.2, in the load balancer: DOWN",
        "  machine member-3: Running, 10.71.0.3, in the load balancer: UP",
        "  keeper: does not run; ./rehearse up --stack test starts it (log .rehearsal/test/keeper.log)",
    ]
