"""Runs that are killed with -9 at each of their steps: the next one goes on, and destroy leaves nothing."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehearsal.cloud.lxd import Lxd
from rehearsal.cloud.store import load_state
from rehearsal.engine.state import encode
from tests.rehearsal.builders.stack import CLIENT, Stack, in_whole_runs, new_stack, traces, tried

SECONDS = 240


@pytest.fixture(scope="module")
def stack(project_copy: Path) -> Iterator[Stack]:
    made = new_stack(project_copy, "killed")
    yield made
    made.run("destroy")


def steps(stack: Stack) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the resources that are there, and of those that are being made or deleted."""
    state = load_state(stack.name)
    records = state.records() if state.exists else []
    done = frozenset(record.name + record.type for record in records if record.status == "done")
    return done, frozenset(record.name + record.type for record in records) - done


def begun(stack: Stack, kind: str) -> bool:
    """Whether a resource of that type is there or being made, which for some takes less than a look at them."""
    done, under_way = steps(stack)
    return any(name.endswith(f":{kind}") for name in done | under_way)


def killed(stack: Stack, command: str, moment: Callable[[], bool]) -> int | None:
    """Run a command and kill it when the moment has come; what it started goes on. Its exit code if it ended first."""
    stack.write()
    with subprocess.Popen(
        stack.command(command),
        cwd=stack.folder,
        env=stack.environment(command),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        deadline = time.monotonic() + SECONDS
        while not moment():
            if run.poll() is not None:
                return run.returncode
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(run.pid, signal.SIGKILL)
    return None


@in_whole_runs
def test_up_goes_on_from_wherever_it_was_killed(stack: Stack) -> None:
    kills, seen = 0, set[str]()
    while True:
        before, _ = steps(stack)
        # In turn as something begins and as something is there: the first alone would never get on.
        began = kills % 2 == 0

        def moment(before: frozenset[str] = before, began: bool = began) -> bool:
            done, under_way = steps(stack)
            seen.update(done | under_way)
            return bool(done - before or (began and under_way))

        code = killed(stack, "up", moment)
        if code is not None:
            break
        kills += 1
        assert kills < 80
    assert code == 0
    assert kills >= 12
    assert len(seen) == len(steps(stack)[0]) >= 12
    done = stack.run("up")
    assert done.code == 0
    assert "created" not in done.out
    assert "GET http" in done.out
    assert "200 OK" in done.out
    assert len(Lxd(f"wsgi-ecs-{stack.name}").get("/1.0/instances")) == 1


@in_whole_runs
def test_destroy_goes_on_from_wherever_it_was_killed(stack: Stack) -> None:
    kills = 0
    while True:
        before, _ = steps(stack)
        code = killed(stack, "destroy", lambda before=before: steps(stack)[0] != before)  # type: ignore[misc]
        if code is not None:
            break
        kills += 1
    assert code == 0
    assert kills >= 3
    assert traces(stack) == set()


@pytest.mark.parametrize("kind", tried(("Switch", "Instance", "EipAssociation", "CopyToRemote"), "Instance"))
def test_destroy_cleans_up_after_an_up_that_was_killed(stack: Stack, kind: str) -> None:
    assert killed(stack, "up", lambda: begun(stack, kind)) is None
    assert traces(stack)
    assert stack.run("destroy").code == 0
    assert traces(stack) == set()


def test_a_record_that_is_damaged_stands_in_nobodys_way(stack: Stack) -> None:
    """The command that is named takes it out, and destroy finds what it stood for."""
    assert killed(stack, "up", lambda: begun(stack, "Instance")) is None
    (machine,) = load_state(stack.name).records("alicloud:ecs/instance:Instance")
    project, key = f"wsgi-ecs-{stack.name}", f"user.resource.{machine.serial}"
    subprocess.run([CLIENT, "project", "set", project, f"{key}={encode(machine)[:-1]}"], check=True)
    for command in ("preview", "status", "destroy"):
        done = stack.run(command)
        assert (done.code, done.err.count("\n")) == (2, 1), done.text
    named = re.search(
        rf"{re.escape(key)}: damaged; run ({CLIENT} .*), then ./rehearse destroy --stack {stack.name}", done.err
    )
    assert named, done.err
    subprocess.run(shlex.split(named[1]), check=True)
    assert stack.run("destroy").code == 0
    assert traces(stack) == set()
