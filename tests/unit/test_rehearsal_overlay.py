"""What a rehearsal changes in a stack's settings, and which stacks ask Let's Encrypt for certificates."""

import json
from pathlib import Path
from typing import Any

import pytest

from reference.samples import PUBLIC_KEY
from rehearsal.cloud import given_images
from rehearsal.cloud.images import CLOUD_IMAGES
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


@pytest.fixture(autouse=True)
def no_image_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this host's LXD has."""
    monkeypatch.setattr(given_images, "origin", lambda system: None)
    monkeypatch.setattr(given_images, "is_known", lambda: True)


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


def test_a_system_without_an_image_is_rehearsed_on_debian12_and_said_so() -> None:
    config, notes = changed(server={"os": "ubuntu2204", "disk_gib": 30}, access={"public_key": PUBLIC_KEY})
    assert isinstance(config["site:server"], dict)
    assert CLOUD_IMAGES[config["site:server"].pop("image")] == "ubuntu2204"
    assert config["site:server"] == {"os": "debian12", "disk_gib": 30, "mirrors": {}}
    assert len(notes) == 2
    assert "ubuntu2204" in notes[0]


@pytest.mark.parametrize("server", [{"os": "centos7"}, {}, {"os": "alinux3"}])
def test_a_system_of_the_family_is_rehearsed_as_itself_and_what_is_not_its_own_is_said(server: dict[str, str]) -> None:
    config, notes = changed(server=server, access={"public_key": PUBLIC_KEY})
    assert config["site:server"] == server
    assert "the kernel, libc and programs are Debian 12's" in notes[0]
    # CentOS 7 has Python 3.6, and Alibaba Cloud Linux 3 the same as Debian 12.
    assert len(notes) == (1 if server.get("os") == "alinux3" else 2)


def test_a_base_image_that_is_not_known_is_said_to_be_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    def notes(system: str) -> list[str]:
        return changed(server={"os": system}, access={"public_key": PUBLIC_KEY})[1]

    certain = notes("centos7")
    monkeypatch.setattr(given_images, "is_known", lambda: False)
    said, *rest = notes("centos7")
    assert said.endswith(" whether setup --image has set an image of centos7; the rehearsal's own is assumed")
    assert rest == certain
    assert notes("debian12") == [], "nothing is said of it that another image would make untrue"


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
    config, notes = changed(server={"os": "centos7", "mirrors": {**mirrors, "packages": [mirrors["packages"]]}})
    assert config["site:server"] == {"os": "centos7", "mirrors": {"index": mirrors["index"]}}
    assert notes[-1].startswith("server.mirrors is not asked for packages")


@pytest.mark.parametrize(
    ("server", "left"),
    [
        ({"packages": ["git", "unixODBC-devel", "geos-devel"]}, {"packages": ["git"]}),
        ({"packages": ["unixODBC-devel", "geos-devel"]}, {"packages": []}),
        (
            {"packages": ["curl"], "packages_of": {"centos7": ["unixODBC-devel", "geos-devel"], "alinux3": ["curl"]}},
            {"packages": ["curl"], "packages_of": {"centos7": [], "alinux3": ["curl"]}},
        ),
        ({"packages": ["curl"], "packages_of": {"centos7": "git"}}, None),
        ({"packages": ["gcc-c++", "mariadb-devel"], "packages_of": {"alinux3": ["geos-devel"]}}, None),
    ],
)
def test_packages_that_only_the_real_repository_has_are_left_out_and_named(
    server: dict[str, Any], left: dict[str, Any] | None
) -> None:
    config, notes = changed(server=server, access={"public_key": PUBLIC_KEY})
    assert config["site:server"] == (left or server)
    said = [note for note in notes if "not in the rehearsal's repository" in note]
    assert [note.split(":")[0] for note in said] == (["unixODBC-devel, geos-devel"] if left else [])


@pytest.mark.parametrize("system", ["centos7", "debian12"])
def test_the_real_repository_of_an_image_of_the_users_is_asked_for_all_packages(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given_images, "origin", lambda name: "images:centos/7" if name == "centos7" else None)
    server = {"os": system, "packages": ["geos-devel"]}
    config, notes = changed(server=server, access={"public_key": PUBLIC_KEY})
    assert (config["site:server"], notes) == (server, [])


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
