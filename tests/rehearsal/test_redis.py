"""Redis beside the application and on a server of its own: who reaches it, what survives, where its password is.

The tests of the stack run in this order.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.machine import listens
from tests.rehearsal.builders.stack import Stack, asked, lxd, new_stack, until

APP = """
import os

import flask
import redis

app = flask.Flask(__name__)
store = redis.Redis.from_url(os.environ["REDIS_URL"])


@app.get("/healthz")
def health():
    return {"pong": store.ping()}


@app.get("/fresh")
def fresh():
    # A connection of its own must give the password.
    return {"pong": redis.Redis.from_url(os.environ["REDIS_URL"]).ping()}


@app.get("/count")
def count():
    return str(store.incr("count"))


@app.get("/wrong")
def wrong():
    host, port = store.connection_pool.connection_kwargs["host"], store.connection_pool.connection_kwargs["port"]
    # redis-py retries a refused password for a random time that may be longer than a client waits.
    once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    answers = []
    for password in (None, "wrong"):
        try:
            redis.Redis(host=host, port=port, password=password, retry=once).ping()
        except redis.exceptions.RedisError as error:
            answers.append(type(error).__name__)
    return " ".join(answers)
"""
CONFIG = "/etc/wsgi-ecs/redis.conf"
DATA = "/var/lib/wsgi-ecs/redis"
PASSWORDS = ["first-password_0123", "second.password~456", "third-password-78900"]


class Counting:
    """A stack that is up, whose page counts in Redis."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.first = stack.up()
        self.address = self.first.output("address")
        self.counted = 0

    def get(self, path: str) -> str:
        answer = self.stack.get(self.address, path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def count(self) -> None:
        """Count one on, which shows that what was counted before is there."""
        self.counted += 1
        assert self.get("/count") == str(self.counted)

    def counts_on(self) -> None:
        """The same while Redis is away for a moment."""
        until(lambda: self.stack.get(self.address, "/healthz").status_code == 200, 60)
        self.count()

    def password(self) -> str:
        return self.stack.shell(f"sed -n 's/^requirepass //p' {CONFIG}")

    def pid(self) -> str:
        return self.stack.shell("systemctl show -p MainPID --value wsgi-ecs-redis")

    def on_redis(self, script: str) -> str:
        """Run a script on the server that Redis has alone."""
        done = self.stack.run("ssh", "--machine", "redis", "--", script)
        assert done.code == 0, done.text
        return done.out.strip()

    def fresh(self) -> httpx.Response:
        return self.stack.get(self.address, "/fresh")

    def is_accepted(self, password: str) -> bool:
        return self.on_redis(f"REDISCLI_AUTH={password} redis-cli ping 2>/dev/null | tail -n 1") == "PONG"

    def redis(self, **settings: Any) -> str:
        """Release with other settings of Redis. Returns what was printed."""
        self.stack.settings["redis"] = settings
        return self.stack.up().text


@pytest.fixture(scope="module")
def site(project_copy: Path) -> Iterator[Counting]:
    stack = new_stack(project_copy, "redis")
    folder = stack.folder / "counting"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "requirements.txt").write_text("Flask==3.1.2\nredis==6.4.0\n")
    stack.settings = {"app": {"source": "./counting"}, "redis": {}}
    try:
        yield Counting(stack)
    finally:
        stack.run("destroy")


def test_the_application_has_a_redis_that_wants_its_password(site: Counting) -> None:
    site.count()
    assert site.get("/wrong") == "AuthenticationError AuthenticationError"
    assert len(site.password()) == 48
    assert "redis: runs" in site.stack.run("status").out


def test_nobody_outside_reaches_it_and_no_other_redis_runs(site: Counting) -> None:
    assert not listens(site.address, 6379)
    assert site.stack.shell("ss -Hltn 'sport = :6379' | awk '{print $4}'") == "127.0.0.1:6379"
    assert site.stack.shell("systemctl is-enabled redis-server || true").startswith("masked")
    assert site.stack.shell("ps -o user= -C redis-server") == "redis"


def test_its_password_is_nowhere_but_in_two_files(site: Counting) -> None:
    password = site.password()
    assert site.stack.shell(f"stat -c '%U %G %a' {CONFIG}") == "root redis 640"
    assert password not in site.first.text
    assert password not in json.dumps(lxd(f"/1.0/projects/wsgi-ecs-{site.stack.name}"))
    assert password not in json.dumps(lxd(f"/1.0/instances?recursion=2&project=wsgi-ecs-{site.stack.name}"))
    # The command that looks for it has it on its own command line, and in no file.
    found = site.stack.shell(
        f"pw=$(sed -n 's/^requirepass //p' {CONFIG}); "
        'grep -rls "$pw" /etc /srv /var /run /root /tmp --exclude-dir=journal; '
        'journalctl -o cat | grep -cF "$pw" || true; tr "\\0" "\\n" </proc/$(pgrep -o redis-server)/cmdline'
    )
    files, _, rest = found.partition("\n0\n")
    assert set(files.splitlines()) == {CONFIG, "/etc/wsgi-ecs/app.env.json"}
    assert password not in rest


def test_nothing_is_done_when_nothing_has_changed(site: Counting) -> None:
    assert " unchanged" in site.stack.up().out
    site.count()


def test_it_comes_back_with_its_data_after_it_was_killed(site: Counting) -> None:
    site.count()
    # The append-only file is on the disk within a second.
    until(lambda: site.stack.shell("sleep 1.5; echo slept") == "slept")
    before = site.pid()
    for _ in range(4):
        site.stack.shell(f"kill -9 {site.pid()}; sleep 1.2")
    until(lambda: site.pid() not in ("0", before))
    site.counts_on()


@pytest.mark.parametrize("persistence", ["rdb", "aof", "rdb"])
def test_another_persistence_keeps_the_data_and_restarts_nothing(site: Counting, persistence: str) -> None:
    before = site.pid()
    site.redis(persistence=persistence, maxmemory="64M")
    assert site.pid() == before
    site.count()
    forms = {"rdb": "dump.rdb", "aof": "appendonlydir"}
    assert site.stack.shell("ls /var/lib/wsgi-ecs/redis") == forms[persistence]
    site.stack.shell("systemctl restart wsgi-ecs-redis")
    site.counts_on()


def test_another_port_restarts_it_with_its_data_and_a_release_follows(site: Counting) -> None:
    site.redis(port="6400", persistence="aof")
    site.count()
    assert not listens(site.address, 6400)
    assert ":6400/" in site.stack.shell("cat /etc/wsgi-ecs/app.env.json")


def test_a_configuration_with_which_it_does_not_start_is_rolled_back(site: Counting) -> None:
    site.stack.settings["redis"] = {"port": "6500", "persistence": "aof"}
    site.stack.shell("systemd-run -q --unit=taker python3 -m http.server --bind 127.0.0.1 6500")
    done = site.stack.run("up")
    assert done.code == 1
    assert "Redis does not start" in done.text
    assert "another redis.port" in done.text
    site.counts_on()
    site.stack.shell("systemctl stop taker")


def test_a_reboot_keeps_its_data(site: Counting) -> None:
    site.redis(port="6400", persistence="aof")
    boot: Any = site.stack.shell("cat /proc/sys/kernel/random/boot_id")
    site.stack.run("ssh", "--", "systemctl --no-block reboot")
    until(lambda: site.stack.shell("cat /proc/sys/kernel/random/boot_id") != boot, 120)
    site.counts_on()


def test_it_goes_to_a_server_of_its_own_and_no_request_fails(site: Counting) -> None:
    site.stack.settings["redis"] = {"own_server": True, "password": PASSWORDS[0]}
    foreseen = site.stack.run("preview").text
    assert f"-host: Redis goes when no site uses it; its data stay in {DATA}" in foreseen
    with asked(site.fresh) as statuses:
        done = site.stack.up()
    assert set(statuses) == {200}
    assert "Redis is removed; its data stay" in done.out
    assert site.stack.shell("systemctl is-active wsgi-ecs-redis || true") == "inactive"
    site.counted = 0
    site.count()
    assert not listens(done.output("redis"), 6379)
    assert site.on_redis("ss -Hltn 'sport = :6379' | awk '{print $4}'") == "0.0.0.0:6379"
    assert site.on_redis(f"stat -c '%U %G %a' {CONFIG}") == "root redis 640"
    assert PASSWORDS[0] not in done.text
    assert "redis: runs" in site.stack.run("status").out
    assert " unchanged" in site.stack.up().out


def test_a_new_password_comes_without_a_lost_request(site: Counting) -> None:
    pid = site.on_redis("systemctl show -p MainPID --value wsgi-ecs-redis")
    with asked(site.fresh) as statuses:
        site.redis(own_server=True, password=PASSWORDS[1])
    assert set(statuses) == {200}
    assert site.on_redis("systemctl show -p MainPID --value wsgi-ecs-redis") == pid, "no restart"
    assert [site.is_accepted(password) for password in PASSWORDS] == [False, True, False]
    site.count()
    assert "edited by hand" not in site.stack.run("status").out


def test_a_refused_release_keeps_the_password_that_it_has(site: Counting) -> None:
    site.stack.settings["redis"]["password"] = PASSWORDS[2]
    site.stack.edit("counting/app.py", 'return {"pong": store.ping()}', "return missing")
    assert site.stack.run("up").code == 1
    site.on_redis("systemctl restart wsgi-ecs-redis")
    until(lambda: site.fresh().status_code == 200)
    assert [site.is_accepted(password) for password in PASSWORDS] == [False, True, True]
    site.stack.edit("counting/app.py", "return missing", 'return {"pong": store.ping()}')
    site.stack.up()
    assert [site.is_accepted(password) for password in PASSWORDS] == [False, False, True]
    site.counts_on()


def test_a_new_server_of_its_own_begins_without_the_data_and_preview_says_so(site: Counting) -> None:
    site.stack.settings["network"] = {"cidr": "10.77.0.0/20"}
    foreseen = site.stack.run("preview").text
    assert re.search(r"-redis-instance takes the data of Redis with it \([0-9.]+ \w+ in [0-9]+ files\)", foreseen)
    del site.stack.settings["network"]


def test_it_comes_back_beside_the_application_with_what_stayed_there(site: Counting) -> None:
    assert site.stack.shell(f"ls {DATA}")
    foreseen = site.redis(persistence="aof")
    assert "-redis-instance takes the data of Redis with it" in foreseen
    until(lambda: site.fresh().status_code == 200)
    assert int(site.get("/count")) > 1


def test_without_it_in_the_settings_it_is_gone_and_its_data_stay(site: Counting) -> None:
    del site.stack.settings["redis"]
    site.stack.edit("counting/app.py", 'os.environ["REDIS_URL"]', '"redis://127.0.0.1:1"')
    site.stack.edit("counting/app.py", "store.ping()", "False")
    with asked(lambda: site.stack.get(site.address, "/healthz")) as statuses:
        assert "Redis is removed" in site.stack.up().text
    assert set(statuses) == {200}
    assert site.stack.shell("systemctl is-active wsgi-ecs-redis || true") == "inactive"
    assert "REDIS_URL" not in site.stack.shell("cat /etc/wsgi-ecs/app.env.json")
    assert site.stack.shell("ls /var/lib/wsgi-ecs/redis")
