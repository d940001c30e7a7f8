"""What an application needs, on a real machine: a project in src/ with its lock file, and packages of the OS."""

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.encrypted import PASSPHRASE, encrypt
from tests.builders.forms import Marks, mark_of
from tests.rehearsal.builders import private
from tests.rehearsal.builders.machine import boot_id
from tests.rehearsal.builders.stack import Stack, database_text, lxd, new_stack

PROJECT = """
[project]
name = "little-shop"
version = "1.0"
dependencies = ["flask"]
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"
[tool.setuptools.packages.find]
where = ["src"]
"""
SHOP = """
import importlib.metadata

import flask

app = flask.Flask(__name__)


@app.get("/healthz")
def health():
    return {"flask": importlib.metadata.version("flask"), "file": __file__}
"""


@pytest.fixture(scope="module")
def shop(project_copy: Path) -> Iterator[Stack]:
    stack = new_stack(project_copy, "packages")
    source = stack.folder / "shop"
    (source / "src/little_shop").mkdir(parents=True)
    (source / "src/little_shop/__init__.py").write_text(SHOP)
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "Pipfile.lock").write_text(json.dumps({"default": {"flask": {"version": "==3.0.3"}}}))
    stack.settings = {
        "app": {"source": "shop", "module": "little_shop"},
        "serving": {"app_server": "gunicorn"},
    }
    try:
        first = stack.up()
        assert "uv 0.13.9 has installed the requirements" in first.text
        stack.known["address"] = first.output("address")
        yield stack
    finally:
        stack.run("destroy")


def served(stack: Stack) -> dict[str, str]:
    answer = stack.get(stack.known["address"], "/healthz")
    assert answer.status_code == 200
    return dict(answer.json())


def test_a_project_in_src_is_installed_with_what_its_lock_pins(shop: Stack) -> None:
    found = served(shop)
    assert found["flask"] == "3.0.3"
    assert "/site-packages/little_shop/" in found["file"]
    # A build writes beside its sources: neither the release nor the build user's home keeps anything of it.
    assert shop.shell("find /srv/wsgi-ecs/sites/app/releases -name '*.egg-info'") == ""
    assert shop.shell("ls -d /var/lib/wsgi-build/application-* || true") == ""


def test_an_installation_that_lacks_a_library_names_its_package(shop: Stack) -> None:
    # psycopg2 has no wheel for Linux.
    (shop.folder / "shop/requirements.txt").write_text(".\npsycopg2==2.9.9\n")
    done = shop.run("up")
    assert done.code == 1
    # What pip says of a failure is what counts.
    assert "pip installs the requirements: uv does not install them" in done.text
    assert "PostgreSQL's client library is missing on the server: add libpq-dev to server.packages" in done.text
    assert served(shop)["flask"] == "3.0.3"


def test_a_package_that_the_os_does_not_have_is_refused(shop: Stack) -> None:
    shop.settings["server"] = {"os": "debian12", "packages": ["libpq-devel"]}
    done = shop.run("up")
    assert done.code == 1
    assert "debian12 has no package libpq-devel" in done.text
    assert "fix server.packages, or server.packages_of.debian12" in done.text
    assert served(shop)["flask"] == "3.0.3"


def test_a_new_package_comes_with_the_next_release_and_replaces_no_server(shop: Stack) -> None:
    boot = boot_id(shop)
    shop.settings["server"] = {"os": "debian12", "packages": ["git", "libpq-dev"]}
    done = shop.up()
    assert "installing packages of the OS: git libpq-dev" in done.text
    assert boot_id(shop) == boot
    assert shop.shell("git --version; test -e /usr/bin/pg_config && echo found").splitlines()[1] == "found"
    assert "/site-packages/little_shop/" in served(shop)["file"]
    assert "installing packages" not in shop.up().text


INDEX = f"127.0.0.1:{private.PORT}/simple/"
NEEDS = (
    "private-tool",
    f"over-http @ git+http://127.0.0.1:{private.PORT}/over-http.git",
    "over-ssh @ git+ssh://git@127.0.0.1/home/git/over-ssh.git",
)


def require(stack: Stack, *lines: str) -> None:
    (stack.folder / "shop/requirements.txt").write_text("\n".join([".", *lines]))


def test_a_wrong_password_is_refused_with_the_setting(shop: Stack) -> None:
    shop.passphrase, shop.known["password"] = PASSPHRASE, secrets.token_hex(12)
    shop.known["key"] = private.serve(shop, shop.known["password"])
    wrong = secrets.token_hex(12)
    shop.settings["app"]["pip"] = {"netrc": {"secure": encrypt(f"machine 127.0.0.1 login ada password {wrong}")}}
    require(shop, NEEDS[1])
    done = shop.run("up")
    assert done.code == 1
    assert (
        "127.0.0.1 wants a login, or refuses the one that it got: set its name and token in app.pip.netrc" in done.text
    )
    assert wrong not in done.text
    assert "/site-packages/little_shop/" in served(shop)["file"]


def test_private_packages_are_installed_and_no_login_is_left_or_shown(shop: Stack) -> None:
    password, key = shop.known["password"], shop.known["key"]
    marks = Marks({"password": password, "key": mark_of(key.splitlines()[3])})
    shop.settings["app"]["pip"] = {
        "extra_index_url": {"secure": encrypt(f"http://ada:{password}@{INDEX}")},
        "ssh_key": {"secure": encrypt(key)},
    }
    require(shop, *NEEDS)
    with private.watched(marks) as seen:
        done = shop.run("up", "--diff")
    assert done.code == 0, done.text
    assert seen == set()
    assert marks.within(done.text) == set()
    python = f"/srv/wsgi-ecs/sites/app/releases/{done.output('release')}/venv/bin/python"
    assert shop.shell(f"{python} -c 'import over_http, over_ssh, private_tool; print(private_tool.ANSWER)'") == "42"
    project = f"wsgi-ecs-{shop.name}"
    (machine,) = lxd(f"/1.0/instances?recursion=1&project={project}")
    pid = lxd(f"/1.0/instances/{machine['name']}/state?project={project}")["pid"]
    places = [f"/proc/{pid}/root/{name}" for name in ("etc", "home", "root", "run", "srv", "tmp", "var")]
    command = ["grep", "-rlaFs", "-D", "skip", "-f", "/dev/stdin", *places, str(shop.folder)]
    found = subprocess.run(command, input=b"\n".join(marks.forms), capture_output=True).stdout.decode()
    assert found == ""
    dump = database_text()
    assert marks.within(dump) == set()
