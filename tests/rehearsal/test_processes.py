"""Processes beside the site on real machines: under supervisor, and as units of systemd, as the emperor has them."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.stack import Stack, asked, new_stack, tried, until

# The process manager that runs the processes.
KINDS: dict[str, dict[str, Any]] = {"supervisor": {}, "emperor": {"serving": {"process_manager": "emperor"}}}
PROCESSES = {
    "worker": {"command": "python worker.py 'two words' 50%", "count": 2, "start_seconds": 2, "stop_seconds": 8},
    "other": {"command": ["python", "worker.py"], "start_seconds": 2},
    "off": {"command": "no-such-program", "count": 0},
}
WORKER = '''
"""Says what it is, and finishes what it has begun when it is stopped."""
import os, signal, sys, time

VERSION = "one"


def stop(number, frame):
    time.sleep(2)
    print("finished", VERSION)
    sys.exit()


signal.signal(signal.SIGTERM, stop)
print("started", VERSION, os.environ["KEY"], os.getcwd(), sys.prefix, sys.argv[1:])
while True:
    time.sleep(0.1)
'''

SCHEDULE = {"tick": {"command": "python tick.py", "at": "* * * * *", "catch_up": True}}
TICK = """
import os, time

print("began one", os.environ["KEY"], os.getcwd())
time.sleep(3)
print("ended one")
"""


class Served:
    """A stack that is up. kind: of KINDS."""

    def __init__(self, kind: str, stack: Stack) -> None:
        self.kind, self.stack = kind, stack
        self.address = stack.up().output("address")

    def get(self) -> httpx.Response:
        return self.stack.get(self.address, "/healthz")

    def pids(self, arguments: str = "worker.py") -> set[str]:
        """The process ids of workers with these arguments."""
        found = self.stack.shell(f"pgrep -f -- '^[^ ]*python {arguments}' || true")
        return set(found.split())

    def logs(self, name: str) -> str:
        """What the processes of the slot that serves have printed."""
        slot = self.stack.shell("basename $(readlink /srv/wsgi-ecs/sites/app/current)")
        return self.stack.shell(f"cat /var/log/wsgi-ecs/app/{slot}.{name}.*.log")


@pytest.fixture(scope="module", params=tried(KINDS, "supervisor"))
def served(request: pytest.FixtureRequest, project_copy: Any) -> Iterator[Served]:
    stack = new_stack(project_copy, f"proc-{request.param}")
    (stack.folder / "app/worker.py").write_text(WORKER)
    (stack.folder / "app/tick.py").write_text(TICK)
    of_site = {"app": {"env": {"KEY": "of the site"}}, "processes": PROCESSES, "schedule": SCHEDULE}
    stack.settings = {**KINDS[request.param], **of_site}
    try:
        yield Served(request.param, stack)
    finally:
        stack.run("destroy")


def test_as_many_run_as_are_wanted_with_what_the_site_has(served: Served) -> None:
    workers = served.pids("worker.py two words 50%")
    assert len(workers) == 2
    assert len(served.pids()) == 3
    users = served.stack.shell(f"ps -o user:20= -p {','.join(workers)}").split()
    assert set(users) == {"wsgi-app"}
    said = served.logs("worker")
    assert said.count("started one of the site /srv/wsgi-ecs/sites/app/releases/") == 2
    assert "/srv/wsgi-ecs/venvs/" in said
    assert "['two words', '50%']" in said
    status = served.stack.run("status").text
    for line in ("process worker 1: ", "process worker 2: ", "process other 1: "):
        (found,) = [text for text in status.splitlines() if line in text]
        assert "RUNNING" in found or "active (running)" in found
    assert "process off" not in status


def ticks(served: Served) -> list[str]:
    """What the command of the schedule has printed, a word for its beginning and its end."""
    lines = served.stack.shell("cat /var/log/wsgi-ecs/app/schedule.tick.log").splitlines()
    return [line.split()[0] for line in lines]


def test_a_command_runs_at_its_time_and_never_twice_at_once(served: Served) -> None:
    until(lambda: "ended" in ticks(served), 90)
    assert (
        "began one of the site /srv/wsgi-ecs/sites/app/releases/" in served.stack.run("logs", "--process", "tick").text
    )
    unit = "wsgi-app.tick.service"
    served.stack.shell(f"systemctl start --no-block {unit}; sleep 1; systemctl start --no-block {unit}; sleep 5")
    until(lambda: ticks(served)[-1] == "ended", 30)
    found = ticks(served)
    assert found == ["began", "ended"] * (len(found) // 2)
    assert "schedule tick: succeeded at " in served.stack.run("status").text
    assert served.stack.shell(f"systemctl show -p User {unit}") == "User=wsgi-app"


def test_a_killed_one_comes_back(served: Served) -> None:
    before = served.pids()
    served.stack.shell(f"kill -9 {min(before)}")
    until(lambda: len(served.pids()) == 3 and served.pids() != before)


def test_a_release_brings_new_ones_and_the_old_ones_finish(served: Served) -> None:
    before, slot = served.pids(), served.stack.shell("readlink /srv/wsgi-ecs/sites/app/current")
    served.stack.edit("app/worker.py", 'VERSION = "one"', 'VERSION = "two"')
    served.stack.edit("app/tick.py", "ended one", "ended two")
    with asked(served.get) as statuses:
        served.stack.up()
    assert set(statuses) == {200}
    assert len(served.pids()) == 3
    assert not served.pids() & before
    assert "started two" in served.logs("worker")
    old = served.stack.shell(f"cat /var/log/wsgi-ecs/app/{slot[-1]}.worker.*.log")
    assert old.count("finished one") >= 2
    served.stack.shell("systemctl start wsgi-app.tick.service")
    assert "ended two" in served.stack.shell("cat /var/log/wsgi-ecs/app/schedule.tick.log")
    assert served.stack.shell(f"ls /etc/supervisor/conf.d /etc/systemd/system | grep -- '-{slot[-1]}[.]' || true") == ""


def test_one_that_ends_at_once_refuses_the_release(served: Served) -> None:
    before = served.pids()
    served.stack.edit("app/worker.py", 'VERSION = "two"', "VERSION = missing")
    done = served.stack.run("up")
    served.stack.edit("app/worker.py", "VERSION = missing", 'VERSION = "two"')
    assert done.code == 1
    assert "release refused, the one before it still serves: process " in done.text
    assert "NameError: name 'missing' is not defined" in done.text
    assert ".command or what it needs" in done.text
    assert served.pids() == before
    assert served.get().status_code == 200


def test_a_changed_count_is_a_release_and_none_left_is_none(served: Served) -> None:
    settings = served.stack.settings
    served.stack.settings = {**settings, "processes": {"worker": {**PROCESSES["worker"], "count": 1}}}
    served.stack.up()
    assert len(served.pids()) == 1
    served.stack.settings = {key: value for key, value in settings.items() if key not in ("processes", "schedule")}
    served.stack.up()
    assert served.stack.shell("ls /etc/systemd/system | grep tick || true") == ""
    assert served.stack.shell("systemctl list-timers --all | grep tick || true") == ""
    assert served.pids() == set()
    served.stack.settings = settings
    # A line of a Procfile runs, too, as often as the settings say.
    (served.stack.folder / "app/Procfile").write_text("web: gunicorn app:app -w 9\nclock: python worker.py clock\n")
    served.stack.settings = {**settings, "processes": {**PROCESSES, "clock": {"count": 2, "start_seconds": 2}}}
    done = served.stack.up()
    assert "set serving.app_server: gunicorn, gunicorn.workers: 9" in done.text
    assert "Procfile: clock x 2 of it run as processes" in done.text
    assert len(served.pids("worker.py clock")) == 2
    served.stack.settings = settings
    (served.stack.folder / "app/Procfile").unlink()
    served.stack.up()
    assert len(served.pids()) == 3


def test_all_run_after_a_reboot(served: Served) -> None:
    before = served.stack.shell("cat /proc/sys/kernel/random/boot_id")
    served.stack.run("ssh", "--", "systemctl reboot")
    until(
        lambda: (
            served.stack.shell("cat /proc/sys/kernel/random/boot_id") != before
            and len(served.pids()) == 3
            and served.get().status_code == 200
            and "next at" in served.stack.run("status").text
        ),
        120,
    )
