"""The scripts of cloud-init, run in a folder that stands for a server's root.

What would change this machine, or ask a mirror, is a stand-in that writes down how it was called; the shell, the
texts, gpg and the files are real. A stand-in of the clock makes five minutes pass at once.
"""

import configparser
import hashlib
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from contract import paths
from kinds.systems import SYSTEMS, Apt, Rpm
from serving import bootstrap, machines
from settings.loader import parse
from templates import render

FILE = "stacks/Pulumi.test.yaml"
RPM = {name: system.packaging for name, system in SYSTEMS.items() if isinstance(system.packaging, Rpm)}
APT = {name: system.packaging for name, system in SYSTEMS.items() if isinstance(system.packaging, Apt)}
# What each takes for /bin/sh.
SHELLS = {name: ("bash", "--posix") if name in RPM else ("sh",) for name in SYSTEMS}
# What a mirror serves, by the command that asks it: here one that answers no more after a while is tried again.
ASKED = {
    **{name: (f"{rpm.command} makecache", f"{rpm.command} install", "curl", "pip") for name, rpm in RPM.items()},
    **dict.fromkeys(APT, ("apt-get update", "apt-get install", "pip")),
}
EACH_ASKED = pytest.mark.parametrize(("system", "what"), [(name, what) for name in SYSTEMS for what in ASKED[name]])

REAL = (
    *("awk", "bash", "cat", "chmod", "env", "find", "gpg", "grep", "ln", "mkdir", "mv", "rm", "sh", "tee"),
    *("timeout", "uname"),
)
RECORDED = (
    *("apt-get", "chgrp", "dnf", "groupadd", "nginx", "pip", "rpm", "sysctl", "systemctl", "systemd-tmpfiles"),
    *("useradd", "usermod", "yum"),
)
# Where a program is told apart from the rest by how it is called: what it does then.
OWN = {
    "curl": """
        while [ "$1" != -o ]; do shift; done
        cat "$KEYS/${3##*://}" >"$2" || exit 22
    """,
    "date": '[ "$1" = +%s ] && exec cat "$STATE/clock"; echo 2026-01-01T00:00:00Z',
    "id": "exit 1",
    "install": """
        skip=
        for word; do
            shift
            case $skip$word in x*) skip= ;; -o | -g) skip=x ;; *) set -- "$@" "$word" ;; esac
        done
        exec "$INSTALL" "$@"
    """,
    "getenforce": 'cat "$STATE/selinux"',
    "semodule": 'cat "$2" >"$STATE/module"',
    # The package index that answers, the site that answers, and a virtual environment with a pip.
    "python3": """
        case $1 in
        -c) grep -qxF "$3" "$STATE/indexes" ;;
        -m) mkdir -p "$3/bin" && ln -sf "$BIN/pip" "$3/bin/pip" ;;
        esac
    """,
    "runuser": 'shift 3; exec "$@"',
    "sleep": 'echo $(($(cat "$STATE/clock") + $1 * $(cat "$STATE/slow"))) >"$STATE/clock"',
}
# A package brings the folders of its configuration, and a service is to be kept from starting then.
INSTALLS = """
    case " $* " in *" install "*)
        [ ! -x "$ROOT/usr/sbin/policy-rc.d" ] || echo "policy-rc.d" >>"$STATE/calls"
        mkdir -p "$ROOT/etc/nginx" "$ROOT/etc/supervisor/conf.d" "$ROOT/etc/supervisord.d"
    esac
"""
STAND_IN = """#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$STATE/calls"
for fault in "$STATE/faults/$name"*; do
    [ ! -f "$fault" ] || . "$fault"
done
"""


def key(seed: int) -> tuple[bytes, str]:
    """Return an OpenPGP key, whose modulus follows from the seed, and its fingerprint: RFC 4880, 5.5.2 and 12.2."""
    number = b"\xff" + hashlib.shake_128(struct.pack(">Q", seed)).digest(255)
    body = b"\4\0\0\0\1\1" + struct.pack(">H", 2048) + number + b"\0\x11\1\0\1"
    packet = b"\x99" + struct.pack(">H", len(body)) + body
    return packet + b"\xb4\4EPEL", hashlib.sha1(packet).hexdigest().upper()  # noqa: S324


GOOD, FINGERPRINT = key(1)
OTHER, _ = key(2)
# A packet of the other tag.
SUBKEY = b"\xb9" + OTHER[1 : OTHER.index(b"\xb4\4EPEL")]


class Server:
    """A new server of an OS, in a folder. config: the stack's settings. number: which of the stack's machines."""

    def __init__(self, folder: Path, system: str, config: dict[str, Any] | None = None, number: int = 0) -> None:
        self.root, self.bin, self.state, self.keys = (folder / name for name in ("root", "bin", "state", "keys"))
        for path in (self.root, self.bin, self.state / "faults", self.keys):
            path.mkdir(parents=True)
        for name in ("etc/apt/sources.list.d", "etc/pki/rpm-gpg", "tmp", "usr/sbin"):
            (self.root / name).mkdir(parents=True)
        (self.root / "etc/apt/sources.list").write_text("deb http://image.example stable main\n")
        self.shell = SHELLS[system]
        settings = parse({"server": {"os": system, **(config or {}).pop("server", {})}, **(config or {})}, FILE)
        self.plan = machines(settings)[number].plan
        self.files = {file.path: file for file in bootstrap.files(self.plan, settings)}
        self.packages = " ".join(self.plan.packages)
        self._programs()
        for url in re.findall(r"\S+/RPM-GPG-KEY-EPEL-\d", self.script):
            self.serve(url, GOOD)

    @property
    def script(self) -> str:
        return self.files["/usr/local/sbin/wsgi-ecs-bootstrap"].text

    def _programs(self) -> None:
        for name in REAL:
            found = shutil.which(name)
            if found is None:
                pytest.skip(f"no {name} here: the package steps were not run")
            (self.bin / name).symlink_to(found)
        for name in (*RECORDED, *OWN):
            managers = INSTALLS if name in ("apt-get", "dnf", "yum") else ""
            (self.bin / name).write_text(STAND_IN + OWN.get(name, "") + managers)
            (self.bin / name).chmod(0o755)
        (self.bin / "python3.11").symlink_to("python3")
        (self.state / "clock").write_text("1000\n")
        (self.state / "slow").write_text("1\n")
        (self.state / "selinux").write_text("Disabled\n")
        (self.state / "indexes").write_text("https://mirrors.aliyun.com/pypi/simple/\n")

    def _here(self, text: str) -> str:
        text = re.sub(r"(?<![\w./:-])/(etc|run|srv|tmp|usr/local|usr/sbin|var)(?=/)", rf"{self.root}/\1", text)
        return text.replace("/usr/bin/", f"{self.bin}/")

    def serve(self, url: str, content: bytes | None) -> None:
        """Have a URL answer so, or not at all."""
        path = self.keys / url.partition("://")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    def fails(self, what: str, times: int | None = None) -> None:
        """Have a program, or one command of it, fail a number of times or for ever."""
        name, _, command = what.partition(" ")
        fault = self.state / "faults" / f"{name}.{command}"
        tries = fault.with_name(f"tries.{name}")
        again = f'[ "$(grep -c x {tries})" -gt {times} ] || ' if times else ""
        fault.write_text(f"case \" $* \" in *' {command}'*) echo x >>{tries}; {again}exit 1 ;; esac\n")
        # Of the tries of five minutes a tenth will do.
        (self.state / "slow").write_text("1\n" if times else "10\n")

    def boot(self) -> "subprocess.CompletedProcess[str]":
        """What cloud-init does: write the files and run the script."""
        for file in self.files.values():
            path = self.root / file.path[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._here(file.text))
        install = shutil.which("install")
        assert install
        paths = {"BIN": self.bin, "INSTALL": install, "KEYS": self.keys, "ROOT": self.root, "STATE": self.state}
        return subprocess.run(
            [*self.shell, str(self.root / "usr/local/sbin/wsgi-ecs-bootstrap")],
            env={"PATH": str(self.bin), "HOME": str(self.root / "tmp"), **{n: str(path) for n, path in paths.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )

    @property
    def calls(self) -> list[str]:
        """How the stand-ins were called, with a server's own paths."""
        text = (self.state / "calls").read_text()
        return text.replace(f"{self.bin}/", "/usr/bin/").replace(str(self.root), "").splitlines()

    def called(self, name: str) -> list[str]:
        return [call for call in self.calls if call.split()[0] == name]

    @property
    def seconds(self) -> int:
        return int((self.state / "clock").read_text()) - 1000

    @property
    def is_ready(self) -> bool:
        return (self.root / paths.MARKER[1:]).exists()


@pytest.fixture(autouse=True)
def key_of_epel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A key of these tests in place of EPEL's own."""
    for name, rpm in RPM.items():
        monkeypatch.setitem(SYSTEMS, name, replace(SYSTEMS[name], packaging=replace(rpm, epel_key=FINGERPRINT)))
    yield


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_server_is_made_in_this_order(system: str, tmp_path: Path) -> None:
    server = Server(tmp_path, system)
    done = server.boot()
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("wsgi-ecs: ready for its first release\n")
    assert server.is_ready
    assert server.seconds == 0
    programs = [name for name, _ in groupby(call.split()[0] for call in server.calls if not call.startswith("date"))]
    first = ["apt-get", "policy-rc.d"]
    if system in RPM:
        first = ["curl", "install", RPM[system].command, "systemctl", "getenforce"]
    python = SYSTEMS[system].python.rpartition("/")[2]
    assert programs == [
        *first,
        *("groupadd", "id", "useradd", "usermod", "id", "useradd", "usermod"),
        *("install", "chgrp", "systemd-tmpfiles", "sysctl", "install"),
        # The package index that answers, its name for pip, the virtual environment and what is installed there.
        *("python3", "runuser", python, *("runuser", "pip") * 3),
        *("install", "nginx", "systemctl", "python3"),
    ]
    service = SYSTEMS[system].supervisor_service
    assert [call for call in server.called("systemctl") if "firewalld" not in call] == [
        "systemctl daemon-reload",
        f"systemctl enable -q {service}",
        f"systemctl restart {service}",
        "systemctl enable -q nginx",
        "systemctl restart nginx",
    ]
    checked = "/var/lib/wsgi-build/pinned"
    assert [call.replace(" -q --disable-pip-version-check", "") for call in server.called("pip")] == [
        "pip install -r build-pins.txt",
        f"pip download --no-deps --no-build-isolation -d {checked} -r server-pins.txt",
        f"pip install --no-index --no-build-isolation -f {checked} uWSGI==2.0.31",
    ]
    assert f"{python} -m venv ." in server.calls


@pytest.mark.parametrize("system", RPM)
@pytest.mark.parametrize("mode", ["Enforcing", "Permissive", "Disabled"])
def test_selinux_logs_what_the_servers_do_where_it_enforces(system: str, mode: str, tmp_path: Path) -> None:
    server = Server(tmp_path, system)
    (server.state / "selinux").write_text(mode)
    assert server.boot().returncode == 0
    module = server.state / "module"
    found = re.findall(r"\(typepermissive (\w+)\)", module.read_text() if module.exists() else "")
    assert found == (["httpd_t", "mysqld_t", "redis_t"] if mode == "Enforcing" else [])


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("centos7", "--disablerepo=* --enablerepo=wsgi-ecs-*"),
        # The image's own repositories serve, and EPEL's.
        ("alinux3", "--enablerepo=wsgi-ecs-*"),
    ],
)
def test_yum_and_dnf_use_these_repositories(system: str, options: str, tmp_path: Path) -> None:
    server = Server(tmp_path, system)
    assert server.boot().returncode == 0
    rpm = RPM[system]
    common = f"{rpm.command} -y -q {options} --setopt=timeout=10 --setopt=retries=2"
    assert server.called(rpm.command) == [f"{common} makecache", f"{common} install {server.packages}"]
    repositories = configparser.ConfigParser()
    repositories.read(server.root / "etc/yum.repos.d/wsgi-ecs.repo")
    epel = repositories["wsgi-ecs-epel"]
    assert [url.rstrip("/") for url in epel["baseurl"].split()] == list(rpm.epel)
    assert (epel["gpgcheck"], epel["enabled"]) == ("1", "0")
    # yum and dnf say the name where a key is wrong, and the id where a file is not there.
    assert all(repositories[name]["name"] == name for name in repositories.sections())
    # The key that it names is the one that was held against the fingerprint.
    assert (server.root / epel["gpgkey"].removeprefix("file:///")).read_bytes() == GOOD
    assert {name for name in repositories.sections() if name != "wsgi-ecs-epel"} == {
        *(f"wsgi-ecs-{name}" for name in rpm.repositories if system == "centos7")
    }


def test_dnf_finds_the_images_repositories_at_the_users_mirrors(tmp_path: Path) -> None:
    mirrors = {"packages": ["http://one.example/alinux/3", "http://two.example/$basearch/"]}
    server = Server(tmp_path, "alinux3", {"server": {"mirrors": mirrors}})
    assert server.boot().returncode == 0
    arch = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    for call in server.called("dnf"):
        words = call.split()
        assert words[3:6] == ["--disablerepo=*", "--enablerepo=alinux3-*", "--enablerepo=wsgi-ecs-*"]
        assert words[6:11] == [
            f"--setopt=alinux3-{name}.baseurl=http://one.example/alinux/3/{name}/{arch}/,"
            f"http://two.example/{arch}/{name}/{arch}/"
            for name in ("os", "updates", "module", "plus", "powertools")
        ]


@pytest.mark.parametrize("system", APT)
def test_apt_uses_the_images_sources_or_the_users(system: str, tmp_path: Path) -> None:
    server = Server(tmp_path / "own", system)
    assert server.boot().returncode == 0
    assert server.called("apt-get")[-1].endswith(f" --no-install-recommends {server.packages}")
    # No service starts before its configuration is there, and then any may.
    assert "policy-rc.d" in server.calls
    assert not (server.root / "usr/sbin/policy-rc.d").exists()
    assert (server.root / "etc/apt/sources.list").exists()
    mirrors = ["http://one.example/x", "http://two.example/y/"]
    server = Server(tmp_path / "users", system, {"server": {"mirrors": {"packages": mirrors}}})
    assert server.boot().returncode == 0
    (only,) = (path for path in (server.root / "etc/apt").rglob("*") if path.is_file())
    suites, components = {
        "debian12": (("bookworm", "bookworm-updates"), "main"),
        "debian13": (("trixie", "trixie-updates"), "main"),
        "ubuntu2204": (("jammy", "jammy-updates", "jammy-security"), "main universe"),
    }[system]
    assert only.read_text() == "".join(f"deb {url} {suite} {components}\n" for url in mirrors for suite in suites)
    assert (server.root / "etc/wsgi-ecs/replaced/sources.list").exists()


@EACH_ASKED
def test_what_fails_at_first_is_tried_again(system: str, what: str, tmp_path: Path) -> None:
    server = Server(tmp_path, system)
    server.fails(what, times=3)
    done = server.boot()
    assert done.returncode == 0, done.stdout
    # curl asks each mirror before it waits.
    waits = 3 // len(RPM[system].epel) if what == "curl" else 3
    assert done.stdout.count("wsgi-ecs: trying again: ") == waits
    assert server.seconds == 5 * waits
    assert server.is_ready


@EACH_ASKED
def test_what_fails_for_five_minutes_is_named_and_nothing_follows(system: str, what: str, tmp_path: Path) -> None:
    server = Server(tmp_path, system)
    server.fails(what)
    done = server.boot()
    assert done.returncode == 1
    own = {"curl": "epel_key", "pip": "make_venv", "apt-get update": "timeout 240 apt-get update"}
    named = own.get(what, f"own_{what}" if system in RPM else what)
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"wsgi-ecs: FAILED for 5 minutes: {named}"), last
    assert server.seconds == 300
    assert not server.is_ready
    assert server.called("nginx" if what == "pip" else "groupadd") == []


@pytest.mark.parametrize("system", RPM)
def test_a_mirror_that_has_another_key_is_passed_over(system: str, tmp_path: Path) -> None:
    server = Server(tmp_path, system)
    first, *_ = urls(server)
    server.serve(first, OTHER)
    done = server.boot()
    assert done.returncode == 0, done.stdout
    assert f"wsgi-ecs: the key at {first} is not EPEL {RPM[system].epel_release}'s\n" in done.stdout
    assert server.seconds == 0
    installed = server.root / f"etc/pki/rpm-gpg/wsgi-ecs-EPEL-{RPM[system].epel_release}"
    assert installed.read_bytes() == GOOD


@pytest.mark.parametrize("content", [OTHER, GOOD + OTHER, OTHER + GOOD, GOOD + SUBKEY, b"<html>404</html>", b""])
@pytest.mark.parametrize("system", RPM)
def test_any_other_key_is_refused(system: str, content: bytes, tmp_path: Path) -> None:
    server = Server(tmp_path, system)
    for url in urls(server):
        server.serve(url, content)
    (server.state / "slow").write_text("10\n")
    done = server.boot()
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "wsgi-ecs: FAILED for 5 minutes: epel_key"
    assert list((server.root / "etc/pki/rpm-gpg").iterdir()) == []
    assert server.called(RPM[system].command) == []


def urls(server: Server) -> list[str]:
    """Where the script looks for EPEL's key."""
    return re.findall(r"http\S+/RPM-GPG-KEY-EPEL-\d", server.script)


@pytest.mark.parametrize("system", SYSTEMS)
def test_pip_gets_the_first_index_that_answers(system: str, tmp_path: Path) -> None:
    server = Server(tmp_path, system)
    assert server.boot().returncode == 0
    config = server.root / "var/lib/wsgi-build/.config/pip/pip.conf"
    assert config.read_text() == "[global]\nindex-url = https://mirrors.aliyun.com/pypi/simple/\n"
    indexes = ["http://one.example:8080/simple/", "https://two.example/simple/"]
    server = Server(tmp_path / "users", system, {"server": {"mirrors": {"index": indexes}}})
    (server.state / "indexes").write_text("".join(f"{url}\n" for url in indexes))
    assert server.boot().returncode == 0
    config = server.root / "var/lib/wsgi-build/.config/pip/pip.conf"
    assert config.read_text() == f"[global]\nindex-url = {indexes[0]}\ntrusted-host = one.example\n"


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_database_machine_installs_mysql_and_does_not_start_it(system: str, tmp_path: Path) -> None:
    server = Server(tmp_path, system, {"mysql": {"password": "x"}}, number=1)
    done = server.boot()
    assert done.returncode == 0, done.stdout
    assert "mariadb-server" in server.packages
    assert server.called("systemctl")[-1] == "systemctl disable --now -q mariadb"
    assert not any("restart" in call or "start" in call.split() for call in server.called("systemctl"))
    assert done.stdout.endswith("wsgi-ecs: ready for its database\n")
    assert server.is_ready


READY = {
    "a repository that is not there": (
        "Error: Failed to download metadata for repo 'wsgi-ecs-os': Cannot download repomd.xml: Cannot download "
        "repodata/repomd.xml: All mirrors were tried\nwsgi-ecs: FAILED for 5 minutes: own_yum makecache\n",
        "the repository wsgi-ecs-os does not hand out its packages with its signature: fix server.mirrors.packages,",
    ),
    "EPEL in the words of CentOS 7": (
        "failure: repodata/repomd.xml from wsgi-ecs-epel: [Errno 256] No more mirrors to try.\n"
        "wsgi-ecs: FAILED for 5 minutes: own_yum makecache\n",
        "the repository wsgi-ecs-epel does not hand out its packages with its signature: fix server.mirrors.epel,",
    ),
    "another key": (
        'The GPG keys listed for the "wsgi-ecs-os" repository are already installed but they are not correct for this '
        "package.\nError: GPG check FAILED\nwsgi-ecs: FAILED for 5 minutes: own_yum install python3 nginx\n",
        "the repository wsgi-ecs-os does not hand out its packages with its signature: fix server.mirrors.packages,",
    ),
    "a key that is not EPEL's": (
        "wsgi-ecs: the key at https://a/RPM-GPG-KEY-EPEL-7 is not EPEL 7's\nwsgi-ecs: FAILED for 5 minutes: epel_key\n",
        "the repository wsgi-ecs-epel does not hand out its packages with its signature: fix server.mirrors.epel,",
    ),
    "an EPEL of the image's own": (
        "Error: Failed to download metadata for repo 'epel': x\nwsgi-ecs: FAILED for 5 minutes: own_dnf makecache\n",
        "the repository epel does not hand out its packages with its signature: fix server.mirrors.packages,",
    ),
    "a repository that answered later": (
        "Error: Failed to download metadata for repo 'wsgi-ecs-os': x\nwsgi-ecs: FAILED for 5 minutes: make_venv\n",
        "mend what they say (a package source that does not answer: server.mirrors),",
    ),
}


@pytest.mark.parametrize("case", READY)
def test_a_bootstrap_that_failed_by_a_repository_ends_with_its_name_and_setting(case: str, tmp_path: Path) -> None:
    log, expected = READY[case]
    (tmp_path / "result.json").write_text('{"v1": {"errors": ["x"]}}')
    (tmp_path / "output.log").write_text(log)
    text = render("templates/release/ready.sh.j2", paths=paths)
    text = text.replace("/run/cloud-init/result.json", str(tmp_path / "result.json"))
    text = text.replace("/var/log/cloud-init-output.log", str(tmp_path / "output.log"))
    text = text.replace(paths.MARKER, str(tmp_path / "ready"))
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"--- {expected} then destroy this stack and run up again"
