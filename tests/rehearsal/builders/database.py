"""A stack with a database, and how a test asks it."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from tests.builders.encrypted import encrypt
from tests.rehearsal.builders.stack import Stack, entering, until

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
    pymysql.connect(host="db", user=sys.argv[1], password=sys.argv[2].encode(), database="app").close()
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

    def login(self, user: str, password: str) -> str:
        """`in`, or the number of MySQL's error, for an application with this password."""
        found = self.on("app-1", "sh", "-c", "ls -d /srv/wsgi-ecs/venvs/*/lib/*/site-packages/pymysql")
        return self.on("app-1", f"{found.split('/lib/')[0]}/bin/python", "-c", LOGIN, user, password)

    @contextmanager
    def asked(self, write: bool = False) -> Iterator[list[tuple[str, int]]]:
        """Names and statuses of requests that go on meanwhile, each reads rows; write: and adds its own."""
        answers: list[tuple[str, int]] = []
        ended = threading.Event()

        def ask() -> None:
            while not ended.is_set():
                name = f"asked {len(answers)}"
                try:
                    status = (self.add(name) if write else self.get(self.address)).status_code
                except httpx.HTTPError:
                    status = 0
                answers.append((name, status))
                time.sleep(0.02)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield answers
        finally:
            ended.set()
            thread.join()

    until = staticmethod(until)
