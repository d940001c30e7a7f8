"""Flask on one machine and MySQL on another: what is acknowledged stays, and what was lost comes back from a dump.

The tests of the stack run in this order.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rehearsal.builders.database import Databased, of_guide
from tests.rehearsal.builders.stack import traces

DUMPS = "/srv/data/dumps"
# sed's words that make a row of a number.
INSERT = "\"s/.*/INSERT INTO people (name) VALUES (CONCAT('full & ', REPEAT('x', 80)));/\""
CA = "/etc/wsgi-ecs/mysql-ca.pem"
DENIED = "1045"
Answers = list[tuple[str, int]]


@pytest.fixture(scope="module")
def site(project_copy: Path) -> Iterator[Databased]:
    stack = of_guide(project_copy, "guide-mysql-flask")
    stack.secret("of the database")
    stack.settings["mysql"]["tls"] = "offered"
    try:
        stack.address = stack.up().output("address")
        yield stack
    finally:
        if traces(stack):
            stack.run("destroy", "--force")


def rows(site: Databased) -> list[str]:
    select = "SELECT name FROM app.people ORDER BY id"
    return site.on("db", "mysql", "--default-character-set=utf8mb4", "-NBe", select).splitlines()


def acknowledged(answers: Answers) -> set[str]:
    """The names that were added: each answer to one is a redirect."""
    return {name for name, status in answers if status == 302}


def answered(answers: Answers, status: int, times: int = 1) -> Callable[[], bool]:
    """Whether so many of the requests from now on have had this status."""
    seen = len(answers)
    return lambda: [found for _, found in answers[seen:]].count(status) >= times


def test_one_machine_with_nginx_and_flask_and_one_with_mysql(site: Databased) -> None:
    assert set(site.machines()) == {"", "db"}
    assert ">Ada</a>" in site.get(site.address).text
    assert site.add("Zoë").status_code == 302
    assert site.get(site.address, "/Zo%C3%AB").text.startswith("Zoë was added on ")
    assert site.get(site.address, "/nobody").status_code == 404
    sockets = site.on("", "sh", "-c", "stat -c '%a %F' /run/wsgi-ecs/app/*.sock")
    assert sockets == "666 socket"
    # In brackets, or pgrep would find the shell that it was started by.
    processes = site.on("", "sh", "-c", "pgrep -fc -- 'bin/[u]wsgi --ini'")
    assert processes == "2", "a master and a worker"


def test_nightly_dumps_are_kept_and_bring_back_what_was_lost(site: Databased) -> None:
    before = rows(site)
    when = site.on("db", "systemctl", "show", "-p", "ActiveState,NextElapseUSecRealtime", "wsgi-ecs-dump.timer")
    assert "ActiveState=active" in when
    assert " 03:30:00 UTC" in when
    # One too many, a part that a killed run has left, and a file of somebody's own.
    older = [f"app-2026010{day}T033000Z.sql.gz" for day in range(7, 0, -1)]
    touched = "; ".join(f"touch -d {name[4:12]} {name}" for name in older)
    site.on("db", "sh", "-ec", f"umask 077; mkdir {DUMPS}; cd {DUMPS}; touch own.sql.gz new; {touched}")
    site.on("db", "systemctl", "start", "wsgi-ecs-dump")
    machines = json.loads(site.run("status", "--json").out)["machines"]
    (found,) = (machine["database"] for machine in machines if machine["database"])
    made, *others = (dump["name"] for dump in found["dumps"])
    assert others == older[:6], "seven are kept"
    # It has not left the machine.
    assert (found["backup"], found["dump_failed"]) == (None, False)
    assert found["dumps"][0]["time"] == pytest.approx(time.time(), abs=120)
    modes = site.on("db", "sh", "-c", f"cd {DUMPS}; stat -c '%n %a %U' . *").splitlines()
    assert {line.split(" ", 1)[1] for line in modes if line != ". 700 root"} == {"600 root"}
    assert {line.split()[0] for line in modes} == {".", made, *others, "own.sql.gz"}
    assert f"nightly dump {made}: " in site.on("db", "sh", "-c", "wsgi-ecs-status || true")
    site.on("db", "mysql", "-e", "DELETE FROM app.people; INSERT INTO app.people (name) VALUES ('Mallory')")
    # Those that this test has made are empty.
    assert "no whole dump" in site.run("restore", "--nightly", others[0]).text
    assert "no nightly dump app-x.sql.gz; allowed: latest" in site.run("restore", "--nightly", "app-x.sql.gz").text
    assert rows(site) == ["Mallory"]
    done = site.run("restore", "--nightly", "latest")
    assert done.code == 0, done.text
    assert rows(site) == before
    copy = str(site.folder / "nightly.sql.gz")
    assert site.run("backup", "--nightly", made, copy).code == 0
    site.on("db", "mysql", "-e", "DELETE FROM app.people")
    assert site.run("restore", copy).code == 0
    assert rows(site) == before


def test_no_acknowledged_row_is_lost_when_mysql_is_killed(site: Databased) -> None:
    seconds = []
    with site.asked(write=True, clients=4) as answers:
        for _ in range(3):
            site.until(answered(answers, 302, times=30))
            site.on("db", "pkill", "-9", "-x", "mariadbd|mysqld")
            began = time.monotonic()
            site.until(answered(answers, 500))
            site.until(answered(answers, 302))
            seconds.append(f"{time.monotonic() - began:.1f} s")
    added = acknowledged(answers)
    print(f"{len(added)} rows acknowledged, {len(answers) - len(added)} refused, back after {', '.join(seconds)}")
    assert added - set(rows(site)) == set()


def test_a_full_disk_refuses_rows_and_loses_none(site: Databased) -> None:
    before = rows(site)
    with site.small_disk():
        kept = site.on("db", "ls", DUMPS)
        with site.asked(write=True, clients=2) as answers:
            site.until(answered(answers, 302, times=5))
            site.on("db", "sh", "-c", "dd if=/dev/zero of=/srv/data/filler bs=64k 2>/dev/null || true")
            # The pages that the table has already are full when the first of these is refused.
            site.on("db", "sh", "-c", f"seq 5000 | sed {INSERT} | mysql app 2>/dev/null && exit 1 || true")
            site.until(answered(answers, 500))
            assert site.get(site.address).status_code == 200, "rows are read meanwhile"
            assert "failed" in site.on("db", "sh", "-c", "systemctl start wsgi-ecs-dump 2>&1 || true")
            assert site.on("db", "ls", DUMPS) == kept
            said = site.on("db", "sh", "-c", "wsgi-ecs-status || true")
            assert "the last nightly dump failed (journalctl -u wsgi-ecs-dump)" in said
            site.on("db", "rm", "/srv/data/filler")
            began = time.monotonic()
            site.until(answered(answers, 302))
            seconds = time.monotonic() - began
        added = acknowledged(answers)
        print(f"{len(added)} rows acknowledged, {len(answers) - len(added)} refused, back after {seconds:.1f} s")
        assert added - set(rows(site)) == set()
        assert "is full" in site.on("db", "tail", "-n", "1000", "/var/log/mariadb/mariadb.log")
    assert rows(site) == before
    site.on("db", "systemctl", "start", "wsgi-ecs-dump")


def test_the_application_speaks_tls_and_then_must(site: Databased) -> None:
    accepted = "SHOW GLOBAL STATUS LIKE 'Ssl_accepts'"
    assert int(site.on("db", "mysql", "-NBe", accepted).split()[1]) > 0
    assert site.login("app", site.password) == "in", "an application that does not speak it yet"
    assert site.login("app", site.password, CA) == "in"
    started = site.on("db", "systemctl", "show", "-p", "MainPID", "mariadb")
    site.settings["mysql"]["tls"] = "required"
    with site.asked(write=True) as answers:
        site.up()
    assert {status for _, status in answers} == {302}
    assert site.on("db", "systemctl", "show", "-p", "MainPID", "mariadb") == started
    assert site.login("app", site.password) == DENIED
    assert site.login("app", site.password, CA) == "in"
    site.on("", "sh", "-c", f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=db -keyout /dev/null -out {CA}.other")
    assert site.login("app", site.password, f"{CA}.other") == "2003", "another server's certificate"


def test_nothing_is_left(site: Databased) -> None:
    assert site.run("destroy").code == 0
    assert traces(site) == set()
