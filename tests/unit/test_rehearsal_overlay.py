"""What a rehearsal changes in a stack's settings, and which stacks ask Let's Encrypt for certificates."""

import json
from typing import Any

import pytest

from rehearsal.commands.overlay import asks_lets_encrypt, operating_system, rehearsed
from rehearsal.engine.stack import Stack

# As the program takes a boolean.
YES: tuple[Any, ...] = ("yes", "on", "1", 1, "t", "y", 1.0)
NO: tuple[Any, ...] = (False, "false", "no", "off", 0, None, "maybe", [])


@pytest.mark.parametrize(
    ("tls", "sites", "asks"),
    [
        ({}, {}, False),
        ({"acme": True}, {}, True),
        ({"acme": "true"}, {}, True),
        *(({"acme": value}, {}, True) for value in YES),
        *(({"acme": value}, {}, False) for value in NO),
        ({"acme": True, "directory": "https://acme-v02.api.letsencrypt.org/directory"}, {}, True),
        ({"acme": True, "directory": "https://acme-staging-v02.api.letsencrypt.org/directory"}, {}, True),
        ({"acme": True, "directory": "https://letsencrypt.org.example.test/directory"}, {}, False),
        ({}, {"www": {"tls": {"acme": True}}, "other": {}}, True),
        ({"certificate": "cert.pem"}, {"www": {"nginx": {}}}, False),
        ({"acme": True, "directory": "https://ca.example.test/directory"}, {}, False),
        # The program's to refuse.
        ("yes", {"www": "no map"}, False),
        ({}, {"www": {"tls": "no map"}}, False),
    ],
)
def test_a_stack_that_asks_a_ca_and_names_none(tls: Any, sites: Any, asks: bool) -> None:
    config = {"wsgi-ecs:tls": json.dumps(tls), "wsgi-ecs:sites": json.dumps(sites)}
    assert asks_lets_encrypt(Stack("wsgi-ecs", "dev", config)) is asks


def changed(**sections: object) -> tuple[dict[str, object], list[str]]:
    stack = Stack("site", "dev", {f"site:{key}": json.dumps(value) for key, value in sections.items()})
    done, notes = rehearsed(stack, "ssh-ed25519 AAAA own")
    return {key: json.loads(value) for key, value in done.config.items()}, notes


@pytest.mark.parametrize("server", [{"os": "centos7"}, {}, {"os": "alinux3"}, {"os": "ubuntu2204"}])
def test_a_system_without_an_image_is_rehearsed_on_debian12_and_said_so(server: dict[str, str]) -> None:
    config, notes = changed(server={**server, "disk_gib": 30}, access={"public_key": "k"})
    assert config["site:server"] == {"os": "debian12", "disk_gib": 30}
    assert len(notes) == 1
    assert server.get("os", "centos7") in notes[0]


def test_nothing_is_changed_or_said_where_nothing_is_missing() -> None:
    config, notes = changed(server={"os": "debian12"}, access={"public_key": "k", "http": []})
    assert notes == []
    assert config == {
        "site:server": {"os": "debian12"},
        "site:access": {"public_key": "k", "http": []},
        "rehearsal:active": True,
    }


def test_a_stack_without_a_key_gets_the_rehearsals_own() -> None:
    config, notes = changed(server={"os": "debian12"}, access={"http": []})
    assert config["site:access"] == {"public_key": "ssh-ed25519 AAAA own", "http": []}
    assert "access.public_key" in notes[0]


def test_an_unknown_system_is_left_for_the_program_to_refuse() -> None:
    config, notes = changed(server={"os": "plan9"}, access={"public_key": "k"})
    assert config["site:server"] == {"os": "plan9"}
    assert notes == []


@pytest.mark.parametrize(("server", "system"), [({"os": "alinux3"}, "alinux3"), ({}, "centos7")])
def test_the_programs_default_system_is_known(server: dict[str, str], system: str) -> None:
    assert operating_system(Stack("site", "dev", {"site:server": json.dumps(server)})) == system
