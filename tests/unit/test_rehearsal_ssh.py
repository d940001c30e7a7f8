"""How machines are reached over SSH: again while there is no connection, and through another one."""

import shlex
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rehearsal.cloud import ssh_connection
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.resources.remote_command import RemoteCommand
from rehearsal.cloud.ssh_connection import dial
from rehearsal.engine.errors import RehearsalError
from tests.builders.connections import accepting
from tests.builders.stores import cloud_context

KEYS = Keys(Path("/keys 100%"))


@pytest.fixture
def restarting() -> Iterator[tuple[int, list[bytes]]]:
    """The port of an sshd that ends each connection while keys are exchanged, and what its clients sent."""
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(ConnectionResetError):
            connection.sendall(b"SSH-2.0-restarting\r\n")
            heard.append(connection.recv(65536))

    with accepting(serve) as port:
        yield port, heard


def option(line: list[str], name: str) -> str:
    return next(word.partition("=")[2] for word in line if word.startswith(f"{name}="))


def test_each_of_two_machines_is_checked_by_its_own_host_key() -> None:
    jump = KEYS.ssh("i-front", "198.18.0.1")
    line = KEYS.ssh("i-app", "10.76.0.34", jump=jump)
    through = shlex.split(option(line, "ProxyCommand").replace("%%", "%"))
    assert option(line, "HostKeyAlias") == "i-app"
    assert option(through, "HostKeyAlias") == "i-front"
    assert through[-3:] == ["-W", "%h:%p", "root@198.18.0.1"]
    assert through[:-3] == jump[:-1]
    assert line[-1] == "root@10.76.0.34"


def test_a_connection_with_a_host_key_accepts_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(tmp_path)
    context = cloud_context(tmp_path, keys)
    monkeypatch.setattr(ssh_connection, "_public", lambda context: {"198.18.0.1": "i-front"})
    monkeypatch.setattr(ssh_connection, "_private", lambda context: {"10.76.0.34": "i-app"})
    proxy = {"host": "198.18.0.1", "hostKey": "ssh-ed25519 AAAA"}
    line = ssh_connection.ssh_command(context, {"host": "10.76.0.34", "hostKey": "ssh-ed25519 BBBB", "proxy": proxy})
    through = shlex.split(option(line, "ProxyCommand").replace("%%", "%"))
    known = [Path(option(words, "UserKnownHostsFile")).read_text() for words in (line, through)]
    assert known == ["i-app ssh-ed25519 BBBB\n", "i-front ssh-ed25519 AAAA\n"]
    # The first session is checked by the key that was read through LXD.
    first = ssh_connection.ssh_command(context, {"host": "198.18.0.1"})
    assert option(first, "UserKnownHostsFile") == str(keys.known_hosts)


def test_ssh_replaces_no_word_of_a_jump_but_its_target() -> None:
    line = KEYS.ssh("i-app", "10.76.0.34", jump=KEYS.ssh("i-front", "198.18.0.1"))
    assert "/keys 100%%/id_ed25519" in option(line, "ProxyCommand")


def test_of_a_connection_only_where_it_leads_is_recorded() -> None:
    proxy = {"host": "198.18.0.1", "user": "root", "privateKey": "quiet", "password": "quiet"}
    facts = RemoteCommand().facts({"connection": {"host": "10.76.0.34", "privateKey": "quiet", "proxy": proxy}})
    assert facts == {"host": "10.76.0.34", "proxy": {"host": "198.18.0.1", "user": "root"}}


def test_a_connection_without_a_proxy_forgets_the_one_it_had() -> None:
    assert RemoteCommand().facts({"connection": {"host": "198.18.0.1"}}) == {"host": "198.18.0.1", "proxy": None}


def test_a_proxy_has_a_host() -> None:
    with pytest.raises(RehearsalError, match=r"connection\.proxy\.host"):
        RemoteCommand().check({"connection": {"host": "10.76.0.34", "proxy": {"user": "root"}}})


def test_a_connection_that_ends_before_the_command_began_is_tried_again(
    restarting: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    port, heard = restarting
    keys = Keys(tmp_path / "keys")
    keys.ensure()
    context = cloud_context(tmp_path, keys)
    where = {"host": "127.0.0.1", "port": port, "dialErrorLimit": 2}
    with pytest.raises(RehearsalError, match=f"no SSH connection to 127.0.0.1:{port} after 2 attempts"):
        dial(context, [*keys.ssh("i-app", "127.0.0.1", port=port), "--", "true"], where, "", "")
    # Each attempt looks whether sshd is there, and then connects.
    assert len([said for said in heard if said.startswith(b"SSH-2.0-OpenSSH")]) == 2


def test_removed_keys_leave_nothing_and_no_other_stacks_keys_go(tmp_path: Path) -> None:
    one, other = (Keys(tmp_path / ".rehearsal" / name) for name in ("one", "other"))
    for keys in (one, other):
        keys.ensure()
        keys.know("i-1", ["ssh-ed25519 AAAA"])
    one.remove()
    assert not one.folder.exists()
    assert other.private.is_file()
    other.remove()
    other.remove()
    assert list(tmp_path.iterdir()) == []
