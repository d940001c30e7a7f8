"""release.before and release.after on machines: a site under supervisor, and one on two app servers under systemd."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.rehearsal.builders.stack import Done, Stack, new_stack

APP = """\
import os
import sqlite3


def app(environ, start_response):
    database = sqlite3.connect("file:shop.sqlite3?mode=ro", uri=True)
    (rows,) = database.execute("select count(*) from item").fetchone()
    try:
        open("written", "w")
        mine = "writable"
    except OSError:
        mine = "read-only"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{VERSION} {rows} {mine}".encode()]


VERSION = "one"
"""
WITHOUT = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"here"]
"""
MANAGE = """\
import os
import pathlib
import sqlite3
import sys
import time

import flask

command = sys.argv[1]
with open("/var/tmp/ran", "a") as ran:
    print(command, file=ran)
if command == "migrate":
    database = sqlite3.connect("shop.sqlite3")
    database.execute("create table if not exists item (name text)")
    database.execute("insert into item values ('a')")
    database.commit()
    print("migrated with", os.environ["TOKEN"], "as", os.getuid(), "flask", flask.__name__, os.environ["APP_RELEASE"])
elif command == "collect":
    folder = pathlib.Path("collected/css")
    folder.mkdir(parents=True)
    (folder / "site.css").write_text("built")
elif command == "wait":
    time.sleep(600)
else:
    print("it is", command)
    sys.exit(3)
"""
TOKEN = "a-token-that-nobody-sees"
# Beside the application's own folder, where the site's user may write.
RAN = "cat /var/tmp/ran"
REACHES = (
    "python3 -c 'import socket; socket.create_connection((\"{}\", 6379), 3)' 2>/dev/null && echo open || echo closed"
)


def _stack(project_copy: Path, name: str) -> Stack:
    stack = new_stack(project_copy, name)
    folder = stack.folder / "shop"
    folder.mkdir()
    for file, text in {"shop.py": APP, "manage.py": MANAGE, "requirements.txt": "Flask==3.1.3\n"}.items():
        (folder / file).write_text(text)
    stack.settings = {
        "app": {"source": "./shop", "module": "shop", "env": {"TOKEN": TOKEN}},
        "nginx": {"static": {"/static/": "collected"}},
        "release": {"before": ["python manage.py migrate", ["python", "manage.py", "collect"]]},
    }
    return stack


@pytest.fixture(scope="module")
def stack(project_copy: Path) -> Iterator[Stack]:
    stack = _stack(project_copy, "commands")
    try:
        yield stack
    finally:
        stack.run("destroy")


def page(done: Done, path: str = "/") -> str:
    return httpx.get(f"http://{done.output('address')}{path}", trust_env=False, timeout=10).text


def test_they_run_before_the_release_and_nginx_serves_what_they_make(stack: Stack) -> None:
    done = stack.up()
    stack.known["up"] = done
    assert page(done) == "one 1 read-only"
    assert page(done, "/static/css/site.css") == "built"
    assert "release.before: python manage.py migrate" in done.out
    assert "| migrated with *** as " in done.out
    assert TOKEN not in done.text
    assert " as 0 " not in done.out
    assert stack.shell("wsgi-ecs-status").startswith(f"site app: release {done.output('release')} since ")
    assert stack.shell(RAN).split() == ["migrate", "collect"]


def test_neither_the_same_release_nor_a_new_secret_runs_them_again(stack: Stack) -> None:
    stack.settings["app"]["env"]["MORE"] = "another secret"
    done = stack.up()
    assert page(done) == "one 1 read-only"
    assert stack.shell(RAN).split() == ["migrate", "collect"]


def test_one_that_fails_or_takes_too_long_refuses_the_release(stack: Stack) -> None:
    good = stack.known["up"]
    stack.edit("shop/shop.py", 'VERSION = "one"', 'VERSION = "two"')
    stack.settings["release"]["before"] = ["python manage.py broken"]
    done = stack.run("up")
    assert done.code == 1
    assert "release refused, the one before it still serves: release.before: python manage.py broken ended with 3" in (
        done.text
    )
    assert "it is broken" in done.text
    assert page(good) == "one 1 read-only"
    stack.settings["release"] = {"before": ["python manage.py wait"], "before_seconds": 3}
    began = time.monotonic()
    done = stack.run("up")
    assert done.code == 1
    assert "took longer than 3 seconds" in done.text
    assert "raise release.before_seconds" in done.text
    assert time.monotonic() - began < 120
    assert stack.shell("pgrep -f 'manage.py[ ]wait' || echo none") == "none"
    assert page(good) == "one 1 read-only"


def test_one_that_fails_after_the_switch_is_a_warning_at_the_end(stack: Stack) -> None:
    stack.settings["release"] = {
        "before": ["python manage.py migrate", "python manage.py collect"],
        "after": ["python manage.py late"],
    }
    done = stack.up()
    assert page(done).startswith("two ")
    assert "warning: site app: release.after: python manage.py late ended with 3; the release serves" in done.out
    assert "late ended with 3" in done.output("warnings")


def test_two_app_servers_run_them_once(project_copy: Path) -> None:
    stack = _stack(project_copy, "commands-2")
    # What the commands make is on the first app server alone.
    (stack.folder / "shop/shop.py").write_text(WITHOUT)
    # A Procfile says the same as the settings.
    (stack.folder / "shop/Procfile").write_text("release: python manage.py migrate\n")
    stack.settings |= {
        "topology": {"app_servers": 2},
        # All application servers have the same Redis, on a server of its own.
        "redis": {"password": "a-password-of-redis"},
        "serving": {"process_manager": "systemd"},
        "release": {"before": ["python manage.py collect"], "after": ["python manage.py late"]},
    }
    try:
        refused = stack.run("preview")
        assert refused.code == 2
        assert "nginx.static./static/: collected would be made by release.before, which runs on app-1" in refused.text
        stack.settings["nginx"] = {"static": {}}
        del stack.settings["release"]["before"]
        done = stack.up()
        assert "Procfile: release runs before each release" in done.out
        made = "warning: site app: release.before made files that the other servers do not have (shop.sqlite3); make"
        assert made in done.out
        assert "app-1: site app: release.before made files" in done.output("warnings")
        assert page(done) == "here"
        assert done.out.count("| migrated with ***") == 1
        ran = [
            stack.run("ssh", "--machine", name, "--", f"{RAN} || echo none").out.split() for name in ("app-1", "app-2")
        ]
        assert ran == [["migrate", "late"], ["none"]]
        assert "app-1: site app: release.after" in done.out
        reaches = REACHES.format(done.output("redis"))
        found = {
            name: stack.run("ssh", "--machine", name, "--", reaches).out.strip() for name in ("front", "app-1", "app-2")
        }
        assert found == {"front": "closed", "app-1": "open", "app-2": "open"}
        environment = stack.run("ssh", "--machine", "app-2", "--", "cat /etc/wsgi-ecs/app.env.json").out
        assert "redis://:a-password-of-redis@redis:6379/0" in environment
        assert "a-password-of-redis" not in done.text
    finally:
        stack.run("destroy")
