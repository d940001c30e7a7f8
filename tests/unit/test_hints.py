"""What pip printed on a Debian 12 without the package or the login that each needs (tests/unit/pip/), and what the user
is told.
"""

from pathlib import Path

import pytest

from tests.unit.machine import module

hints = module("hints")
OUTPUTS = Path(__file__).parent / "pip"
NEEDED = {
    "psycopg2": "PostgreSQL's client library is missing on the server: add libpq-dev to server.packages, and run",
    "mysqlclient": "add default-libmysqlclient-dev, pkg-config to server.packages",
    "pycairo": "add libcairo2-dev, pkg-config to server.packages",
    "python-ldap": "add libldap-dev, libsasl2-dev to server.packages",
    "pyodbc": "a C++ compiler is missing on the server: add g++ to server.packages",
    "private-index": "no package index that the server asks has private-tool: fix its name, or add the index",
    "private-http": "127.0.0.1 wants a login, or refuses the one that it got: set its name and token in app",
    "private-password": "127.0.0.1 wants a login, or refuses the one that it got: set its name and token in app",
    "private-ssh": "the git server refuses the login by ssh: set app.pip.ssh_key to a deploy key of the repository",
    "git": "git is missing on the server: add git to server.packages",
}
# What other systems, compilers and versions print.
LINES = {
    "src/x.h:4:10: fatal error: xmlsec/xmlsec.h: No such file or directory": "add the debian12 package that has it",
    "Modules/x.h:15:10: fatal error: 'ffi.h' file not found": "add libffi-dev to",
    "Error: Please make sure the libxml2 and libxslt development packages are installed.": "libxml2-dev, libxslt1-dev",
    "The headers or library files could not be found for jpeg,": "libjpeg-dev, zlib1g-dev",
    "build/temp/_openssl.c:575:30: fatal error: openssl/opensslv.h: No such file or directory": "libssl-dev",
    "/usr/bin/ld: cannot find -lrados": "the library librados is missing on the server: add the debian12 package",
    "error: can't find Rust compiler": "add cargo to",
    "error: cannot run ssh: No such file or directory": "ssh is missing on the server: add openssh-client to",
    "git@git.example.com: Permission denied (publickey).": "set app.pip.ssh_key",
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @": "/var/lib/wsgi-build/known_hosts on the server",
    "ERROR: HTTP error 403 while getting https://files.example.com/a.whl": "files.example.com wants a login",
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. Examine them.\n"
    "    click==8.5.1 from https://files.example/click.whl (from -r pins.txt (line 1)):\n"
    "        Expected sha256 0000": "the package index has another file of click==8.5.1 than its hash says",
    "fatal: unable to access 'https://git.example.com/a/': The requested URL returned error: 403": "git.example.com",
}


@pytest.mark.parametrize("name", NEEDED)
def test_what_pip_printed_names_the_package(name: str) -> None:
    assert NEEDED[name] in hints.next_step((OUTPUTS / f"{name}.txt").read_text(), "debian12")


@pytest.mark.parametrize("line", LINES)
def test_a_line_names_the_package(line: str) -> None:
    assert LINES[line] in hints.next_step(f"before\n{line}\nafter\n", "debian12")


def test_an_rpm_system_has_other_names() -> None:
    assert "add postgresql-devel to" in hints.next_step((OUTPUTS / "psycopg2.txt").read_text(), "alinux3")


def test_another_failure_names_nothing() -> None:
    assert hints.next_step("ERROR: No matching distribution found for no-such-package\n", "debian12") == ""
