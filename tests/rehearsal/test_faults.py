"""The most telling rows of docs/faults.md, on one machine: it comes back by itself, and nothing is left over or lost.

`make faults` measures all rows. test_comes_back.py has the single kills of each process manager.
"""

import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.rehearsal.builders import faults
from tests.rehearsal.builders.faults import Act, Machine, machine_of

FAULTS: dict[str, tuple[Act, str, float]] = {
    # Name → what is done, the site that is asked, and the most seconds until it answers again.
    "everything killed at once": (faults.kill_all, "app", 10),
    "stats port held": (partial(faults.hold_port, seconds=6), "port", 15),
    "killed at random": (
        lambda machine: faults.kill_at_random(machine, seconds=25, seed=secrets.randbelow(1 << 32)),
        "app",
        10,
    ),
}


@pytest.fixture(scope="module")
def machine(project_copy: Path) -> Iterator[Machine]:
    with machine_of(project_copy, "supervisor") as machine:
        yield machine


@pytest.mark.parametrize("name", FAULTS)
def test_a_server_comes_back_by_itself(machine: Machine, name: str) -> None:
    act, site, most = FAULTS[name]
    measured = faults.measure(machine, act, site)
    print(f"{name}: {measured.tally}, healthy after {measured.seconds} s")
    assert measured.left == ""
    assert measured.seconds is not None
    assert measured.seconds <= most
    # Half of the requests must have been answered, or nothing was measured.
    assert measured.tally.failed < measured.tally.requests / 2


def test_a_release_on_a_full_disk_is_refused_and_the_old_one_serves(machine: Machine) -> None:
    with faults.small_disk(machine, "/srv/wsgi-ecs"):
        measured = faults.measure(machine, faults.full_disk_of_releases)
    assert measured.left == ""
    assert measured.tally.failed == 0, measured.tally


def test_uwsgi_removes_no_socket_that_another_process_has_taken(machine: Machine) -> None:
    """Two uWSGI listen at the same paths in turn, and the one that has lost them ends: both paths still answer."""
    state = "/srv/wsgi-ecs/sites/app/current/state.json"
    uwsgi = machine.run(f"""python3 -c 'import json; print(json.load(open("{state}"))["command"])'""")
    options = "--master --vacuum --socket /run/two/s --stats /run/two/stats --processes 1 --pidfile"
    machine.run(
        f"""
        mkdir /run/two
        {uwsgi} {options} /run/first.pid >/run/first.log 2>&1 &
        first=$!
        until [ -S /run/two/stats ]; do sleep 0.1; done
        {uwsgi} {options} /run/second.pid >/run/second.log 2>&1 &
        second=$!
        until grep -q 'spawned uWSGI worker' /run/second.log; do sleep 0.1; done
        kill -INT $first; wait $first || true
        for path in s stats; do
            python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' /run/two/$path
        done
        kill -INT $second; wait $second || true
        [ -z "$(ls /run/two)" ] || {{ echo "left: $(ls /run/two)"; exit 1; }}
        """
    )
