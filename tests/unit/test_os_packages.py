"""Packages of the OS for the applications: where they are named, and how the release tool installs them."""

import base64
import gzip
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract import paths
from contract.documents import Host
from contract.resources import USER_DATA_LIMIT
from contract.service_documents import Packages
from kinds.systems import SYSTEMS
from serving import bootstrap, host_files, machines, packages
from settings.loader import parse
from tests.unit.machine import module

commands, tool = module("commands"), module("packages")
NAMES = ["git", "libpq-dev"]
# What the package managers print, in their own words.
UNKNOWN = {
    "apt-get": "Reading package lists...\nE: Unable to locate package libpq-devel\n",
    "apt-get of a virtual package": "E: Package 'libpq-devel' has no installation candidate\n",
    "yum": "Loaded plugins: fastestmirror\nNo package libpq-devel available.\nError: Nothing to do\n",
    "dnf": "No match for argument: libpq-devel\nError: Unable to find a match: libpq-devel\n",
}
PASSING = (
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 71 (apt-get)\n",
    "E: Failed to fetch http://mirrors.aliyun.com/x.deb  Could not connect to mirrors.aliyun.com:80\n",
    "Error: Failed to download metadata for repo 'wsgi-ecs-epel': Cannot download repomd.xml\n",
    "failure: repodata/repomd.xml from wsgi-ecs-os: [Errno 256] No more mirrors to try.\n",
)
# Where the package manager does not say which repository is at fault.
BOTH = "server.mirrors.packages, or server.mirrors.epel where EPEL has the package"


def host(config: dict[str, Any], role: str = "whole") -> Host:
    plans = [machine.plan for machine in machines(parse(config, "test"))]
    (found,) = {id(plan.host): plan.host for plan in plans if plan.role == role}.values()
    assert isinstance(found, Host)
    return found


class Manager:
    """Answers the tool's commands. prints: what each run of the package manager prints when it fails, in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *prints: str, installed: str = "") -> None:
        self.prints, self.installed = list(prints), installed
        monkeypatch.setattr(tool, "run", self.run)
        monkeypatch.setattr(tool.time, "sleep", lambda seconds: None)
        self.said: list[str] = []
        self.ran: list[tuple[str, ...]] = []
        self.there: set[str] = set()
        self.known = set(NAMES)

    def run(self, *command: str, **options: Any) -> str:
        if command[0] == "rpm":
            return self.installed if command[-1] not in self.there else command[-1]
        if command[0] == "dpkg-query":
            return self.installed + "".join(f"{name} ii \n" for name in command if name in self.there)
        if command[0] == "apt-cache":
            # As apt does: an unknown name is a regular expression.
            found = [known for known in self.known for name in command[2:] if re.search(name, known)]
            return "".join(f"Package: {name} \nVersions: \n" for name in found)
        self.ran.append(command)
        lines = self.prints.pop(0) if self.prints and command[0] == "timeout" else ""
        if lines:
            raise commands.ReleaseError("apt-get ended with 100", lines)
        if "install" in command:
            self.there |= self.known & set(command)
        return ""

    def install(self, manager: str = "apt-get", *options: str) -> None:
        tool.install(Packages("debian12", manager, list(options), NAMES), self.said.append)


def test_a_list_of_an_os_takes_the_place_of_the_list_of_all() -> None:
    config = {"server": {"os": "alinux3", "packages": NAMES, "packages_of": {"alinux3": ["postgresql-devel"]}}}
    found = host(config).packages
    assert found is not None
    assert (found.manager, found.names) == ("dnf", ["postgresql-devel"])
    config["server"]["os"] = "debian12"
    assert host(config).packages == Packages("debian12", "apt-get", [], NAMES)
    assert host({"server": {"os": "debian12"}}).packages is None


def test_logs_are_rotated_where_there_is_no_nginx_too() -> None:
    stack = parse({"topology": {"app_servers": 1}, "server": {"os": "debian12", "packages": "git"}}, "test")
    found = {machine.plan.role: machine.plan.host.packages for machine in machines(stack)}  # type: ignore[union-attr]
    assert found["front"] is None
    assert found["app"] == Packages("debian12", "apt-get", [], ["git", "logrotate"])
    alone = parse({"serving": {"front": "none"}, "uwsgi": {"http": "0.0.0.0:8080"}}, "test")
    (machine,) = machines(alone)
    assert machine.plan.host.packages.names == ["logrotate"]  # type: ignore[union-attr]


def test_packages_are_installed_where_the_application_runs() -> None:
    config = {"server": {"packages": "git"}, "topology": {"app_servers": 1}, "mysql": {"password": "x"}}
    stack = parse(config, "test")
    named = {
        machine.plan.role: (
            "git" in re.findall(r"\w+", bootstrap.user_data(machine.plan, stack)),
            "git" in host_files(machine.plan)["host.json"],
        )
        for machine in machines(stack)
    }
    assert named == {"front": (False, False), "app": (True, True), "service": (False, False)}


@pytest.mark.parametrize("system", list(SYSTEMS))
def test_a_new_package_replaces_no_server(system: str) -> None:
    before, after = (parse({"server": {"os": system, "packages": names}}, "test") for names in ([], NAMES))
    plans = [machines(stack)[0].plan for stack in (before, after)]
    assert bootstrap.version(plans[0], before) == bootstrap.version(plans[1], after)
    assert "git libpq-dev" in bootstrap.user_data(plans[1], after)
    assert "git" not in bootstrap.user_data(plans[0], before).split()


@pytest.mark.parametrize(
    "server", [{"os": "centos7"}, {"os": "alinux3"}, {"os": "alinux3", "mirrors": {"packages": ["http://m.example/a"]}}]
)
def test_a_release_uses_the_sources_of_the_bootstrap(server: dict[str, Any]) -> None:
    stack = parse({"server": {**server, "packages": NAMES}}, "test")
    found = packages.document(stack, stack.server.own_packages)
    script = bootstrap.script(machines(stack)[0].plan, stack)
    own = script[script.index(f"own_{found.manager}() {{") :].split("\n}\n")[0]
    words = own.replace("$(uname -m)", "$basearch").replace("'", "").replace('"', "")
    assert [word for word in words.split() if word.startswith(("--disable", "--enable", "--setopt"))] == found.options


def test_nothing_is_run_when_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(monkeypatch, installed="git ii \nlibpq-dev ii \n")
    manager.install()
    assert (manager.ran, manager.said) == ([], [])
    # Removed, with its configuration left.
    manager.installed, manager.there = "git ii \nlibpq-dev rc \n", set()
    manager.install()
    assert manager.ran[-1][-1] == "libpq-dev"
    assert "git" not in manager.ran[-1]
    assert manager.said[0] == "installing packages of the OS: libpq-dev"


def test_an_rpm_system_asks_for_the_machines_own_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(monkeypatch, installed="no package provides git\n")
    manager.install("dnf", "--setopt=a.baseurl=http://m.example/$basearch/")
    ((*_, option, verb, first, second),) = manager.ran
    assert (verb, first, second) == ("install", *NAMES)
    assert option == f"--setopt=a.baseurl=http://m.example/{tool.os.uname().machine}/"
    manager.ran.clear()
    manager.install("dnf")
    assert manager.ran == []


@pytest.mark.parametrize("lines", UNKNOWN.values(), ids=UNKNOWN)
def test_a_name_that_the_system_does_not_have_is_refused_at_once(lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(monkeypatch, lines)
    with pytest.raises(commands.ReleaseError, match="debian12 has no package libpq-devel") as error:
        manager.install()
    assert re.match("fix server.packages, or server.packages_of.debian12 ", error.value.then)
    assert len(manager.ran) == 1


def test_a_name_that_apt_reads_as_a_regular_expression_installs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(monkeypatch)
    manager.known = {"git", "libpq-dev", "libpq5"}
    monkeypatch.setattr("tests.unit.test_os_packages.NAMES", ["git", "libpq.dev"])
    with pytest.raises(commands.ReleaseError, match=r"debian12 has no package libpq\.dev$") as error:
        manager.install()
    assert error.value.then.startswith("fix server.packages, or ")
    assert not any("install" in command for command in manager.ran)


@pytest.mark.parametrize(("name", "ends"), [("libpq-dev", "git libpq-dev\n"), ("libpq.dev", "left\n")])
def test_the_bootstrap_leaves_such_a_name_to_the_release(name: str, ends: str, tmp_path: Path) -> None:
    stack = parse({"server": {"os": "debian12", "packages": ["git", name]}}, "test")
    script = bootstrap.script(machines(stack)[0].plan, stack)
    own = script[script.index("own_packages() {") :].split("|| say")[0] + "|| echo left"
    for program, line in {
        "apt-cache": 'printf "Package: git\\nPackage: libpq-dev\\n"',
        "apt-get": 'echo "${@: -2}"',
    }.items():
        (tmp_path / program).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / program).chmod(0o755)
    done = subprocess.run(
        ["bash", "-euc", "say() { :; }\n" + own],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    assert (done.stdout, done.stderr) == (ends, "")


@pytest.mark.parametrize("name", ["yum", "apt-get"])
def test_what_the_package_manager_passes_over_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """yum of CentOS 7 prints "No package … available" and ends with 0 when it has installed another one."""
    manager = Manager(monkeypatch, installed="no package provides libpq-dev\n" if name == "yum" else "")
    manager.known = {"git"}
    monkeypatch.setattr(tool, "_check_known", lambda *_: None)
    with pytest.raises(commands.ReleaseError, match=r"debian12 has no package libpq-dev$") as error:
        manager.install(name)
    assert error.value.then.startswith("fix server.packages, or ")


def test_a_name_that_another_package_provides_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(monkeypatch)
    provides = "ii git-core (= 1:2), git\nrc other-dev\nii libpq-dev (= 1)\nii \n"
    monkeypatch.setattr(tool, "run", lambda *command, **_: provides if "Provides" in command[3] else "")
    manager.install()
    assert manager.said == []
    provides = provides.replace("ii libpq-dev", "rc libpq-dev")
    assert tool.missing(Packages("debian12", "apt-get", [], NAMES)) == ["libpq-dev"]


def test_packages_are_never_removed_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(monkeypatch)
    manager.install()
    (command,) = (command for command in manager.ran if "install" in command)
    assert "--no-remove" in command


@pytest.mark.parametrize("lines", PASSING)
def test_what_passes_is_tried_again(lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(monkeypatch, lines, lines)
    manager.install()
    assert len(manager.ran) == 4
    monkeypatch.setattr(tool, "SECONDS", -1)
    manager.there.clear()
    manager.prints = [lines]
    with pytest.raises(commands.ReleaseError, match=r"cannot be installed|does not hand out its packages") as error:
        manager.install()
    assert lines.strip() in error.value.lines


def test_another_failure_is_refused_with_its_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(monkeypatch, "", "unpacking\n" * 30 + "dpkg: error processing package git (--configure)\n")
    with pytest.raises(commands.ReleaseError, match="cannot be installed") as error:
        manager.install()
    assert len(error.value.lines.splitlines()) == 12
    assert error.value.lines.endswith("dpkg: error processing package git (--configure)")


def test_a_run_that_was_killed_is_finished_first(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.\n"
    manager = Manager(monkeypatch, "", lines)
    manager.install()
    assert [command[:3] for command in manager.ran[2:3]] == [("dpkg", "--configure", "-a")]
    manager.prints = ["", lines, lines]
    manager.there.clear()
    with pytest.raises(commands.ReleaseError):
        manager.install()


def test_an_older_machines_document_names_no_packages() -> None:
    (plan, *_) = (machine.plan for machine in machines(parse({}, "test")))
    assert "packages" not in json.loads(host_files(plan)["host.json"])


@pytest.mark.parametrize(
    ("lines", "what", "setting"),
    [
        (
            "Error: Failed to download metadata for repo 'wsgi-ecs-os': Cannot download repomd.xml: "
            "Cannot download repodata/repomd.xml: All mirrors were tried\n",
            "the repository wsgi-ecs-os does not hand out its packages",
            "server.mirrors.packages",
        ),
        (
            "failure: repodata/repomd.xml from wsgi-ecs-epel: [Errno 256] No more mirrors to try.\n",
            "the repository wsgi-ecs-epel does not hand out its packages",
            "server.mirrors.epel",
        ),
        (
            'The GPG keys listed for the "wsgi-ecs-os" repository are already installed but they are not correct for '
            "this package.\nCheck that the correct key URLs are configured for this repository.. Failing package is: "
            "make-4.3\n GPG Keys are configured as: file:///etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7\nError: GPG check "
            "FAILED\n",
            "a package is not signed by the key of the repository wsgi-ecs-os",
            "server.mirrors.packages",
        ),
        (
            "Error: Failed to download metadata for repo 'epel': Cannot download repomd.xml\n",
            "the repository epel does not hand out its packages",
            "server.mirrors.packages",
        ),
        (
            "http://m.example/x.rpm: [Errno 14] HTTP Error 404 - Not Found\nTrying other mirror.\n\n\nError "
            "downloading packages:\n  1:make-3.82-24.el7.x86_64: [Errno 256] No more mirrors to try.\n",
            "a repository does not hand out a package that it lists",
            BOTH,
        ),
        (
            "[MIRROR] make-4.3.rpm: Status code: 404 for http://m.example/make-4.3.rpm\nError: Error "
            "downloading packages:\n  Cannot download make-4.3.rpm: All mirrors were tried\n",
            "a repository does not hand out a package that it lists",
            BOTH,
        ),
        (
            "Public key for make-4.3.rpm is not installed. Failing package is: make-4.3\n GPG Keys are configured as: "
            "file:///etc/pki/rpm-gpg/wsgi-ecs-EPEL-7\nError: GPG check FAILED\n",
            "a package is not signed by the key of its repository",
            BOTH,
        ),
        (
            " Failing package is: make-3.82\n GPG Keys are configured as: file:///etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7\n",
            "a package is not signed by the key of its repository",
            BOTH,
        ),
        (
            "\n\nPublic key for 1:make-3.82-24.el7.x86_64.rpm is not installed\n",
            "a package is not signed by the key of its repository",
            BOTH,
        ),
        (
            'GPG key retrieval failed: [Errno 14] curl#37 - "Couldn\'t open file /etc/pki/rpm-gpg/wsgi-ecs-EPEL-7"\n',
            "a package is not signed by the key of its repository",
            BOTH,
        ),
    ],
)
def test_a_repository_at_fault_is_named_with_its_setting(lines: str, what: str, setting: str) -> None:
    found = tool.refusal(Packages("centos7", "yum", [], NAMES), commands.ReleaseError("yum exited 1", lines))
    assert str(found) == what
    assert found.then == f"fix {setting}, and run up again"
    assert lines.splitlines()[-1] in found.lines


@pytest.mark.parametrize("count", [0, 60, 400])
def test_user_data_with_many_packages_are_packed_where_they_would_have_no_room(count: int) -> None:
    names = [f"package-{number}-devel" for number in range(count)]
    settings = parse(
        {"server": {"os": "centos7", "packages": names}, "serving": {"process_manager": "emperor"}}, "test"
    )
    (server,) = machines(settings)
    text = bootstrap.user_data(server.plan, settings)
    assert len(text.encode()) <= USER_DATA_LIMIT
    written = yaml.safe_load(text)["write_files"]
    packed = [file for file in written if "encoding" in file]
    assert [(file["path"], file["encoding"]) for file in packed] == [(paths.BOOTSTRAP_COMMAND, "gz+b64")][: count > 0]
    for file in packed:
        file["content"] = gzip.decompress(base64.b64decode(file["content"])).decode()
    assert [(file["path"], file["content"]) for file in written] == [
        (file.path, file.text) for file in bootstrap.files(server.plan, settings)
    ]
