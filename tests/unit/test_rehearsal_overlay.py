"""What a rehearsal changes in a stack's settings, and which stacks ask Let's Encrypt for certificates."""

import json
from pathlib import Path
from typing import Any

import pytest

from reference.samples import PUBLIC_KEY
from rehearsal.commands.overlay import (
    asks_lets_encrypt,
    operating_system,
    rehearsed,
    source_archives,
    with_archive,
)
from rehearsal.engine.stack import Stack

DOMAIN = {"server_name": "www.example.test"}
# Values of a boolean as the program reads them.
YES: tuple[Any, ...] = (True, "true", "yes", "on", "1", 1, "t", "y", 1.0)
NO: tuple[Any, ...] = (False, "false", "no", "off", 0)
ACME = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"


def asks(tls: dict[str, Any], sites: dict[str, Any] | None = None) -> bool:
    config = {"tls": tls, "site": DOMAIN, "sites": sites or {}}
    return asks_lets_encrypt(Stack("site", "dev", {f"site:{key}": json.dumps(part) for key, part in config.items()}))


@pytest.mark.parametrize("value", YES)
def test_a_site_asks_lets_encrypt_when_its_stack_names_no_other_ca(value: Any) -> None:
    assert asks({"acme": value})


@pytest.mark.parametrize("value", NO)
def test_a_stack_without_acme_asks_nobody(value: Any) -> None:
    assert not asks({"acme": value})
    assert not asks({})


def test_lets_encrypt_is_known_by_its_domain() -> None:
    assert asks({"acme": True, "directory": ACME})
    assert asks({"acme": True, "directory": STAGING})
    assert not asks({"acme": True, "directory": "https://letsencrypt.org.example.test/directory"})
    assert not asks({"acme": True, "directory": "https://ca.example.test/directory"})


def test_one_site_of_several_is_enough() -> None:
    assert asks({}, {"www": {"tls": {"acme": True}}, "other": {"site": {"server_name": "other.example.test"}}})
    assert not asks({}, {"www": {"nginx": {"listen": 8080}}})


@pytest.mark.parametrize(
    ("section", "value"),
    [("tls", "yes"), ("sites", {"www": "no map"}), ("server", {"os": "plan9"})],
)
def test_what_cannot_be_read_is_left_to_the_program(section: str, value: Any) -> None:
    stack = Stack("site", "dev", {f"site:{section}": json.dumps(value)})
    assert not asks_lets_encrypt(stack)
    assert list(source_archives(stack)) == []
    done, notes = rehearsed(stack, PUBLIC_KEY)
    assert done.config == {**stack.config, "rehearsal:active": "true"}
    assert notes == []


def changed(**sections: object) -> tuple[dict[str, object], list[str]]:
    stack = Stack("site", "dev", {f"site:{key}": json.dumps(value) for key, value in sections.items()})
    done, notes = rehearsed(stack, "ssh-ed25519 AAAA own")
    return {key: json.loads(value) for key, value in done.config.items() if key != "rehearsal:os"}, notes


@pytest.mark.parametrize("server", [{"os": "centos7"}, {}, {"os": "alinux3"}, {"os": "ubuntu2204"}])
def test_a_system_without_an_image_is_rehearsed_on_debian12_and_said_so(server: dict[str, str]) -> None:
    config, notes = changed(server={**server, "disk_gib": 30}, access={"public_key": PUBLIC_KEY})
    assert config["site:server"] == {"os": "debian12", "disk_gib": 30, "mirrors": {}}
    assert len(notes) == (1 if server.get("os") == "alinux3" else 2)
    assert server.get("os", "centos7") in notes[0]


def test_nothing_is_changed_or_said_where_nothing_is_missing() -> None:
    config, notes = changed(server={"os": "debian12"}, access={"public_key": PUBLIC_KEY, "http": []})
    assert notes == []
    assert config == {
        "site:server": {"os": "debian12"},
        "site:access": {"public_key": PUBLIC_KEY, "http": []},
        "rehearsal:active": True,
    }


def test_a_stack_without_a_key_gets_the_rehearsals_own() -> None:
    config, notes = changed(server={"os": "debian12"}, access={"http": []})
    assert config["site:access"] == {"public_key": "ssh-ed25519 AAAA own", "http": []}
    assert "access.public_key" in notes[0]


@pytest.mark.parametrize(("server", "system"), [({"os": "alinux3"}, "alinux3"), ({}, "centos7")])
def test_the_programs_default_system_is_known(server: dict[str, str], system: str) -> None:
    assert operating_system(Stack("site", "dev", {"site:server": json.dumps(server)})) == system


def test_a_systems_package_mirrors_stay_behind_and_its_index_comes_along() -> None:
    mirrors = {"packages": "https://m.example.test/centos", "index": ["https://m.example.test/simple/"]}
    config, _ = changed(server={"os": "centos7", "mirrors": {**mirrors, "packages": [mirrors["packages"]]}})
    assert config["site:server"] == {"os": "debian12", "mirrors": {"index": mirrors["index"]}}


def test_an_archive_is_replaced_wherever_its_url_is_named() -> None:
    url = {"install": "source", "version": "2.0.31", "archive": "https://example.test/u.tar.gz", "sha256": "0" * 64}
    sites = {"shop": {"uwsgi": url}, "blog": {"site": {"location": "/blog/"}}}
    stack = Stack("site", "dev", {"site:sites": json.dumps(sites), "site:server": '{"os": "debian12"}'})
    (archive,) = source_archives(stack)
    done = with_archive(stack, archive, Path("/cache/u"))
    assert json.loads(done.config["site:sites"])["shop"]["uwsgi"]["archive"] == "/cache/u"
    assert list(source_archives(done)) == []


def test_a_program_with_keys_of_its_own_gets_the_rehearsals_key_too() -> None:
    config, _ = changed(server={"os": "debian12"}, open=True)
    assert config["site:open"] is True
    assert config["site:access"] == {"public_key": "ssh-ed25519 AAAA own"}
