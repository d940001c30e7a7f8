"""CentOS 7 on a real machine: its user data runs as it is, and its packages come by dnf from a signed repository."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.cloud import trust
from rehearsal.cloud.images.debian12 import DEBIAN12
from tests.rehearsal.builders.machine import ssh_faults, ways_in
from tests.rehearsal.builders.python_source import OWN, python_from_source
from tests.rehearsal.builders.stack import Stack, asked, new_stack

LOG = "/var/log/cloud-init-output.log"
KEY = "/etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7"
# The bootstrap's own functions, by which it installs packages.
FUNCTIONS = "sed '/^within_5_minutes epel_key$/,$d' /usr/local/sbin/wsgi-ecs-bootstrap >/tmp/functions.sh"


@pytest.fixture(scope="module")
def server(project_copy: Path) -> Iterator[Stack]:
    stack = new_stack(project_copy, "family")
    stack.settings = {"server": {"os": "centos7"}}
    try:
        # The first one builds the base image and its repository, too.
        done = stack.run("up", seconds=900)
        assert done.code == 0, done.text
        stack.known.update(address=done.output("address"), first=done.text)
        yield stack
    finally:
        stack.run("destroy")


def test_the_page_is_served_by_the_familys_services(server: Stack) -> None:
    assert server.get(server.known["address"]).status_code == 200
    assert server.shell("systemctl is-active nginx supervisord") == "active\nactive"
    assert server.shell("supervisorctl status").split()[:2] == ["app-b", "RUNNING"]
    assert server.shell("ps -o user= -C nginx | sort -u") == "nginx\nroot"
    assert server.shell("locale -a | grep -ci utf; locale -a | grep -c C.utf8 || true") == "1\n0"


def test_a_rehearsal_says_what_is_not_the_familys_own(server: Stack) -> None:
    assert "kernel, libc and programs are Debian 12's" in server.known["first"]


def test_packages_come_by_dnf_from_a_signed_repository_whose_first_urls_do_not_answer(server: Stack) -> None:
    first = "http://mirrors.cloud.aliyuncs.com"
    assert server.shell(f"curl -s -m 10 {first}/centos/7/os/x86_64/repodata/repomd.xml || echo none") == "none"
    assert server.shell(
        "rpm -qf /usr/bin/python3 /usr/sbin/nginx /usr/bin/supervisord /usr/bin/gcc --qf '%{NAME} '"
    ) == ("python3 nginx supervisor gcc")
    assert "(none)" not in server.shell("rpm -q nginx gcc --qf '%{RSAHEADER:pgpsig}\\n'")
    served = server.shell("journalctl -u rehearsal-mirror -o cat | grep -o 'GET /[^ ]*\\.rpm'")
    assert "GET /centos-vault/7.9.2009/os/x86_64/gcc-" in served
    assert "GET /epel-archive/7/x86_64/nginx-" in served
    # A step that is Debian's would not get far.
    assert server.shell("command -v apt-get dpkg || echo neither") == "neither"


def test_stock_files_written_at_the_first_boot_do_not_matter(server: Stack) -> None:
    assert "enabled=1" in server.shell("cat /etc/yum.repos.d/CentOS-Base.repo")
    assert "for repo 'os'" in server.shell("yum -q makecache --disablerepo='wsgi-ecs-*' 2>&1 || true")
    assert "trying again" not in server.shell(f"cat {LOG}")


def test_sshd_that_reads_no_folder_gets_lines_at_the_beginning_of_its_file(server: Stack) -> None:
    """CentOS 7's OpenSSH 7.4 knows no Include."""
    config = "/etc/ssh/sshd_config"
    server.shell(f"sed -i '/^Include/d' {config}; rm {config}.d/10-wsgi-ecs.conf")
    for generation in (1, 2):
        server.settings["release"] = {"generation": generation}
        server.up()
        assert server.shell(f"head -1 {config}; grep -c 'wsgi-ecs: first' {config}") == "# wsgi-ecs: first line\n1"
    assert ssh_faults(server.known["address"]) == set()
    assert ways_in(server.known["address"]) == "(publickey)."


def test_a_source_that_comes_late_is_tried_again(server: Stack) -> None:
    mirror = "rehearsal-mirror.socket rehearsal-mirror.service"
    said = server.shell(
        f"{FUNCTIONS}; . /tmp/functions.sh; systemctl stop {mirror}; "
        "(sleep 4; systemctl start rehearsal-mirror.socket) >/dev/null 2>&1 & "
        "within_5_minutes own_yum install make 2>&1"
    )
    assert "wsgi-ecs: trying again: own_yum install make" in said
    assert server.shell("rpm -q make").startswith("make-")


def test_a_package_that_only_the_real_repository_has_is_left_out(server: Stack) -> None:
    server.settings["server"]["packages"] = ["no-such-devel"]
    assert "no-such-devel: not in the rehearsal's repository, so not installed here" in server.up().text


def test_a_package_that_another_key_has_signed_is_refused(server: Stack) -> None:
    server.shell(
        f"cp {KEY} /tmp/right.key; rpm -e --allmatches gpg-pubkey; export GNUPGHOME=$(mktemp -d); "
        f"gpg -q --batch --passphrase '' --quick-gen-key other rsa2048 sign never; gpg --armor --export >{KEY}"
    )
    server.settings["server"]["packages"] = ["git"]
    done = server.run("up")
    assert done.code == 1
    assert "a package is not signed by the key of the repository" in done.text
    assert "fix server.mirrors.packages, and run up again" in done.text
    assert server.shell("rpm -q git || true") == "package git is not installed"
    assert server.get(server.known["address"]).status_code == 200
    server.shell(f"rpm -e --allmatches gpg-pubkey; mv /tmp/right.key {KEY}")
    server.up()
    assert server.shell("git --version").startswith("git version")


# Asks the release tool for a package, and does not wait for a source.
TOOL = """
import json, os, sys
os.chdir(json.load(open("/srv/wsgi-ecs/sites/app/current/state.json"))["facts"]["release_dir"] + "/tool")
sys.path.insert(0, ".")
import packages
from contract.service_documents import Packages
packages.SECONDS = 0
packages.install(Packages("centos7", "yum", ["--disablerepo=*", "--enablerepo=wsgi-ecs-*"], ["cmake"]), print)
"""


def test_a_package_that_the_repositories_do_not_have_is_refused(server: Stack) -> None:
    said = server.shell(f"python3 -B - <<'EOF' 2>&1 | tail -n 1\n{TOOL.replace('cmake', 'no-such-devel')}EOF")
    assert said.endswith("ReleaseError: centos7 has no package no-such-devel")


def test_a_repository_that_is_not_there_is_named(server: Stack) -> None:
    file = "/etc/yum.repos.d/wsgi-ecs.repo"
    said = server.shell(
        f"sed -i.old s/7.9.2009/nowhere/ {file}; python3 -B - <<'EOF' 2>&1 | tail -n 1; mv {file}.old {file}\n{TOOL}EOF"
    )
    assert said.endswith("ReleaseError: the repository wsgi-ecs-os does not hand out its packages")


@pytest.mark.skipif(
    not trust.packages(DEBIAN12.suite).sources, reason="only a Debian host has Debian's source packages"
)
def test_a_site_changes_to_a_python_that_is_built_there(server: Stack, tmp_path: Path) -> None:
    """The guide's way: the dependencies by yum, and then a Python of one's choice."""
    address = server.known["address"]
    server.settings["python"] = python_from_source(tmp_path)
    with asked(lambda: server.get(address, "/healthz")) as statuses:
        done = server.run("up", seconds=1800)
    assert done.code == 0, done.text
    assert set(statuses) == {200}
    assert f"python {OWN} is built" in done.text
    assert f"Python {OWN}" in server.get(address).text, server.get(address).text
    assert server.shell("rpm -q openssl11-devel").startswith("openssl11-devel-")
