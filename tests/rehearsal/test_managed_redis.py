"""Tair in place of Redis on a server of the stack's own: who reaches it, another password, and the way back.

The tests of the stack run in this order.
"""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kinds.managed import account
from kinds.managed_redis import USER
from tests.rehearsal.builders.database import CONNECT
from tests.rehearsal.builders.machine import listens
from tests.rehearsal.builders.stack import Stack, asked, entering, lxd, new_stack, until

APP = """
import os

import flask
import redis

app = flask.Flask(__name__)


def store():
    # A connection of its own must give the password.
    return redis.Redis.from_url(os.environ["REDIS_URL"])


@app.get("/healthz")
def health():
    return {"pong": store().ping()}


@app.get("/count")
def count():
    return str(store().incr("count"))
"""
PASSWORDS = ("First-password_0123", "Second-password_45")


class Counting(Stack):
    """A stack whose page counts in Tair."""

    @property
    def address(self) -> str:
        return str(self.known["address"])

    def page(self, path: str) -> httpx.Response:
        return self.get(self.address, path)

    def redis(self, **settings: object) -> None:
        self.settings["redis"] = {"managed": True, **settings}

    def tair(self, *command: str) -> str:
        """Run a command on the machine that stands for Tair."""
        paths = lxd(f"/1.0/instances?project={self.project}")
        (name,) = (path.partition("?")[0].rpartition("/")[2] for path in paths if "/r-" in path)
        line = [*entering(self.project, name), *command]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    def asked_redis(self, password: str, *words: str) -> str:
        return self.tair("env", f"REDISCLI_AUTH={password}", "redis-cli", *words).splitlines()[-1]

    def is_accepted(self, password: str) -> bool:
        """Whether Tair takes a password with the account that the application had or has with it."""
        return self.asked_redis(f"{account(USER, password)}:{password}", "PING") == "PONG"


@pytest.fixture(scope="module")
def site(project_copy: Path) -> Iterator[Counting]:
    made = new_stack(project_copy, "tair")
    stack = Counting(made.folder, made.name)
    folder = stack.folder / "counting"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "requirements.txt").write_text("Flask==3.1.2\nredis==6.4.0\n")
    stack.settings = {"app": {"source": "./counting"}}
    stack.redis(password=PASSWORDS[0])
    try:
        done = stack.up()
        stack.known = {name: done.output(name) for name in ("address", "redis")}
        yield stack
    finally:
        stack.run("destroy", "--force")


def test_the_application_counts_in_it_and_its_server_has_no_redis(site: Counting) -> None:
    assert [site.page("/count").text for _ in range(2)] == ["1", "2"]
    assert site.shell("ls /etc/wsgi-ecs/redis.conf 2>/dev/null || true") == ""
    assert " unchanged" in site.up().out


def test_only_the_network_reaches_it_and_only_with_the_password(site: Counting) -> None:
    tried = f"python3 -c {shlex.quote(CONNECT)} {site.known['redis']}"
    assert site.shell(f"{tried} 6379; {tried} 22").split() == ["open", "closed"]
    assert not listens(site.known["redis"], 6379)
    assert not site.is_accepted("wrong-Password_0")
    assert PASSWORDS[0] not in str(lxd(f"/1.0/projects/{site.project}"))


def test_another_password_is_another_account_and_no_request_is_lost(site: Counting) -> None:
    pid = site.tair("systemctl", "show", "-p", "MainPID", "--value", "tair")
    site.redis(password=PASSWORDS[1], maxmemory_policy="allkeys-lru")
    with asked(lambda: site.page("/healthz")) as statuses:
        site.up()
    assert len(statuses) > 20
    assert set(statuses) == {200}
    assert [site.is_accepted(password) for password in PASSWORDS] == [False, True]
    assert site.page("/count").text == "3"
    assert site.asked_redis(PASSWORDS[1], "CONFIG", "GET", "maxmemory-policy") == "allkeys-lru"
    assert site.tair("systemctl", "show", "-p", "MainPID", "--value", "tair") == pid, "no restart"


def test_its_accounts_survive_the_end_of_its_program(site: Counting) -> None:
    site.tair("systemctl", "restart", "tair")
    until(lambda: site.is_accepted(PASSWORDS[1]))
    assert [site.is_accepted(password) for password in PASSWORDS] == [False, True]
    assert site.page("/count").text == "4"


def test_the_way_to_redis_on_the_server_loses_no_request_and_ends_it(site: Counting) -> None:
    site.settings["redis"] = {}
    with asked(lambda: site.page("/healthz")) as statuses:
        site.up()
    assert set(statuses) == {200}
    assert site.page("/count").text == "1", "nothing is copied"
    assert not [path for path in lxd(f"/1.0/instances?project={site.project}") if "/r-" in path]
