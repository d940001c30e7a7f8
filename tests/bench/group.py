"""A scaling group under load, for the table of docs/releases.md: releases, scaling, and members that fail.

make bench-group                                 all cases, about half an hour on two cores
make bench-group BENCH="--cases killed frozen"   some; the other rows of the table stay

A case is a row. A row of an earlier run is replaced.
"""

import argparse
import itertools
import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable

import httpx

from tests.bench import tables
from tests.bench.releases import PAGES, losses
from tests.builders.certificates import Authority
from tests.rehearsal.builders.faults import copy
from tests.rehearsal.builders.load import Load, Tally, loaded
from tests.rehearsal.builders.stack import CLIENT, Stack, entering, lxd, new_stack, until

WWW = "www.example.test"
MARK = "user.wsgi-ecs.scaling-group"
# Requests a second, and seconds of load before and after what happens.
RATE, AROUND = 50, 5
# Seconds until a member that is gone has a successor which has its release.
REPLACED = 300
HEADINGS = ("## A scaling group", "## 伸缩组")


class Group:
    """A stack with 2 to 5 members, RDS and shared data, whose page reads rows and writes them."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.numbers = stack, itertools.count(1)
        authority = Authority()
        pair = authority.sign(WWW)
        self.trust = ssl.create_default_context(cadata=authority.pem)
        flask = "samples/mysql-flask"
        stack.settings = {
            "topology": {"entrance": "alb", "scaling": {"min": 2, "max": 5, "warmup_seconds": 30}},
            "site": {"server_name": WWW},
            "tls": {"certificate": pair.certificate, "private_key": pair.private_key},
            "app": {"source": flask, "wsgi_file": "app.py"},
            "mysql": {"managed": True, "password": "Rehearse-2026", "schema_files": f"{flask}/schema.sql"},
            "data": {"shared": True},
        }
        self.up()
        outputs = json.loads(lxd(f"/1.0/projects/{stack.project}")["config"]["user.outputs"])
        self.address: str = outputs["addresses"][0]

    def up(self, code: int = 0) -> None:
        done = self.stack.run("up", seconds=1200)
        assert done.code == code, done.text

    def change(self, text: str = "") -> None:
        """Change what the next release brings."""
        app = self.stack.folder / "samples/mysql-flask/app.py"
        code = app.read_text().partition("\n# Release ")[0]
        app.write_text(f"{code}\n# Release {next(self.numbers)}\n{text}")

    def members(self) -> list[str]:
        found = lxd(f"/1.0/instances?recursion=1&project={self.stack.project}")
        return sorted(each["name"] for each in found if MARK in each["config"])

    def machine(self, mark: str) -> str:
        """Name in LXD of the machine that stands for something else."""
        found = lxd(f"/1.0/instances?recursion=1&project={self.stack.project}")
        (name,) = (each["name"] for each in found if mark in each["name"])
        return str(name)

    def release_host(self) -> str:
        return str(self.stack.machines()["release"]["id"])

    def lxc(self, *words: str) -> None:
        line = [CLIENT, *words, "--project", self.stack.project]
        subprocess.run(line, check=True, capture_output=True, timeout=180)

    def on(self, machine: str, script: str) -> str:
        line = [*entering(self.stack.project, machine), "sh", "-euc", script]
        return subprocess.run(line, check=True, capture_output=True, text=True, timeout=180).stdout.strip()

    def serving(self) -> int:
        """How many members the balancer asks, as the rehearsal's status says."""
        return len(re.findall(r"in the load balancer: UP", self.stack.run("status").out))

    def settled(self, members: int) -> None:
        until(lambda: self.serving() == members, REPLACED)

    def get(self) -> httpx.Response:
        with httpx.Client(verify=self.trust, trust_env=False, timeout=30) as client:
            return client.get(f"https://{self.address}/", headers={"Host": WWW}, extensions={"sni_hostname": WWW})


def release(group: Group) -> None:
    group.change()
    group.up()


def refused(group: Group) -> None:
    group.change("import no_such_module\n")
    group.up(1)


def back(group: Group) -> None:
    """What was refused never served, so this is the release before the last one."""
    done = group.stack.run("rollback")
    assert done.code == 0, done.text


def scale(group: Group) -> None:
    for count in (5, 2):
        done = group.stack.run("scale", str(count))
        assert done.code == 0, done.text


def replaced(act: Callable[[Group, str], None]) -> Callable[[Group], None]:
    """A case in which one member fails and another takes its place."""

    def run(group: Group) -> None:
        failed, *_ = group.members()
        act(group, failed)
        until(lambda: failed not in group.members(), REPLACED)
        group.settled(2)

    return run


def full(group: Group) -> None:
    """Fill the disk of one member's logs and temporary files for 20 s."""
    member, *_ = group.members()
    folders = "/var/log/wsgi-ecs/app /tmp"
    group.on(
        member, f"for f in {folders}; do mount -t tmpfs -o size=64k tmpfs $f; yes >$f/full || true; done 2>/dev/null"
    )
    time.sleep(20)
    group.on(member, f"umount -l {folders}")
    group.settled(2)


def without_release_host(group: Group) -> None:
    group.lxc("stop", "--force", group.release_host())
    failed, *_ = group.members()
    group.lxc("stop", "--force", failed)
    until(lambda: failed not in group.members(), REPLACED)
    group.settled(2)
    group.lxc("start", group.release_host())


def without_store(group: Group) -> None:
    """An empty folder in place of the store for a minute, on all members."""
    for member in group.members():
        group.on(member, "mount -t tmpfs tmpfs /srv/wsgi-ecs-store")
    time.sleep(60)
    for member in group.members():
        group.on(member, "umount -l /srv/wsgi-ecs-store")


def without_database(group: Group) -> None:
    database = group.machine("rm-")
    group.on(database, "systemctl stop mariadb")
    time.sleep(10)
    group.on(database, "systemctl start mariadb")
    until(lambda: group.get().status_code == 200, 60)


# Name → in English and in Chinese, and what happens.
CASES: dict[str, tuple[tuple[str, str], Callable[[Group], None]]] = {
    "release": (("a release", "发布"), release),
    "refused": (("a release that is refused", "被拒绝的发布"), refused),
    "rollback": (("a rollback", "回滚"), back),
    "scale": (("2 members, then 5, then 2", "从 2 台到 5 台，再到 2 台"), scale),
    "killed": (
        ("a member is gone at once", "一台成员突然消失"),
        replaced(lambda group, name: group.lxc("stop", "--force", name)),
    ),
    "frozen": (
        ("a member is frozen", "一台成员停止响应"),
        replaced(lambda group, name: group.lxc("pause", name)),
    ),
    "full": (("disks of a member are full for 20 s", "一台成员的磁盘满 20 秒"), full),
    "release-host": (
        ("the release host is gone, and then a member", "发布主机消失，随后一台成员消失"),
        without_release_host,
    ),
    "store": (("the store is empty for a minute", "存储清空一分钟"), without_store),
    "database": (("the database is stopped for 10 s", "数据库停止 10 秒"), without_database),
}


def measure(group: Group, name: str) -> tuple[Tally, float]:
    """What became of the requests, and how many seconds the case took."""
    _, act = CASES[name]
    load = Load(group.address, WWW, ("/",), port=443, connections=50, rate=RATE, trust=group.trust)
    with loaded(load):
        time.sleep(AROUND)
        began = time.monotonic()
        act(group)
        seconds = time.monotonic() - began
        time.sleep(AROUND)
    return load.tally, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="A scaling group under load, for the table of docs/releases.md.")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    with copy() as project:
        options = parser.parse_args()
        stack = new_stack(project, "group")
        try:
            group = Group(stack)
            for name in options.cases:
                tally, seconds = measure(group, name)
                counts = [f"{tally.requests:,}", losses(tally), f"{tally.p95:.2f} s", f"{tally.slowest:.2f} s"]
                cells = [*counts, f"{seconds:.0f} s"]
                print("|", " | ".join([CASES[name][0][0], *cells]), "|", flush=True)
                for language, page in enumerate(PAGES):
                    order = [(names[language],) for names, _ in CASES.values()]
                    tables.put(page, [[CASES[name][0][language], *cells]], order, HEADINGS[language])
        finally:
            stack.run("destroy", "--force")


if __name__ == "__main__":
    main()
