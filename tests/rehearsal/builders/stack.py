"""Stacks on real machines: a copy of the project, a stack of its own, the command as a user runs it."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from rehearsal.cloud import daemon, keeper
from rehearsal.cloud.pebble import Pebble
from rehearsal.commands.passphrase import FILE_VARIABLE, VARIABLE
from tests.builders.encrypted import ENCRYPTION_SALT

# The command of the LXD or Incus that has this host's rehearsals.
CLIENT = daemon.current().client
# How the rehearsal marks what cannot live in the stack's own project.
TAG = "user.wsgi-ecs.stack"


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def performed(self) -> str:
        """What a run printed after its preview."""
        return self.out.partition("Update\n")[2]

    def output(self, name: str) -> str:
        """One of the stack's outputs, as the command printed it."""
        found = re.search(rf"^\s*{name}\s*:?\s+(\S.*?)\s*$", self.out, re.MULTILINE)
        assert found, self.text
        return found.group(1)


@dataclass
class Stack:
    """A stack in a copy of the project. Its settings are written before each run.

    passphrase: of encrypted settings. `preview` and `up` are given it: nothing else may need it. salt: its own.
    known: what a test has found out for the tests after it, such as the stack's address.
    """

    folder: Path
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    passphrase: str | None = None
    salt: str = ENCRYPTION_SALT
    known: dict[str, Any] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "rehearsal", *arguments[:1], "--stack", self.name, *arguments[1:]]

    def run(self, *arguments: str, seconds: float = 900) -> Done:
        self.write()
        try:
            done = subprocess.run(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environment(arguments[0]),
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"not done in {seconds:.0f} s:\n{(error.stdout or b'').decode()}") from None
        print(f"$ ./rehearse {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return Done(done.returncode, done.stdout, done.stderr)

    def environment(self, command: str) -> dict[str, str]:
        given = {VARIABLE: self.passphrase} if self.passphrase is not None and command in ("preview", "up") else {}
        return {**{key: value for key, value in os.environ.items() if key not in (VARIABLE, FILE_VARIABLE)}, **given}

    def up(self) -> Done:
        done = self.run("up")
        assert done.code == 0, done.text
        return done

    def write(self) -> None:
        config = {f"wsgi-ecs:{key}": value for key, value in {"server": {"os": "debian12"}, **self.settings}.items()}
        path = self.folder / "stacks" / f"Pulumi.{self.name}.yaml"
        path.write_text(yaml.safe_dump({"encryptionsalt": self.salt, "config": config}))

    def shell(self, script: str) -> str:
        """Run a script as root on the machine with the public address: not through SSH, which takes a second more."""
        machines = self.machines()
        machine = machines[""] if "" in machines else machines["front"]
        command = [*entering(self.project, machine["id"]), "bash", "-c", script]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
        print(f"# {script}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def get(self, address: str, path: str = "/", port: int = 80) -> httpx.Response:
        return httpx.get(f"http://{address}:{port}{path}", trust_env=False, timeout=10)

    @property
    def project(self) -> str:
        """Its name in LXD."""
        return f"wsgi-ecs-{self.name}"

    def machines(self) -> dict[str, dict[str, Any]]:
        """front, app-1, db, or "" for a single server → what LXD has of it."""
        found = {}
        for key, value in lxd(f"/1.0/projects/{self.project}")["config"].items():
            if key.startswith("user.resource."):
                record = json.loads(value)
                if record["type"].endswith(":Instance") and record["status"] == "done":
                    name = record["name"].removeprefix(f"wsgi-ecs-{self.name}").removesuffix("instance").strip("-")
                    found[name] = record
        return found

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))


TRIES_ALL = os.environ.get("KINDS") == "all"
# For what takes minutes, and whose parts other tests show.
in_whole_runs = pytest.mark.skipif(not TRIES_ALL, reason="make test KINDS=all runs it")


def tried(kinds: Iterable[str], *few: str) -> list[str]:
    """Return the kinds that a module tries: a few of them, or all with `make test KINDS=all`.

    The modules name different process managers, so that each has its machines in every run.
    """
    return list(kinds) if TRIES_ALL else list(few)


def lxd(path: str) -> Any:
    """What LXD answers to a GET of its API."""
    done = subprocess.run([CLIENT, "query", path], capture_output=True, text=True, check=True, env=_environment())
    return json.loads(done.stdout)


def database_text() -> bytes:
    """The daemon's own database, as SQL."""
    sql = ["lxd", "sql"] if CLIENT == "lxc" else ["incus", "admin", "sql"]
    return subprocess.run([*sql, "global", ".dump"], capture_output=True, check=True).stdout


def entering(project: str, machine: str) -> list[str]:
    """What goes before a command so that it runs on a machine, not through SSH.

    From this host into the machine's namespaces: `lxc exec` now and then loses what a command prints.
    """
    pid = lxd(f"/1.0/instances/{machine}/state?project={project}")["pid"]
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return ["nsenter", f"--target={pid}", "--all", "env", "-i", path, "HOME=/root", "USER=root", "LANG=C.UTF-8"]


def _environment() -> dict[str, str]:
    return {**os.environ, "NO_PROXY": "*"}


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition, which may raise until then."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(Exception):
            if condition():
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


@contextlib.contextmanager
def asked(get: Callable[[], httpx.Response]) -> Iterator[list[int]]:
    """The statuses of requests that go on meanwhile, 0 for a request without an answer."""
    statuses: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                statuses.append(get().status_code)
            except httpx.HTTPError:
                statuses.append(0)
            time.sleep(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        thread.join()


def traces(stack: Stack) -> set[str]:
    """Every object in LXD that belongs to a stack: others may be at work on the same host."""
    project = stack.project
    found = {path for path in lxd("/1.0/projects") if path.endswith(f"/{project}")}
    if found:
        found |= set(lxd(f"/1.0/instances?project={project}"))
    for kind in ("networks", "network-acls"):
        owned = [o["name"] for o in lxd(f"/1.0/{kind}?recursion=1") if o["config"].get(TAG) == stack.name]
        found |= {f"/1.0/{kind}/{name}" for name in owned}
        if kind == "networks":
            found |= {path for name in owned for path in lxd(f"/1.0/networks/{name}/forwards")}
    volumes = lxd("/1.0/storage-pools/wsgi-ecs/volumes/custom?recursion=1")
    bridge = f"--interface=we{hashlib.sha256(stack.name.encode()).hexdigest()[:8]}-"
    serving = subprocess.run(["pgrep", "-af", "--", bridge], capture_output=True, text=True).stdout
    found |= {f"/processes/dnsmasq/{line.split()[0]}" for line in serving.splitlines()}
    owned = [volume["name"] for volume in volumes if volume["config"].get(TAG) == stack.name]
    found |= {f"/1.0/storage-pools/wsgi-ecs/volumes/custom/{name}" for name in owned}
    found |= {f"/processes/keeper/{pid}" for pid in keeper.running(stack.name)}
    authority = Pebble(stack.name).folder
    return found | ({str(authority)} if authority.exists() else set())


def new_stack(project_copy: Path, name: str) -> Stack:
    """A stack in a copy of its own, with a name that nobody else has. Whoever makes it destroys it."""
    token = secrets.token_hex(3)
    # Two modules may name their stacks alike.
    folder = project_copy.parent / f"{name}-{token}-project"
    shutil.copytree(project_copy, folder)
    return Stack(folder, f"{name[:12].rstrip('-')}-{token}")
