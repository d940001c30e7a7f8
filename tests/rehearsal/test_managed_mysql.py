"""The guide's stack with RDS in place of MySQL's own machine: rows, another password, and a dump.

The tests of a stack run in this order.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinds.managed import account
from tests.rehearsal.builders.database import CONNECT, Databased, of_guide
from tests.rehearsal.builders.stack import entering, lxd

PASSWORDS = ("Hunter2-hunter2#", "Other-pass(2)=+")


@pytest.fixture(scope="module")
def site(project_copy: Path) -> Iterator[Databased]:
    """nginx and the application on two machines, and RDS."""
    stack = of_guide(project_copy, "guide-mysql")
    stack.settings["mysql"] = {"managed": True, "schema_files": stack.settings["mysql"]["schema_files"]}
    stack.secret(PASSWORDS[0])
    try:
        stack.address = stack.up().output("address")
        yield stack
    finally:
        stack.run("destroy", "--force")


def accounts(site: Databased) -> set[str]:
    """The accounts of RDS that the program has made."""
    paths = lxd(f"/1.0/instances?project={site.project}")
    (name,) = (path.partition("?")[0].rpartition("/")[2] for path in paths if "/rm-" in path)
    line = [*entering(site.project, name), "mariadb", "-NBe", "SELECT user FROM mysql.user WHERE host = '%'"]
    return set(subprocess.run(line, capture_output=True, text=True, check=True).stdout.split())


def test_a_page_reads_rows_and_writes_them(site: Databased) -> None:
    assert "db" not in site.machines()
    assert site.names() == ["Ada", "Grace"]
    assert site.add("Zoë 🦉").text.splitlines() == ["Ada", "Grace", "Zoë 🦉"]
    assert accounts(site) == {account("app", PASSWORDS[0], "app"), "wsgi_ecs_owner"}
    assert " unchanged" in site.up().out


def test_only_the_network_reaches_it(site: Databased) -> None:
    address = site.up().output("database")
    assert site.on("app-1", "python3", "-c", CONNECT, address, "3306") == "open"
    here = subprocess.run(["python3", "-c", CONNECT, address, "3306"], capture_output=True, text=True, check=True)
    assert here.stdout.strip() == "closed"
    assert site.on("app-1", "python3", "-c", CONNECT, address, "22") == "closed"


def test_another_password_is_another_account_and_no_request_is_lost(site: Databased) -> None:
    site.secret(PASSWORDS[1])
    with site.asked() as answers:
        site.up()
    assert len(answers) > 20
    assert {status for _, status in answers} == {200}
    assert accounts(site) == {account("app", PASSWORDS[1], "app"), "wsgi_ecs_owner"}
    assert site.names() == ["Ada", "Grace", "Zoë 🦉"]


def test_a_dump_brings_back_what_was_lost(site: Databased) -> None:
    dump = site.folder / "app.sql.gz"
    done = site.run("backup", str(dump))
    assert done.code == 0, done.text
    site.add("Mallory")
    assert site.names()[-1] == "Mallory"
    done = site.run("restore", str(dump))
    assert done.code == 0, done.text
    assert site.names() == ["Ada", "Grace", "Zoë 🦉"]
