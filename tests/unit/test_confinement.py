"""What confines the programs of a server, as text; a machine shows what it does: tests/rehearsal/test_comes_back.py."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract.documents import METADATA_SCRIPT, METADATA_UNIT, Host
from kinds.systems import SYSTEMS
from serving import host_files, machines
from settings.loader import parse
from templates import PROJECT
from tests.unit.machine import module

metadata, commands = module("metadata"), module("commands")
MANAGERS = {"supervisor": "supervisor.service", "systemd": None, "emperor": "wsgi-emperor.service"}
BESIDE = {
    "processes": {"worker": {"command": ["python", "worker.py"]}},
    "schedule": {"clean": {"command": ["python", "clean.py"], "at": "@daily"}},
}


def units(manager: str, system: str = "debian12", **confinement: Any) -> dict[str, str]:
    """Unit or file of a release → its text, for all that runs a program of the site, and nginx."""
    settings = {"server": {"os": system}, "serving": {"process_manager": manager}, **BESIDE, "confinement": confinement}
    plan = machines(parse(settings, "test"))[0].plan
    assert isinstance(plan.host, Host)
    (site,) = plan.sites
    own = {name: text for name, text in site.configs.items() if name.endswith(".service")}
    return {**own, **plan.host.confinement}


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_nothing_that_runs_a_program_is_left_unconfined(manager: str, system: str) -> None:
    found = units(manager, system)
    shared = {unit for unit in (MANAGERS[manager],) if unit}
    if system in ("centos7", "alinux3"):
        shared = {unit.replace("supervisor.", "supervisord.") for unit in shared}
    files: dict[str, set[str]] = {"supervisor": set(), "systemd": {"app.service", "process-worker.service"}}
    own = files.get(manager, {"process-worker.service"}) | {"schedule-clean.service"}
    assert set(found) == {"nginx.service", *shared, *own}
    for name, text in found.items():
        assert "\nRestrictNamespaces=yes\n" in text, name
        # The emperor's own unit has this from the first boot on.
        assert "\nNoNewPrivileges=yes\n" in text or name == "wsgi-emperor.service"
        # A list of what may be called would leave nothing on CentOS 7, whose systemd knows none of the groups.
        filters = re.findall("^SystemCallFilter=(.*)$", text, re.MULTILINE)
        assert filters
        assert all(line.startswith("~") for line in filters), name
        assert any("@" in line for line in filters) == (system != "centos7")
        assert ("MemoryMax=90%\nTasksMax=15%\n" in text) == (name != "nginx.service")


@pytest.mark.parametrize("manager", MANAGERS)
def test_limits_are_shares_of_the_server_and_can_be_set(manager: str) -> None:
    found = units(manager, memory_max=40, tasks_max=7)
    assert all("MemoryMax=40%\nTasksMax=7%\n" in text for name, text in found.items() if name != "nginx.service")


@pytest.mark.parametrize("manager", MANAGERS)
def test_confinement_can_be_switched_off(manager: str) -> None:
    found = units(manager, enabled=False)
    assert not [name for name, text in found.items() if "Restrict" in text or "MemoryMax" in text]
    assert not [name for name in found if name == "nginx.service"]


@contextmanager
def running(command: list[str]) -> Iterator[int]:
    process = subprocess.Popen([*command, "sleep", "60"])
    try:
        # setpriv becomes the program.
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give up a capability that it has")
def test_a_unit_that_runs_without_what_confines_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop_ins = metadata.drop_ins
    monkeypatch.setattr(drop_ins, "UNITS", str(tmp_path))
    for unit, name in (
        ("nginx.service", drop_ins.CONFINEMENT),
        ("supervisor.service", drop_ins.CONFINEMENT),
        ("wsgi-emperor.service", drop_ins.CONFINEMENT),
        ("mariadb.service", drop_ins.RESTART),
    ):
        (tmp_path / f"{unit}.d").mkdir()
        (tmp_path / f"{unit}.d" / name).touch()
    # nginx runs with all that a process can be given, the emperor with none of it, and supervisor does not run.
    with running([]) as nginx, running(["setpriv", "--bounding-set=-sys_admin"]) as emperor:
        pids = {"nginx.service": nginx, "wsgi-emperor.service": emperor}
        monkeypatch.setattr(drop_ins, "run", lambda *command, check: f"MainPID={pids.get(command[-1], 0)}\n")
        assert drop_ins.unconfined() == ["nginx.service"]


def test_the_page_of_the_first_boot_is_as_it_was() -> None:
    # Other user data would replace every server.
    found = [path.read_text() for path in (PROJECT / "tests/unit/golden").glob("user-data-*")]
    assert found
    assert not [text for text in found if "RestrictNamespaces" in text]


def texts(**confinement: Any) -> dict[str, str]:
    return host_files(machines(parse({"server": {"os": "debian12"}, "confinement": confinement}, "test"))[0].plan)


class Unpacked:
    """A release of what the sites share, as far as the metadata are concerned."""

    def __init__(self, has_unit: bool) -> None:
        self.files = dict.fromkeys(
            (f"config/{METADATA_UNIT}", f"config/{METADATA_SCRIPT}") if has_unit else (), "text\n"
        )

    def text(self, name: str) -> str:
        return self.files[name]


def test_the_metadata_are_kept_from_applications_until_a_release_opens_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    said: list[str] = []

    def run(*command: str, **options: Any) -> str:
        ran.append(" ".join(command))
        if "reload-or-restart" in command and said == ["fails"]:
            raise commands.ReleaseError("systemctl ended with 1")
        return ""

    monkeypatch.setattr(metadata, "run", run)
    monkeypatch.setattr(metadata.drop_ins, "UNITS", str(tmp_path))
    monkeypatch.setattr(metadata.paths, "ETC", str(tmp_path))
    monkeypatch.setattr(metadata.files, "own", lambda path, group, mode: Path(path).chmod(mode))
    written = {str(tmp_path / METADATA_UNIT), str(tmp_path / METADATA_SCRIPT)}
    assert set(metadata.place(Unpacked(True), said.append)) == written
    assert ran[-2:] == [f"systemctl enable -q {METADATA_UNIT}", f"systemctl reload-or-restart {METADATA_UNIT}"]
    assert (said, {str(path) for path in tmp_path.iterdir()}) == ([], written)
    # A kernel without such rules refuses no release.
    said.append("fails")
    assert set(metadata.place(Unpacked(True), said.append)) == written
    assert said[1].startswith("warning: applications can reach the metadata of the cloud, because ")
    ran.clear()
    assert metadata.place(Unpacked(False), said.append) == []
    assert f"systemctl stop {METADATA_UNIT}" in ran
    assert not list(tmp_path.iterdir())
    ran.clear()
    assert (metadata.place(Unpacked(False), said.append), ran) == ([], [])


RULE = "priority 50 to {} uidrange 1-4294967294"
CONTAINERS = RULE.replace("4294967294", "65535")
OWNER = "OUTPUT -d {} -m owner ! --uid-owner 0 -j REJECT"
ADDRESSES = ("100.100.100.200", "169.254.169.254")


# Rules in a file, as the kernel keeps them: a line each. `ip` takes no origin where there is a file `old`, and the
# kernel no user above 65535 where there is a file `container`.
IP = """
cd "${0%/*}"
echo "ip $*" >>log
case "$1 $2" in
"rule list") cat rules ;;
"rule add")
    shift 2
    case $* in *protocol*) [ ! -e old ] || exit 1 ;; esac
    case $* in *4294967294*) [ ! -e container ] || exit 2 ;; esac
    echo "50: from all to $4 $5 $6 prohibit" >>rules
    ;;
"rule del")
    grep -q " to $6 " rules || exit 2
    grep -v " to $6 " rules >rest
    mv rest rules
    ;;
esac
"""
IPTABLES = """
cd "${0%/*}"
echo "iptables $*" >>log
verb=$2
shift 2
case $verb in
-C) grep -qxF -- "$*" rules ;;
-I) echo "$*" >>rules ;;
-D)
    grep -qxF -- "$*" rules || exit 1
    grep -vxF -- "$*" rules >rest
    mv rest rules
    ;;
esac
"""


@pytest.mark.parametrize(
    ("kernel", "lacks", "wanted"),
    [
        ("6.1.0-13-amd64", "", f"ip rule add {RULE} protocol kernel prohibit"),
        ("6.1.0-13-amd64", "container", f"ip rule add {CONTAINERS} protocol kernel prohibit"),
        ("5.10.134-16.al8", "old", f"ip rule add {RULE} prohibit"),
        ("5.10.134-16.al8", "old container", f"ip rule add {CONTAINERS} prohibit"),
        ("4.18.0", "", f"ip rule add {RULE} protocol kernel prohibit"),
        ("3.10.0-1160.el7", "", f"iptables -w -I {OWNER}"),
        ("4.9.0", "", f"iptables -w -I {OWNER}"),
    ],
)
def test_root_alone_reaches_the_metadata_on_every_kernel(tmp_path: Path, kernel: str, lacks: str, wanted: str) -> None:
    for name, text in {"uname": f"echo {kernel}", "ip": IP, "iptables": IPTABLES}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    for name in lacks.split():
        (tmp_path / name).touch()
    rules, log = tmp_path / "rules", tmp_path / "log"
    rules.touch()

    def run(verb: str) -> tuple[list[str], str]:
        """The commands that changed the rules, and what was printed."""
        log.write_text("")
        script = PROJECT / "templates/metadata/metadata.sh"
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["sh", str(script), verb], env=environment, capture_output=True, text=True, check=True)
        asked = ("ip rule list", "iptables -w -C")
        return [line for line in log.read_text().splitlines() if not line.startswith(asked)], done.stdout

    changes, printed = run("keep")
    assert [line for address in ADDRESSES if (line := wanted.format(address)) in changes] == [
        wanted.format(address) for address in ADDRESSES
    ]
    assert printed.split() == list(ADDRESSES)
    assert len(rules.read_text().splitlines()) == 2
    # Nothing is opened, be it for a moment, while the rules are there.
    assert run("keep") == ([], "")
    rules.write_text("".join(rules.read_text().splitlines(keepends=True)[:1]))
    assert run("keep")[1].split() == [ADDRESSES[1]]
    run("open")
    assert rules.read_text() == ""


def test_a_way_that_something_has_opened_is_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(metadata.paths, "ETC", str(tmp_path))
    metadata.keep(said.append)
    assert said == [], "no rule is wanted here"
    for text, wanted in (
        ("exit 0", []),
        ("echo 100.100.100.200", ["closed again to applications: 100.100.100.200"]),
        ("exit 1", [f"warning: applications can reach the metadata of the cloud: /bin/sh {tmp_path}/"]),
    ):
        (tmp_path / METADATA_SCRIPT).write_text(text)
        metadata.keep(said.append)
        assert [line[: len(start)] for line, start in zip(said, wanted, strict=True)] == wanted
        said.clear()


def test_the_way_to_the_metadata_is_closed_unless_a_setting_opens_it() -> None:
    assert f"config/{METADATA_UNIT}" in texts()
    assert f"config/{METADATA_UNIT}" in texts(enabled=False)
    assert f"config/{METADATA_UNIT}" not in texts(metadata=True)


@pytest.mark.parametrize(
    ("server", "wanted"),
    [
        ({"os": "debian13"}, True),
        ({"os": "debian13", "http_tokens": "optional"}, False),
        # Nobody knows the cloud-init of an image of somebody's own.
        ({"os": "debian13", "image": "m-bp1"}, False),
        ({"os": "debian12"}, False),
        ({"os": "debian12", "http_tokens": "required"}, True),
        ({}, False),
    ],
)
def test_new_servers_want_tokens_where_the_image_fetches_one(server: dict[str, Any], wanted: bool) -> None:
    assert parse({"server": server}, "test").server.requires_tokens is wanted
