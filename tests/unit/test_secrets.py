"""No secret of the settings gets anywhere but into inputs that Pulumi keeps secret: one scan for every kind of them."""

import base64
import functools
import hashlib
import json
import shlex
import tarfile
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from google.protobuf import json_format  # type: ignore[import-untyped]

from reference.rows import rows
from reference.samples import CLOUD
from serving import machines
from settings.loader import parse
from settings.site import merged
from tests.builders.certificates import Authority
from tests.builders.forms import AWKWARD, Marks, mark_of
from tests.builders.program import Run, secret
from tests.builders.stack import ssh_key

DOMAINS = {"": "www.example.com", "sites.shop.": "shop.example.com"}
KEYS = {row.key: row.of_site for row in rows() if row.is_secret}
# What every setting of a secret is called here: the stack's, and a site's own.
NAMES = [*KEYS, *(f"sites.shop.{key}" for key, of_site in KEYS.items() if of_site)]
MARKS = {name: hashlib.sha256(name.encode()).hexdigest()[:24] for name in NAMES}
FILE_MARK = "sshkey8d21b4c6"
# On a port of its own.
GUNICORN = {"serving": {"app_server": "gunicorn"}}
# How Pulumi marks a secret in a request.
SIGNATURE = "4dabf18193072939515e22adb298388d"


@functools.cache
def _pair(domain: str) -> Any:
    return Authority().sign(domain)


def _named(name: str) -> tuple[str, str]:
    """("sites.shop.", "app.env") of sites.shop.app.env."""
    key = name.removeprefix("sites.shop.")
    return name.removesuffix(key), key


# Setting → what its own name, or its site's, makes of it: the value, and what else must be set there.
VALUES: dict[str, Callable[[str], dict[str, Any]]] = {
    "app.pip.index_url": lambda name: {"app": {"pip": {"index_url": _index(name)}}},
    "app.pip.extra_index_url": lambda name: {"app": {"pip": {"extra_index_url": [_index(name)]}}},
    "app.pip.netrc": lambda name: {
        "app": {"pip": {"netrc": f"machine {_called('git', name)}.example.com login ada password {MARKS[name]}"}}
    },
    "app.pip.ssh_key": lambda name: {"app": {"pip": {"ssh_key": _pair(_named(name)[0] + "deploy").private_key}}},
    "app.env": lambda name: {"app": {"env": {_called("TOKEN", name): MARKS[name] + AWKWARD}}},
    "mysql.password": lambda name: {"mysql": {"password": MARKS[name] + AWKWARD}},
    "redis.password": lambda name: {"redis": {"own_server": True, "password": MARKS[name]}},
    "nginx.auth_basic_users": lambda name: {
        "nginx": {"auth_basic": "Staff", "auth_basic_users": {_called("ada", name): f"$6$salt${MARKS[name]:a<86}"}}
    },
    "tls.private_key": lambda name: {
        "site": {"server_name": DOMAINS[_named(name)[0]]},
        "tls": {
            "certificate": _pair(DOMAINS[_named(name)[0]]).certificate,
            "private_key": _pair(DOMAINS[_named(name)[0]]).private_key,
        },
    },
}


def _called(word: str, name: str) -> str:
    """The stack's and a site's own stand beside each other in a map."""
    return f"{word}{NAMES.index(name):02}"


def _index(name: str) -> str:
    return f"https://ada:{MARKS[name]}@{_called('index', name)}.example.com/simple/"


def _config(folder: Path, app_servers: int = 1) -> dict[str, Any]:
    """A configuration with all of them at once, of two sites and a database."""
    key_file = folder / "key"
    private, public = ssh_key()
    key_file.write_text(f"{FILE_MARK}\n{private}")
    found = merged(CLOUD, {"server": {"os": "debian12"}, "topology": {"app_servers": app_servers}})
    found = merged(
        found,
        {"access": {"private_key_file": str(key_file), "public_key": public}, "sites": {"www": {}, "shop": GUNICORN}},
    )
    for name in NAMES:
        site, key = _named(name)
        own = VALUES[key](name)
        found = merged(found, {"sites": {"shop": own}} if site else own)
    return found


def _marks() -> Marks:
    keys = {name: _pair(DOMAINS[_named(name)[0]]) for name in NAMES if _named(name)[1] == "tls.private_key"}
    keys |= {name: _pair(_named(name)[0] + "deploy") for name in NAMES if _named(name)[1] == "app.pip.ssh_key"}
    # The line that has most of its number.
    lines = {name: mark_of(pair.secret_line) for name, pair in keys.items()}
    return Marks({**MARKS, **lines, "access.private_key_file": FILE_MARK})


def test_every_setting_of_a_secret_is_scanned_for() -> None:
    """A new one needs a value here, and a place among those that may hold it."""
    assert set(VALUES) == set(KEYS)
    words = ("password", "secret", "token", "private", "passphrase", "credential")
    called = {row.key for row in rows() if any(word in row.key for word in words)}
    # A path, which is no secret.
    assert called - set(KEYS) == {"access.private_key_file", "server.http_tokens"}


@pytest.mark.parametrize(
    "hidden",
    [
        str.encode,
        lambda text: json.dumps({text: [text]}).encode(),
        lambda text: urllib.parse.quote(text, safe="").encode(),
        lambda text: shlex.quote(text).encode(),
        lambda text: yaml.safe_dump(text).encode(),
        lambda text: repr(text).encode(),
        lambda text: text.encode().hex().encode(),
        lambda text: text.encode().hex().upper().encode(),
        *(
            lambda text, encode=encode, before=before: encode(b"user:"[before:] + text.encode())
            for encode in (base64.b64encode, base64.urlsafe_b64encode)
            for before in range(3)
        ),
    ],
)
def test_the_scan_finds_a_secret_in_whatever_form(hidden: Callable[[str], bytes]) -> None:
    marks = Marks({"one": "2f7d90ab31c8", "other": "xx7d90ab31c8"})
    assert marks.within(hidden("2f7d90ab31c8" + AWKWARD)) == {"one"}
    assert marks.within(hidden("of nobody" + AWKWARD)) == set()


def _split(value: Any, path: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Each text of a message, names of its fields too, with its path and whether it is kept secret."""
    if isinstance(value, dict) and SIGNATURE in value and value[SIGNATURE] == "1b47061264138c4ac30d75fd1eb44270":
        yield path, json.dumps(value["value"], ensure_ascii=False), True
    elif isinstance(value, dict):
        for key, item in value.items():
            yield path, key, False
            yield from _split(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from _split(item, path)
    else:
        yield path, str(value), False


def _written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file that a run has written, of an archive those in it."""
    for path in (folder / ".build").rglob("*"):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                yield f"{path.name}/{member.name}", member.name.encode() + (file.read() if file else b"")


PIP = {key for key in KEYS if key.startswith("app.pip.")}
OWN = {f"sites.shop.{key}" for key in PIP}
SITE = {"app.env", "mysql.password", "redis.password"}
FRONT = {
    "front-host-apply": {"tls.private_key", "sites.shop.tls.private_key"},
    "front-site-www-apply": {"nginx.auth_basic_users"},
    "front-site-shop-apply": {"nginx.auth_basic_users", "sites.shop.nginx.auth_basic_users"},
}
APP = {"app-1-site-www-apply": {*SITE, *PIP}, "app-1-site-shop-apply": {*SITE, "sites.shop.app.env", *OWN}}
DB = {
    f"{machine}-{command}": {f"{service}.password"}
    for machine, service in (("db", "mysql"), ("redis", "redis"))
    for command in ("host-apply", "settle")
}
# Number of app servers → command → the secrets on its standard input.
KEPT = {
    0: {
        "host-apply": FRONT["front-host-apply"],
        "site-www-apply": FRONT["front-site-www-apply"] | APP["app-1-site-www-apply"],
        "site-shop-apply": FRONT["front-site-shop-apply"] | APP["app-1-site-shop-apply"],
        **DB,
    },
    1: {**FRONT, **APP, **DB},
}


@pytest.mark.parametrize("app_servers", KEPT)
def test_secrets_reach_the_release_tool_and_no_plain_input_output_file_or_log(
    app_servers: int,
    run_program: Run,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    program, marks = run_program(_config(tmp_path, app_servers)), _marks()
    plain, kept = [], {}
    for message in program.messages:
        name = getattr(message, "name", "") or getattr(message, "urn", "") or message.tok
        for path, text, is_secret in _split(json_format.MessageToDict(message)):
            names = marks.within(text)
            if names and is_secret:
                kept[f"{name.removeprefix('wsgi-ecs-dev-')} {path}"] = names
            elif names:
                plain.append((name, path, names))
    assert plain == []
    assert len(program.messages) > len(program.requests) > 30
    connections = {place: names for place, names in kept.items() if place.endswith(" object.connection")}
    remote = [request.name for request in program.requests.values() if request.type.startswith("command:remote:")]
    assert {place.split()[0] for place in connections} == {name.removeprefix("wsgi-ecs-dev-") for name in remote}
    assert all(names == {"access.private_key_file"} for names in connections.values())
    found = {place: names for place, names in kept.items() if place not in connections}
    assert found == {f"{command} object.stdin": names for command, names in KEPT[app_servers].items()}
    written = dict(_written(tmp_path))
    assert len(written) > 30
    assert [name for name, data in written.items() if marks.within(data)] == []
    assert marks.within("".join(capfd.readouterr()) + caplog.text) == set()


def test_what_the_release_tool_reads(run_program: Run, tmp_path: Path) -> None:
    program, config = run_program(_config(tmp_path)), _config(tmp_path)

    def read(name: str) -> Any:
        found = json.loads(secret(program.inputs("remote:Command", name)["stdin"]))
        # Whether there is one depends on the checkout, and tests/unit/test_origin.py has it.
        return {part: value for part, value in found.items() if part != "origin"}

    own = config["sites"]["shop"]
    users = {**config["nginx"]["auth_basic_users"], **own["nginx"]["auth_basic_users"]}
    lines = "".join(f"{name}:{value}\n" for name, value in users.items())
    assert read("-front-site-shop-apply") == {"env": {}, "files": {"htpasswd": lines}, "address": "198.51.100.7"}
    assert read("-front-host-apply")["tls"] == {
        DOMAINS[""]: config["tls"],
        DOMAINS["sites.shop."]: own["tls"],
    }
    assert read("-app-1-host-apply")["tls"] == {}
    told = read("-app-1-site-shop-apply")
    assert told["pip"]["netrc"].count("machine") == 3
    assert told["pip"]["ssh_key"] == own["app"]["pip"]["ssh_key"]
    assert told["files"] == {}
    assert told["env"].items() >= {**config["app"]["env"], **own["app"]["env"]}.items()
    assert told["env"]["MYSQL_PASSWORD"] == config["mysql"]["password"]
    password = config["redis"]["password"]
    assert told["env"]["REDIS_URL"] == f"redis://:{password}@redis:6379/0"
    assert read("-redis-host-apply") == read("-redis-settle") == {"redis": {"password": password}}
    assert read("-db-host-apply") == read("-db-settle") == {"database": {"password": config["mysql"]["password"]}}


def test_neither_settings_nor_plans_show_a_secret(tmp_path: Path) -> None:
    settings = parse(_config(tmp_path), "stack")
    assert _marks().within(f"{settings!r} {settings} {settings.sites!r} {machines(settings)!r}") == set()


def _wrong(key: str) -> list[Any]:
    """Values that a secret may not have, and some that any text may be."""
    mark = MARKS[key]
    texts = (mark, mark + "\0", f"-----BEGIN PRIVATE KEY-----\n{mark}\n", f"nowhere/{mark}.pem")
    return [*texts, [mark], {"a": mark}, {mark: [mark]}]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_value_is_not_repeated(
    name: str, run_program: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    site, key = _named(name)
    config = _config(tmp_path)
    refused = []
    for wrong in _wrong(key):
        *sections, last = key.split(".")
        holder = functools.reduce(dict.__getitem__, sections, config["sites"]["shop"] if site else config)
        before = holder[last]
        # Of a map one of its values.
        holder[last] = {next(iter(before)): wrong} if isinstance(before, dict) else wrong
        try:
            run_program(config)
        except pulumi.RunError as error:
            refused.append(str(error))
            assert key in str(error), error
            assert "allowed: " in str(error)
            assert Marks(MARKS).within("".join(traceback.format_exception(error))) == set()
        holder[last] = before
    assert len(refused) >= 3, refused
    assert Marks(MARKS).within("".join(capfd.readouterr()) + caplog.text) == set()
