"""Where secrets are while a stack comes up and after they were rotated: each kind of them, on two machines.

Everything is looked at from the host, where all processes and files of the machines are to be seen.
"""

import hashlib
import os
import re
import secrets
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud import daemon, image
from rehearsal.cloud.keys import keys_of
from tests.builders.certificates import Authority
from tests.builders.encrypted import derived, encrypt, new_salt
from tests.builders.forms import AWKWARD, Marks, mark_of
from tests.rehearsal.builders.database import Databased
from tests.rehearsal.builders.stack import database_text, lxd, new_stack

DOMAIN = "shop.example.test"
DAEMON = daemon.current()
GENERATIONS = ("first", "rotated")
# MariaDB's own, with a log of what was in them before: hashes of passwords are there.
TABLES = "/srv/data/mysql"


@dataclass(frozen=True)
class Generation:
    """The secrets of one `up`. marks: name → what is searched for. settings: with all of them."""

    marks: dict[str, str]
    settings: dict[str, Any]

    @classmethod
    def new(cls, key: bytes) -> "Generation":
        names = ("typed", "sealed", "shop", "mysql", "ada", "bob", "netrc", "index")
        marks = {name: secrets.token_hex(12) for name in names}
        values = {name: mark + AWKWARD for name, mark in marks.items()}
        pair, deploy = Authority().sign(DOMAIN), Authority().sign(DOMAIN)
        hashes = {name: f"$6$saltsalt${marks[name]:a<86}" for name in ("ada", "bob")}

        def sealed(text: str) -> dict[str, str]:
            return {"secure": encrypt(text, key)}

        settings = {
            "mysql": {"password": sealed(values["mysql"])},
            "app": {
                "env": {"TYPED": values["typed"], "SEALED": sealed(values["sealed"])},
                "pip": {
                    "netrc": sealed(f"machine git.example.test login ada password {marks['netrc']}"),
                    "extra_index_url": [sealed(f"http://ada:{marks['index']}@127.0.0.1:9/simple/")],
                    "ssh_key": sealed(deploy.private_key),
                },
            },
            "nginx": {"auth_basic": "Staff", "auth_basic_users": {"ada": hashes["ada"]}},
            "sites": {
                "blog": {"site": {"server_name": "blog.example.test"}, "tls": {"acme": True}},
                "shop": {
                    "site": {"server_name": DOMAIN},
                    "app": {"env": {"OWN": sealed(values["shop"])}},
                    "nginx": {"auth_basic_users": {"bob": sealed(hashes["bob"])}},
                    "tls": {"certificate": pair.certificate, "private_key": sealed(pair.private_key)},
                },
            },
        }
        once = hashlib.sha1(values["mysql"].encode()).digest()  # noqa: S324
        # What MariaDB keeps of the password, and the line of the key that has most of its number.
        kept = {"mysql hash": hashlib.sha1(once).hexdigest().upper()}  # noqa: S324
        keys = {"key": mark_of(pair.secret_line), "deploy key": mark_of(deploy.secret_line)}
        return cls({**marks, **kept, **keys}, settings)


def expected(generation: str) -> dict[str, dict[str, tuple[str, set[str]]]]:
    """Machine → file → its mode and owner, and the secrets in it."""
    found = {
        "": {
            "/etc/wsgi-ecs/blog.env.json": ("640 root:wsgi-blog", {"typed", "sealed", "mysql"}),
            "/etc/wsgi-ecs/shop.env.json": ("640 root:wsgi-shop", {"typed", "sealed", "mysql", "shop"}),
            f"/etc/wsgi-ecs/tls/{DOMAIN}.key": ("600 root:root", {"key"}),
            "/srv/wsgi-ecs/sites/blog/releases/?/secrets.json": ("600 root:root", {"typed", "sealed", "ada"}),
            "/srv/wsgi-ecs/sites/shop/releases/?/secrets.json": (
                "600 root:root",
                {"typed", "sealed", "shop", "ada", "bob"},
            ),
            "/srv/wsgi-ecs/sites/blog/slots/?/htpasswd": ("640 root:wsgi-blog-web", {"ada"}),
            "/srv/wsgi-ecs/sites/shop/slots/?/htpasswd": ("640 root:wsgi-shop-web", {"ada", "bob"}),
        },
        "db": {"/srv/data/account.json": ("600 root:root", {"mysql hash"}), TABLES: ("700 mysql:root", set())},
    }
    return {
        machine: {path: (owner, {f"{generation} {name}" for name in names}) for path, (owner, names) in files.items()}
        for machine, files in found.items()
    }


def _processes() -> list[str]:
    with os.scandir("/proc") as found:
        return [entry.name for entry in found if entry.name.isdigit()]


def _names(file: Path) -> dict[int, str]:
    """Id → name, of passwd or group."""
    return {int(line.split(":")[2]): line.split(":")[0] for line in file.read_text().splitlines()}


@dataclass
class Guarded(Databased):
    """marks: all secrets. printed: by each command. arguments, holders: seen of processes, see watched.

    left: secrets in the environment of a process when a run had ended, of those that only the run itself needs.
    held: `up` → machine → file → its mode and owner, and the secrets in it. told: other places → secrets in them.
    """

    generations: dict[str, Generation] = field(default_factory=dict)
    marks: Marks = field(default_factory=lambda: Marks({}))
    printed: dict[str, str] = field(default_factory=dict)
    arguments: set[tuple[str, str]] = field(default_factory=set)
    holders: set[tuple[str, str]] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    held: dict[str, dict[str, dict[str, tuple[str, set[str]]]]] = field(default_factory=dict)
    told: dict[str, set[str]] = field(default_factory=dict)

    def environment(self, command: str) -> dict[str, str]:
        # The chart, too, is what the program registers.
        given = super().environment("preview" if command == "graph" else command)
        return {**given, "ALICLOUD_SECRET_KEY": self.cloud_key}

    @property
    def cloud_key(self) -> str:
        return f"cloud{self.name.rpartition('-')[2]}key"

    def say(self, *arguments: str) -> None:
        done = self.run(*arguments)
        assert done.code == 0, done.text
        self.printed[f"{len(self.printed)} {' '.join(arguments)}"] = done.text

    def roots(self) -> dict[str, Path]:
        """Machine → its whole file system, as its first process has it."""
        states = {
            name: lxd(f"/1.0/instances/{record['id']}/state?project={self.project}")
            for name, record in self.machines().items()
        }
        return {name: Path(f"/proc/{state['pid']}/root") for name, state in states.items()}

    def look(self, generation: str) -> None:
        """What the machines' files, their journals, and LXD hold now."""
        for pid in _processes():
            self.left |= self._environment(pid) & {"passphrase", "cloud key"}
        self.held[generation] = {name: self._held(root) for name, root in self.roots().items()}
        for name in self.machines():
            self.told[f"{generation} journal of {name}"] = self.marks.within(
                self.on(name, "journalctl", "-q", "-a", "-o", "json", "--no-pager")
            )
        # Its database as text, beside the files that it keeps it in.
        dump = database_text()
        assert self.name.encode() in dump
        self.told[f"{generation} LXD's database"] = self.marks.within(dump)
        machines = [f"{self.project}_{record['id']}" for record in self.machines().values()]
        large = ("storage-pools", "images", "shmounts", "devlxd", "guestapi")
        known = [path for path in DAEMON.folder.iterdir() if path.name not in large]
        outside = [
            *(DAEMON.folder / f"storage-pools/wsgi-ecs/containers/{name}/backup.yaml" for name in machines),
            *known,
        ]
        for path, names in self._searched([*outside, Path(DAEMON.logs), Path("/var/log/wsgi-ecs-rehearsal.log")]):
            self.told[f"{generation} {path}"] = names
        # But for the stack's file, which has in plain text what was typed as such.
        here = [
            *(path for path in self.folder.iterdir() if path.name != "stacks"),
            image.CACHE,
            Path("/run/wsgi-ecs-rehearsal"),
            Path("/var/tmp"),
        ]
        for path, names in self._searched(here):
            self.told[f"{generation} {path}"] = names

    def _held(self, root: Path) -> dict[str, tuple[str, set[str]]]:
        base = int((root.parent / "uid_map").read_text().split()[1])
        users, groups = (_names(root / "etc" / file) for file in ("passwd", "group"))
        found = {}
        # The rest of /usr is the packages', and what is left out below is this host's.
        top = [path for path in root.iterdir() if path.name not in ("proc", "sys", "usr")]
        for path, marks in self._searched([*top, root / "usr/local"]):
            inside = f"/{path.relative_to(root)}"
            if inside.startswith(f"{TABLES}/") and all(name.endswith(" mysql hash") for name in marks):
                inside, path, marks = TABLES, root / TABLES[1:], set()
            status = path.stat()
            owner = f"{users[status.st_uid - base]}:{groups[status.st_gid - base]}"
            either = re.sub(
                "/(slots/[ab]|releases/[0-9a-f]+)/", lambda found: f"/{found[1].partition('/')[0]}/?/", inside
            )
            # The slot that has ended has none any more.
            found[inside if either in found else either] = f"{status.st_mode & 0o7777:o} {owner}", marks
        return found

    def _searched(self, places: list[Path]) -> list[tuple[Path, set[str]]]:
        """Files below some places with secrets in them."""
        forms = b"\n".join(self.marks.forms)
        # Sockets and pipes are left out, and what ends meanwhile is no error.
        line = ["grep", "-rlaFZ", "-D", "skip", "-s", "--exclude-dir=rehearsal", "-f", "/dev/stdin", "--"]
        line += map(str, filter(Path.exists, places))
        found = subprocess.run(line, input=forms, capture_output=True, env={**os.environ, "LC_ALL": "C"}).stdout
        paths = [Path(os.fsdecode(name)) for name in found.split(b"\0") if name]
        return [(path, self.marks.within(path.read_bytes())) for path in paths if path.is_file()]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the arguments and the environment of every process of the host and of the machines meanwhile.

        arguments gets (secret, command line), holders (secret, who runs the process).
        """
        ended, seen = threading.Event(), dict[str, bytes]()

        def look() -> None:
            while not ended.wait(0.03):
                for pid in _processes():
                    with suppress(OSError):
                        self._look(pid, seen)

        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(look)
            try:
                yield
            finally:
                ended.set()
            looking.result()

    def _environment(self, pid: str) -> set[str]:
        try:
            return self.marks.within(Path("/proc", pid, "environ").read_bytes())
        except OSError:
            return set()

    def _look(self, pid: str, seen: dict[str, bytes]) -> None:
        folder = Path("/proc", pid)
        line = (folder / "cmdline").read_bytes()
        if not line or seen.get(pid) == line:
            return
        seen[pid] = line
        shown = line.replace(b"\0", b" ").decode(errors="replace")
        self.arguments |= {(name, shown) for name in self.marks.within(line)}
        names = self._environment(pid)
        if names:
            base = int((folder / "uid_map").read_text().split()[1])
            owner = _names(folder / "root/etc/passwd")[folder.stat().st_uid - base]
            self.holders |= {(name, owner if base else f"{owner} of the host") for name in names}


@pytest.fixture(scope="module")
def guarded(project_copy: Path) -> Iterator[Guarded]:
    """A stack that came up, whose secrets were all rotated, and that is gone again."""
    made, passphrase = new_stack(project_copy, "secrets"), secrets.token_hex(12)
    salt = new_salt(passphrase)
    stack = Guarded(made.folder, made.name, {}, passphrase, salt)
    key = derived(passphrase, salt)
    stack.generations = {name: Generation.new(key) for name in GENERATIONS}
    marks = {
        f"{generation} {name}": mark
        for generation, own in stack.generations.items()
        for name, mark in own.marks.items()
    }
    keys = keys_of(stack.folder, stack.name)
    keys.ensure()
    own = {"ssh key": mark_of(keys.private.read_text().splitlines()[4])}
    stack.marks = Marks({**marks, **own, "passphrase": passphrase, "cloud key": stack.cloud_key})
    try:
        for generation in GENERATIONS:
            stack.settings = stack.generations[generation].settings
            stack.say("preview")
            stack.say("graph")
            with stack.watched():
                stack.say("up", "--diff")
            stack.say("status")
            stack.say("logs")
            stack.look(generation)
        stack.printed["destroy"] = stack.run("destroy").text
        yield stack
    finally:
        stack.run("destroy", "--force")


def test_nothing_that_is_printed_shows_a_secret(guarded: Guarded) -> None:
    shown = {command: guarded.marks.within(text) for command, text in guarded.printed.items()}
    assert {command: names for command, names in shown.items() if names} == {}


def test_no_command_line_has_a_secret(guarded: Guarded) -> None:
    assert guarded.arguments == set()


def test_the_environment_of_the_application_alone_has_its_secrets(guarded: Guarded) -> None:
    own = {"wsgi-blog": {"typed", "sealed", "mysql"}, "wsgi-shop": {"typed", "sealed", "mysql", "shop"}}
    inside = {(f"{generation} {name}", user) for generation in GENERATIONS for user in own for name in own[user]}
    assert guarded.holders == inside | {("passphrase", "root of the host"), ("cloud key", "root of the host")}
    assert guarded.left == set(), "the test CA outlives the run, as LXD does"


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_files_that_hold_a_secret_on_the_machines(guarded: Guarded, generation: str) -> None:
    assert guarded.held[generation] == expected(generation)


def test_neither_lxd_nor_a_journal_nor_this_host_keeps_another_than_its_own_key(guarded: Guarded) -> None:
    key = keys_of(guarded.folder, guarded.name).private
    own = {f"{generation} {key}": {"ssh key"} for generation in GENERATIONS}
    assert {place: names for place, names in guarded.told.items() if names} == own
