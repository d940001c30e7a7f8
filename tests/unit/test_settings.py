"""What a user may say, and the one line that anything else gets."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings import SettingsError
from settings.loader import check_files, parse
from settings.models import Model, Settings
from tests.conftest import PROJECT, PUBLIC_KEY

FILE = "stacks/Pulumi.dev.yaml"


def refusal(config: Any) -> str:
    with pytest.raises(SettingsError) as error:
        parse(config, FILE)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{FILE}: ")
    return line.removeprefix(f"{FILE}: ")


def test_every_setting_has_a_default_and_a_description() -> None:
    assert parse({}, FILE) == Settings()
    models = [Settings, *(f.annotation for f in Settings.model_fields.values())]
    for model in models[1:]:
        assert isinstance(model, type)
        assert issubclass(model, Model)
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_numbers_and_booleans_given_as_text_are_taken() -> None:
    settings = parse({"uwsgi": {"processes": "4"}, "server": {"protect": "true"}, "nginx": {"listen": "8080"}}, FILE)
    assert (settings.uwsgi.processes, settings.server.protect, settings.nginx.listen) == (4, True, 8080)


def test_an_environment_takes_numbers_and_booleans_as_text() -> None:
    env = parse({"app": {"env": {"PORT": 8080, "DEBUG": True, "RATIO": 0.5}}}, FILE).app.env
    assert {name: value.get_secret_value() for name, value in env.items()} == {
        "PORT": "8080",
        "DEBUG": "true",
        "RATIO": "0.5",
    }


def test_a_single_cidr_is_a_list_of_one() -> None:
    assert parse({"access": {"ssh": "203.0.113.0/24"}}, FILE).access.ssh == ("203.0.113.0/24",)


def test_the_comment_of_a_public_key_goes_no_further() -> None:
    assert parse({"access": {"public_key": f"{PUBLIC_KEY} me@laptop\n"}}, FILE).access.public_key == PUBLIC_KEY


REFUSED: list[tuple[Any, str]] = [
    (
        {"sever": {}},
        "sever: unknown key; allowed: app, site, server, network, access, uwsgi, nginx, supervisor, release",
    ),
    ({"site": {"servername": "a"}}, "site.servername: unknown key; allowed: server_name"),
    ({"server": {"mirrors": {"pypi": "x"}}}, "server.mirrors.pypi: unknown key; allowed: packages, epel, index"),
    ({"app": "app"}, "app: allowed: a map of keys"),
    ({"server": {"os": "centos8"}}, "server.os: allowed: centos7 or debian12"),
    ({"server": {"disk_gib": "twenty"}}, "server.disk_gib: allowed: a whole number"),
    ({"server": {"disk_gib": 10}}, "server.disk_gib: allowed: 20 or more"),
    ({"server": {"protect": "perhaps"}}, "server.protect: allowed: true or false"),
    (
        {"server": {"instance_type": "t6"}},
        "server.instance_type: allowed: an instance type such as ecs.e-c1m1.large",
    ),
    ({"uwsgi": {"processes": "many"}}, "uwsgi.processes: allowed: auto, or a whole number"),
    ({"uwsgi": {"processes": 0}}, "uwsgi.processes: allowed: auto, or 1 or more"),
    (
        {"app": {"module": "uwsgi"}},
        "app.module: a module named uwsgi is shadowed by uWSGI's own; allowed: any other name",
    ),
    ({"app": {"module": "a b"}}, "app.module: allowed: a Python module name such as app or site.wsgi"),
    ({"app": {"module": True}}, "app.module: allowed: text"),
    (
        {"app": {"requirements": "../r.txt"}},
        "app.requirements: allowed: a path inside app.source, such as requirements.txt or static",
    ),
    ({"app": {"health": "healthz"}}, "app.health: allowed: a URL path such as /healthz"),
    ({"app": {"env": {"A-B": "x"}}}, "app.env.A-B: allowed: a name such as DATABASE_URL"),
    (
        {"app": {"env": {"UWSGI_X": "x"}}},
        "app.env.UWSGI_X: allowed: a name that does not start with UWSGI_, which uWSGI reads as options",
    ),
    ({"app": {"env": {"A": ["x"]}}}, "app.env.A: allowed: text"),
    ({"app": {"env": {"A": "\0"}}}, "app.env.A: allowed: any text without NUL characters"),
    (
        {"access": {"http": ["everyone"]}},
        "access.http.0: allowed: an IPv4 CIDR such as 203.0.113.0/24 or 203.0.113.7/32",
    ),
    ({"access": {"http": ["203.0.113.7"]}}, "access.http.0: allowed: the network itself, 203.0.113.7/32"),
    ({"access": {"http": ["203.0.113.7/24"]}}, "access.http.0: allowed: the network itself, 203.0.113.0/24"),
    (
        {"access": {"ssh": ["::/0"]}},
        "access.ssh.0: IPv6 is not supported yet; allowed: an IPv4 CIDR such as 203.0.113.0/24",
    ),
    (
        {"access": {"ssh": ["0.0.0.0/0"]}},
        "access.ssh: 0.0.0.0/0 opens SSH to the world; allowed only with access.ssh_open: true",
    ),
    ({"network": {"cidr": "10.0.0.0/8"}}, "network.cidr: allowed: a private IPv4 network from /16 to /24"),
    ({"network": {"cidr": "198.51.100.0/24"}}, "network.cidr: allowed: a private IPv4 network from /16 to /24"),
    ({"nginx": {"listen": 22}}, "nginx.listen: port 22 is taken by SSH"),
    ({"nginx": {"listen": 9191}}, "nginx.listen: port 9191 is taken by uwsgi.stats"),
    (
        {"nginx": {"client_max_body_size": "16 MB"}},
        "nginx.client_max_body_size: allowed: a size as nginx writes it, such as 16m",
    ),
    (
        {"nginx": {"static": {"static": "s"}}},
        "nginx.static.static: allowed: a URL path that ends in /, such as /static/",
    ),
    (
        {"nginx": {"static": {"/s/": "/etc"}}},
        "nginx.static./s/: allowed: a path inside app.source, such as requirements.txt or static",
    ),
]


@pytest.mark.parametrize(("config", "line"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_value_is_one_line_with_file_key_and_what_is_allowed(config: Any, line: str) -> None:
    assert refusal(config) == line


@pytest.mark.parametrize(
    "key", ["ssh-rsa", "AAAA", f"{PUBLIC_KEY}\nssh-rsa AAAA", "ssh-ed25519 !!!!", "ssh-rsa " + PUBLIC_KEY.split()[1]]
)
def test_a_public_key_that_is_none_is_refused(key: str) -> None:
    assert refusal({"access": {"public_key": key}}).startswith("access.public_key: allowed: one line of a public key")


@pytest.mark.parametrize("name", ["a b.com", 'a".com', "a;b", "a{b}", "a\nb", "a'b", "-a.com", "a..b", "$host", ""])
def test_a_domain_cannot_break_out_of_its_place(name: str) -> None:
    assert refusal({"site": {"server_name": name}}).startswith("site.server_name: allowed: a domain")


def test_a_wrong_secret_is_not_printed() -> None:
    assert "hunter2" not in refusal({"app": {"env": {"A": ["hunter2"]}}})
    assert "hunter2" not in refusal({"app": {"env": {"A": "hunter2\0"}}})


@given(st.text())
def test_no_text_reaches_a_configuration_with_a_character_that_ends_its_place(value: str) -> None:
    """Each text setting either is refused or holds nothing that nginx, an ini file, YAML or a shell could read."""
    for config in (
        {"site": {"server_name": value}},
        {"app": {"module": value}},
        {"app": {"callable": value}},
        {"app": {"requirements": value}},
        {"app": {"health": value}},
        {"nginx": {"charset": value}},
        {"nginx": {"client_max_body_size": value}},
        {"nginx": {"static": {f"/{value}/": "static"}}},
        {"nginx": {"static": {"/static/": value}}},
        {"server": {"image": value}},
        {"server": {"mirrors": {"index": [value]}}},
    ):
        try:
            parse(config, FILE)
        except SettingsError:
            continue
        assert not set(value) & set(" \t\r\n\0;{}\"'`\\#|<>()"), config


def test_missing_files_of_the_application(tmp_path: Path) -> None:
    def line() -> str:
        with pytest.raises(SettingsError) as error:
            check_files(Settings(), tmp_path, FILE)
        return str(error.value).removeprefix(f"{FILE}: ")

    assert line().startswith("app.source: ./app is no folder; allowed:")
    (tmp_path / "app").mkdir()
    assert line().startswith("app.module: ./app has neither app.py nor app/__init__.py; allowed:")
    (tmp_path / "app" / "app.py").touch()
    assert line().startswith("app.requirements: ./app has no requirements.txt; allowed:")
    (tmp_path / "app" / "requirements.txt").touch()
    check_files(Settings(), tmp_path, FILE)
    key = parse({"access": {"private_key_file": "nowhere"}}, FILE)
    with pytest.raises(SettingsError, match=r"access\.private_key_file: no such file"):
        check_files(key, tmp_path, FILE)


def test_the_sample_application_is_where_the_defaults_say() -> None:
    check_files(Settings(), PROJECT, FILE)
