"""Releases under load, for the table of docs/releases.md: every kind of release, app server and process manager.

make bench-release                                     all cases, some hours on two cores
make bench-release BENCH="--stacks systemd"            the cases of one stack; the other rows of the table stay

A case is a row: the site is released again and again under load until it has answered so many requests. The sites of
a stack are on one machine and are released and asked at the same time. A row of an earlier run is replaced.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.bench import tables
from tests.builders.stack import PROJECT
from tests.rehearsal.builders.faults import copy
from tests.rehearsal.builders.load import Load, Tally, loaded
from tests.rehearsal.builders.stack import Stack, entering, lxd, new_stack

PAGES = (PROJECT / "docs/releases.md", PROJECT / "docs/releases.zh-CN.md")
KINDS = ("code", "requirements", "server settings", "nginx settings", "secrets", "refused", "rollback")
# A package without requirements of its own, in versions that releases take in turn.
PACKAGE = ("six==1.16.0", "six==1.17.0")

UWSGI: dict[str, Any] = {}
GUNICORN: dict[str, Any] = {"serving": {"app_server": "gunicorn"}, "gunicorn": {"worker_class": "gthread"}}
GRANIAN: dict[str, Any] = {"serving": {"app_server": "granian"}}
SERVERS = {"uwsgi": UWSGI, "gunicorn": GUNICORN, "granian": GRANIAN}


@dataclass(frozen=True)
class Case:
    """The machines of some rows. servers: site → its settings. port: of the sites."""

    settings: dict[str, Any]
    servers: dict[str, dict[str, Any]]
    port: int = 80


STACKS: dict[str, Case] = {
    "supervisor": Case({}, SERVERS),
    "systemd": Case({"serving": {"process_manager": "systemd"}}, SERVERS),
    "emperor": Case({"serving": {"process_manager": "emperor"}}, {"uwsgi": UWSGI}),
    "two app servers": Case(
        {"topology": {"app_servers": 2}},
        # Each site needs a port of its own on the app servers, where the next port is the next release's.
        {**SERVERS, "granian": {**GRANIAN, "granian": {"bind": "0.0.0.0:8100"}}},
    ),
    "no nginx, uwsgi": Case({"serving": {"front": "none"}}, {"uwsgi": {"uwsgi": {"http": "0.0.0.0:8000"}}}, 8000),
    "no nginx, gunicorn": Case(
        {"serving": {"front": "none"}},
        {"gunicorn": {**GUNICORN, "gunicorn": {**GUNICORN["gunicorn"], "bind": "0.0.0.0:8000"}}},
        8000,
    ),
    "no nginx, granian": Case(
        {"serving": {"front": "none"}},
        {"granian": {**GRANIAN, "granian": {"bind": "0.0.0.0:8000"}}},
        8000,
    ),
}


@dataclass
class Measured:
    """A row of a site. live: seconds of rollbacks without load until the last answer of the release before."""

    tally: Tally
    releases: int
    live: list[float] = field(default_factory=list)


class Bench:
    """A stack that is up. number: counts the releases, each of which changes something to another value."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack, self.name, self.case = stack, name, STACKS[name]
        self.numbers = itertools.count(1)
        sites = {site: {**own, "site": {"server_name": f"{site}.test"}} for site, own in self.case.servers.items()}
        stack.settings = {**self.case.settings, "sites": sites}
        self.address = stack.up().output("address")

    def change(self, kind: str) -> None:
        """Change what the next release of all sites brings."""
        number = next(self.numbers)
        app, requirements = self.stack.folder / "app/app.py", self.stack.folder / "app/requirements.txt"
        if kind in ("code", "refused"):
            text = app.read_text().partition("\n# Release ")[0]
            broken = "import no_such_module\n" if kind == "refused" else ""
            app.write_text(f"{text}\n# Release {number}\n{broken}")
        elif kind == "requirements":
            lines = [line for line in requirements.read_text().splitlines() if not line.startswith("six==")]
            requirements.write_text("\n".join([*lines, PACKAGE[number % 2]]) + "\n")
        elif kind == "nginx settings":
            self.stack.settings = {**self.stack.settings, "nginx": {"client_body_timeout": 30 + number}}
        elif kind == "secrets":
            self.each({"app": {"env": {"SECRET": f"number-{number}"}}})
        else:
            self.each({}, number)

    def each(self, more: dict[str, Any], number: int = 0) -> None:
        """Change a setting of each site. number: of the app server's own settings."""
        sites = {}
        for site, own in self.stack.settings["sites"].items():
            server, least = {"uwsgi": ("harakiri", 100), "gunicorn": ("max_requests", 86400)}.get(
                site, ("workers_lifetime", 86400)
            )
            changed = {site: {**own.get(site, {}), server: least + number}} if number else {}
            sites[site] = {**own, **more, **changed}
        self.stack.settings = {**self.stack.settings, "sites": sites}

    def measure(self, kind: str, requests: int, rate: float) -> dict[str, Measured]:
        """Site → what became of its requests meanwhile."""
        loads = {
            site: Load(
                self.address,
                f"{site}.test",
                # Without nginx nobody serves the static files.
                ("/healthz", "/static/style.css") if self.case.port == 80 else ("/healthz",),
                port=self.case.port,
                rate=rate,
            )
            for site in self.case.servers
        }
        if kind == "rollback":
            self.change("code")
            self.stack.up()
        releases = 0
        with loaded(*loads.values()):
            while releases < 2 or any(load.tally.requests < requests for load in loads.values()):
                if kind == "rollback":
                    for site in self.case.servers:
                        self.roll_back(site)
                else:
                    self.change(kind)
                    done = self.stack.run("up", seconds=900)
                    assert (done.code == 0) == (kind != "refused"), done.text
                releases += 1
                time.sleep(2)
        if kind == "refused":
            self.change("code")
            self.stack.up()
        live: dict[str, list[float]] = {}
        # Several servers are rolled back one after the other, which takes as long as nginx needs to find new ports.
        if kind == "rollback" and "topology" not in self.case.settings:
            self.hurry()
            live = {site: [self.roll_back(site) for _ in range(5)] for site in loads}
        return {site: Measured(load.tally, releases, live.get(site, [])) for site, load in loads.items()}

    def roll_back(self, site: str) -> float:
        """Roll a site back to the release before. Returns the seconds until the last answer of the other release."""
        before = last = self.release(site)
        # The last moment in which the release that serves at the beginning has answered.
        started = answered = time.monotonic()
        command = ["nice", "-n", "-20", *self.rollback_command(site)]
        process = subprocess.Popen(command, cwd=self.stack.folder, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            time.sleep(0.05)
            last = self.release(site)
            if last == before:
                answered = time.monotonic()
        assert process.returncode == 0
        assert last != before
        assert self.release(site) != before
        return answered - started

    def hurry(self) -> None:
        """Put the stack's machines before whatever else runs on this host."""
        for process in Path("/proc").glob("[0-9]*"):
            # A process may have ended.
            with suppress(OSError):
                if f"/lxc.payload.wsgi-ecs-{self.stack.name}_" in (process / "cgroup").read_text():
                    os.setpriority(os.PRIO_PROCESS, int(process.name), -20)

    def rollback_command(self, site: str) -> list[str]:
        """The server's own command, or with several servers the one that runs it on each of them."""
        project = f"wsgi-ecs-{self.stack.name}"
        machines = [path.rpartition("/")[2].partition("?")[0] for path in lxd(f"/1.0/instances?project={project}")]
        if len(machines) > 1:
            return self.stack.command("rollback", "--site", site)
        return [*entering(project, machines[0]), "wsgi-ecs-release", "rollback", "--site", site]

    def release(self, site: str) -> str:
        """The release that answers."""
        url = f"http://{self.address}:{self.case.port}/healthz"
        return str(httpx.get(url, headers={"Host": f"{site}.test"}, trust_env=False, timeout=30).json()["release"])

    def kinds(self, chosen: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(kind for kind in chosen if kind != "nginx settings" or self.case.port == 80)


@contextmanager
def up(name: str) -> Iterator[Bench]:
    """A stack of a copy of this project, which is destroyed in the end."""
    with copy() as project:
        stack = new_stack(project, "bench")
        try:
            yield Bench(stack, name)
        finally:
            stack.run("destroy")


def row(name: str, site: str, kind: str, measured: Measured) -> list[str]:
    tally, live = measured.tally, measured.live
    return [
        name,
        site,
        kind,
        str(measured.releases),
        f"{tally.requests:,}",
        losses(tally),
        str(tally.empty),
        f"{tally.p95:.2f} s",
        f"{tally.slowest:.2f} s",
        f"{statistics.median(live):.2f} s, {max(live):.2f} s" if live else "",
    ]


def losses(tally: Tally) -> str:
    """How many requests failed, and why."""
    others = {status: count for status, count in sorted(tally.statuses.items()) if not 200 <= status < 300}
    lost = {**{str(status): count for status, count in others.items()}, **tally.lost}
    return str(tally.failed) + (f" ({', '.join(f'{count} {why}' for why, count in lost.items())})" if lost else "")


def write(rows: list[list[str]]) -> None:
    """Put rows into the tables of both pages."""
    order = [(name, site, kind) for name, case in STACKS.items() for site in case.servers for kind in KINDS]
    for page in PAGES:
        tables.put(page, rows, order)


def main() -> None:
    parser = argparse.ArgumentParser(description="Releases under load, for the table of docs/releases.md.")
    parser.add_argument("--stacks", nargs="*", default=list(STACKS), choices=list(STACKS))
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--requests", type=int, default=20000, help="requests of a case at least")
    parser.add_argument("--rate", type=float, default=150, help="requests a second to a site")
    options = parser.parse_args()
    for name in options.stacks:
        with up(name) as bench:
            for kind in bench.kinds(tuple(options.kinds)):
                measured = bench.measure(kind, options.requests, options.rate)
                rows = [row(name, site, kind, found) for site, found in measured.items()]
                for cells in rows:
                    print("|", " | ".join(cells), "|", flush=True)
                write(rows)


if __name__ == "__main__":
    main()
