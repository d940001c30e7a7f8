"""A stack with a database, and how a test asks it."""

import itertools
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from tests.builders.encrypted import PASSPHRASE, encrypt
from tests.rehearsal.builders.stack import Stack, entering, new_stack, until

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
    print("open")
except OSError:
    print("closed")
"""
# Python of a release's environment, on a machine of the application.
LOGIN = """
import pymysql, sys
try:
    tls = {"ca": sys.argv[3]} if sys.argv[3:] else None
    pymysql.connect(host="db", user=sys.argv[1], password=sys.argv[2].encode(), database="app", ssl=tls).close()
    print("in")
except pymysql.err.OperationalError as error:
    print(error.args[0])
"""


@dataclass
class Databased(Stack):
    """A stack of a guide, with a password of the test's own."""

    address: str = ""
    password: str = ""

    def secret(self, password: str) -> None:
        self.password = password
        self.settings["mysql"] = {**self.settings["mysql"], "password": {"secure": encrypt(password)}}

    def names(self) -> list[str]:
        return self.get(self.address).text.splitlines()

    def add(self, name: str) -> httpx.Response:
        return httpx.post(f"http://{self.address}/", data={"name": name}, trust_env=False, timeout=10)

    def on(self, machine: str, *command: str) -> str:
        """Run a command on a machine, not through SSH."""
        line = [*entering(self.project, self.machines()[machine]["id"]), *command]
        return subprocess.run(line, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout.strip()

    def login(self, user: str, password: str, *ca: str) -> str:
        """`in`, or the number of MySQL's error, for an application with this password. ca: file for TLS."""
        machine = "app-1" if "app-1" in self.machines() else ""
        found = self.on(machine, "sh", "-c", "ls -d /srv/wsgi-ecs/venvs/*/lib/*/site-packages/pymysql")
        return self.on(machine, f"{found.split('/lib/')[0]}/bin/python", "-c", LOGIN, user, password, *ca)

    @contextmanager
    def asked(self, write: bool = False, clients: int = 1) -> Iterator[list[tuple[str, int]]]:
        """Names and statuses of requests that go on meanwhile, each reads rows; write: and adds its own."""
        answers: list[tuple[str, int]] = []
        numbers, ended = itertools.count(), threading.Event()

        def ask() -> None:
            while not ended.is_set():
                # As long as a name may be, so that a full disk is found soon.
                name = f"asked {next(numbers)} {'x' * 80}"
                try:
                    status = (self.add(name) if write else self.get(self.address)).status_code
                except httpx.HTTPError:
                    status = 0
                answers.append((name, status))
                time.sleep(0.02)

        threads = [threading.Thread(target=ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    @contextmanager
    def small_disk(self) -> Iterator[None]:
        """Meanwhile the data disk is a copy with little room, which is thrown away in the end."""
        self.on(
            "db",
            "sh",
            "-ec",
            """
            systemctl stop mariadb
            mkdir /mnt/small
            # MySQL makes files for temporary tables when it starts.
            mount -t tmpfs -o size=$(($(du -sm /srv/data | cut -f1) + 24))m tmpfs /mnt/small
            cp -a --sparse=never /srv/data/. /mnt/small/
            chmod --reference=/srv/data /mnt/small
            mount --bind /mnt/small /srv/data
            systemctl start mariadb
            """,
        )
        try:
            yield
        finally:
            back = "systemctl stop mariadb; umount /srv/data /mnt/small; rmdir /mnt/small; systemctl start mariadb"
            self.on("db", "sh", "-ec", back)

    until = staticmethod(until)


def of_guide(project_copy: Path, guide: str) -> Databased:
    """A stack of a guide, which nobody has made yet."""
    made = new_stack(project_copy, guide)
    config = yaml.safe_load((made.folder / f"stacks/Pulumi.{guide}.yaml").read_text())["config"]
    settings = {key.removeprefix("wsgi-ecs:"): value for key, value in config.items() if key.startswith("wsgi-ecs:")}
    return Databased(made.folder, made.name, settings, PASSPHRASE)
