"""A scaling group behind a load balancer: machines come and go while requests go on. The tests run in this order."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rehearsal.cloud import keeper
from rehearsal.cloud.keys import keys_of
from tests.rehearsal.builders.load import Load, loaded
from tests.rehearsal.builders.stack import CLIENT, Stack, lxd, new_stack, traces, until

WWW = "www.example.test"
# Seconds for a machine that is replaced: to be noticed, to boot, to take the release and to pass its health checks.
REPLACED = 240


class Group:
    """A stack with a scaling group that is up. address: one of the load balancer's."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        stack.settings = {
            "topology": {"entrance": "alb", "scaling": {"min": 2, "max": 4, "warmup_seconds": 30}},
            "site": {"server_name": WWW},
        }
        stack.up()
        outputs = json.loads(lxd(f"/1.0/projects/{stack.project}")["config"]["user.outputs"])
        self.address: str = outputs["addresses"][0]

    def machines(self) -> dict[str, dict[str, Any]]:
        """The members by their names in LXD."""
        found = lxd(f"/1.0/instances?recursion=1&project={self.stack.project}")
        return {each["name"]: each for each in found if "user.wsgi-ecs.scaling-group" in each["config"]}

    def hosts(self, requests: int = 16) -> set[str]:
        """The members that answer so many requests: the page names its own machine."""
        url, pages = f"http://{self.address}/", []
        for _ in range(requests):
            answer = httpx.get(url, headers={"Host": WWW}, trust_env=False, timeout=10)
            assert answer.status_code == 200, answer.text
            pages.append(answer.text)
        return {found for page in pages for found in re.findall(r"asg-[0-9a-f]{10}-\d+", page)}

    def load(self) -> Load:
        return Load(self.address, WWW, connections=20, rate=50)

    def lxc(self, *words: str) -> None:
        line = [CLIENT, *words, "--project", self.stack.project]
        subprocess.run(line, check=True, capture_output=True, timeout=120)

    def log(self) -> str:
        """What the keeper has printed."""
        return keeper.log_file(keys_of(self.stack.folder, self.stack.name).folder).read_text()


@pytest.fixture(scope="module")
def group(project_copy: Path) -> Iterator[Group]:
    stack = new_stack(project_copy, "scaling")
    try:
        yield Group(stack)
    finally:
        stack.run("destroy")
        assert traces(stack) == set()


def test_two_members_in_two_zones_answer_through_the_balancer(group: Group) -> None:
    assert group.hosts() == set(group.machines())
    assert len({each["config"]["user.wsgi-ecs.switch"] for each in group.machines().values()}) == 2
    assert keeper.running(group.stack.name)
    status = group.stack.run("status")
    assert status.code == 0
    assert status.out.count("in the load balancer: UP") == 2
    assert "keeper: runs" in status.out


def test_a_second_up_changes_no_machine(group: Group) -> None:
    before = set(group.machines())
    assert " unchanged" in group.stack.up().out
    assert set(group.machines()) == before
    assert len(keeper.running(group.stack.name)) == 1


def test_a_member_is_reached_by_its_name(group: Group) -> None:
    done = group.stack.run("ssh", "--machine", "member-2", "--", "hostname")
    assert done.out.strip() in group.machines()


def test_scaling_out_and_in_loses_no_request(group: Group) -> None:
    before, load = set(group.machines()), group.load()
    with loaded(load, least=500):
        done = group.stack.run("scale", "3")
        assert done.code == 0, done.text
        three = group.hosts()
        assert before < three
        assert len(three) == 3
        done = group.stack.run("scale", "2")
        assert done.code == 0, done.text
    assert load.tally.failed == 0, load.tally
    assert len(group.machines()) == 2
    # removal_policies say which one has left.
    assert group.hosts() == set(group.machines()) < three


def test_a_number_of_machines_that_the_settings_do_not_allow_is_refused(group: Group) -> None:
    for count in ("1", "5"):
        done = group.stack.run("scale", count)
        assert (done.code, done.err.count("\n")) == (2, 1), done.text
        assert "allowed: 2 to 4" in done.err


def test_a_member_that_is_killed_is_replaced(group: Group) -> None:
    dead, *_ = before = sorted(group.machines())
    group.lxc("stop", "--force", dead)
    until(lambda: dead not in group.machines() and len(group.hosts()) == 2, REPLACED)
    (new,) = set(group.machines()) - set(before)
    assert group.machines()[new]["config"]["user.wsgi-ecs.switch"]
    assert "is stopped: replacing" in group.log()


def test_a_member_that_is_frozen_is_out_after_its_checks_and_replaced(group: Group) -> None:
    frozen, *_ = sorted(group.machines())
    group.lxc("pause", frozen)
    until(lambda: frozen not in group.machines() and len(group.hosts()) == 2, REPLACED)
    assert "has failed its health check for" in group.log()


def test_destroy_leaves_nothing(group: Group) -> None:
    done = group.stack.run("destroy")
    assert done.code == 0, done.text
    assert traces(group.stack) == set()
    assert not keeper.running(group.stack.name)
