"""sshd, journal and clock of a server: what is written, and that a configuration which sshd refuses is taken back.

A machine shows that the real sshd takes it: tests/rehearsal/test_life_of_a_stack.py.
"""

from pathlib import Path
from typing import Any

import pytest

from serving import host_files, machines
from settings.loader import parse
from tests.unit.machine import module

hardening, commands = module("hardening"), module("commands")
MAIN = "Port 22\nMatch User git\n    PasswordAuthentication yes\n"
ECDSA = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBLxx"


class Host:
    """The files of a machine, and an sshd that does not know the algorithms in `unknown`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, main: str) -> None:
        self.main, self.drop_in = folder / "sshd_config", folder / "sshd_config.d" / "10-wsgi-ecs.conf"
        self.journald = folder / "journald.conf.d" / "wsgi-ecs.conf"
        self.unknown: tuple[str, ...] = ("mlkem768x25519-sha256",)
        self.refuses = ""
        self.ran: list[str] = []
        self.said: list[str] = []
        self.has_clock = True
        self.drop_in.parent.mkdir()
        self.main.write_text(main)
        self.main.chmod(0o640)
        program = folder / "sshd"
        program.touch()
        self.clocks: list[str] = ["active"]
        names = {
            "CONTAINER": folder / "container",
            "SSHD_CONFIG": self.main,
            "SSHD_DROP_IN": self.drop_in,
            "JOURNALD_DROP_IN": self.journald,
        }
        for name, path in {**names, "_SSHD": program}.items():
            monkeypatch.setattr(hardening, name, str(path))
        monkeypatch.setattr(hardening, "run", self.run)
        # tests/unit/test_confinement.py has the metadata.
        monkeypatch.setattr(hardening.metadata, "place", lambda unpacked, say: [])
        monkeypatch.setattr(hardening.files, "own", lambda path, group, mode: Path(path).chmod(mode))

    def run(self, *command: str, **options: Any) -> str:
        if command[0].endswith("sshd"):
            line = self.refuses if len(command) == 2 else ""
            line = line or next((f"Bad: {name}" for name in self.unknown if command[-1].endswith("=" + name)), "")
            if line:
                raise commands.ReleaseError("sshd ended with 255", f"a warning\n{line}\n")
            return ""
        self.ran.append(" ".join(command))
        if "systemd-timesyncd" in command:
            return f"inactive\n{self.clocks[-1]}\n"
        if command[0] == "timedatectl":
            self.clocks.append("active" if self.has_clock else "inactive")
        return "active\n" if command[-1] == "sshd" else "inactive\n"

    def place(self, config: dict[str, Any]) -> list[str]:
        texts = host_files(machines(parse({"server": {"os": "debian12"}, **config}, "test"))[0].plan)

        class Sent:
            text = staticmethod(texts.__getitem__)

        return list(hardening.place(Sent, self.said.append))


@pytest.fixture(params=["folder", "lines"])
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Host:
    """sshd that reads a folder, and one that does not, as CentOS 7's."""
    include = "Include /etc/ssh/sshd_config.d/*.conf\n" if request.param == "folder" else ""
    return Host(tmp_path, monkeypatch, include + MAIN)


def directives(host: Host) -> dict[str, str]:
    text = host.drop_in.read_text() if host.drop_in.exists() else host.main.read_text()
    lines = [line.split(None, 1) for line in text.partition("Port 22")[0].splitlines() if not line.startswith("#")]
    return {words[0]: words[1] for words in lines}


def test_sshd_lets_nobody_in_by_password_and_offers_what_it_knows(host: Host) -> None:
    written = host.place({})
    found = directives(host)
    assert found["PasswordAuthentication"] == found["X11Forwarding"] == found["PermitEmptyPasswords"] == "no"
    assert (found["PermitRootLogin"], found["MaxAuthTries"]) == ("prohibit-password", "4")
    assert found["KexAlgorithms"].startswith("sntrup761x25519-sha512,")
    assert not any("nistp" in value or "sha1" in value or "cbc" in value for value in found.values())
    assert host.main.read_text().endswith(MAIN)
    assert "systemctl reload sshd" in host.ran
    assert set(written) == {str(path) for path in (host.drop_in, host.journald) if path.exists()}
    assert host.main.stat().st_mode & 0o777 == 0o640


def test_the_same_again_changes_no_file(host: Host) -> None:
    host.place({})
    before = [path.read_text() for path in (host.main, host.drop_in, host.journald) if path.exists()]
    host.ran.clear()
    host.place({})
    assert [path.read_text() for path in (host.main, host.drop_in, host.journald) if path.exists()] == before
    assert "systemctl restart systemd-journald" not in host.ran


def test_a_list_of_which_sshd_knows_nothing_is_left_to_sshd(host: Host) -> None:
    host.unknown = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "umac-128-etm@openssh.com")
    host.place({})
    assert "MACs" not in directives(host)


def test_the_server_shows_the_key_that_the_settings_name(host: Host) -> None:
    host.place({"access": {"host_key": ECDSA}})
    assert directives(host)["HostKeyAlgorithms"] == "ssh-ed25519,rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256"


def test_a_configuration_that_sshd_refuses_is_taken_back(host: Host) -> None:
    host.refuses = "/etc/ssh/sshd_config line 3: Bad configuration option: Prot"
    before = host.main.read_text()
    written = host.place({})
    assert (host.main.read_text(), host.drop_in.exists()) == (before, False)
    (line,) = host.said
    assert line.startswith("the settings of sshd stay as they were, because sshd refuses ")
    assert line.endswith(host.refuses)
    assert written == [str(host.journald)]
    assert not any("reload" in command for command in host.ran)


def test_a_clock_that_is_set_is_left_alone(host: Host) -> None:
    host.place({})
    assert not any("timedatectl" in command for command in host.ran)


def test_a_clock_that_nothing_sets_is_set_from_now_on(host: Host) -> None:
    host.clocks = ["inactive"]
    host.place({})
    assert "timedatectl set-ntp true" in host.ran
    assert not host.said


def test_a_server_that_cannot_set_its_clock_says_so_and_a_container_does_not(host: Host) -> None:
    host.clocks, host.has_clock = ["inactive"], False
    host.place({})
    assert host.said == ["nothing sets the clock of this server: name chrony in server.packages"]
    (host.main.parent / "container").touch()
    host.place({})
    assert len(host.said) == 1
