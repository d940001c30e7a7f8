"""How machines without a public address are reached: through another one."""

import shlex
from pathlib import Path

import pytest

from rehearsal.errors import RehearsalError
from rehearsal.keys import Keys
from rehearsal.resources.command import RemoteCommand

KEYS = Keys(Path("/keys 100%"))


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
