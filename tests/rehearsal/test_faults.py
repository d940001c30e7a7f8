"""The most telling rows of docs/faults.md, on one machine: it comes back by itself, and nothing is left over or lost.

`make faults` measures all rows. test_comes_back.py has the single kills of each process manager.
"""

import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.rehearsal.builders import faults
from tests.rehearsal.builders.faults import Act, Machine, machine_of
from tests.rehearsal.builders.stack import until

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


def test_a_first_boot_that_is_cut_short_is_completed_by_the_next_up(project_copy: Path) -> None:
    """The power fails while packages are installed. cloud-init does nothing twice."""
    stack = faults.broken_stack(project_copy, "systemd", {})
    try:
        assert faults.cut_power_in_an_update(Machine(stack, "systemd"), "cloud-init, 5 s: ")
        done = stack.up()
        assert "the first boot did not come to its end" in done.text
        assert httpx.get(f"http://{done.output('address')}/healthz", headers={"Host": "app.test"}).status_code == 200
    finally:
        stack.run("destroy")


def test_uwsgi_removes_no_socket_that_another_process_has_taken(machine: Machine) -> None:
    """A second copy of the site's program, started by hand, takes its sockets; then the first one is stopped."""
    slot = machine.run("readlink -f /srv/wsgi-ecs/sites/app/current")
    config, program = f"{slot}/supervisor.conf", machine.program()
    sockets = machine.run(f"sed -n 's/^\\(socket\\|stats\\) = //p' {slot}/uwsgi.ini").split()
    assert len(sockets) == 2
    machine.run(
        f"""
        cd "$(sed -n 's/^directory=//p' {config})"
        sed -n 's/^command=//p' {config} >/run/second.sh
        setpriv --reuid wsgi-app --regid wsgi-app --init-groups sh -c 'umask 027; exec sh /run/second.sh' \
            >/run/second.log 2>&1 </dev/null &
        until grep -q 'spawned uWSGI worker' /run/second.log; do sleep 0.1; done
        sleep 2
        supervisorctl stop {program}
        """
    )
    try:
        for path in sockets:
            machine.run(f"python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{path}\")'")
        assert machine.answers()
    finally:
        machine.run(f"pkill -KILL -u wsgi-app; supervisorctl start {program}")
        until(machine.answers)
