"""No text of a stack's settings but nginx.extra ends its place in a file: walked over all that there are.

A hostile text is refused in one line that names file and key, or every file that a server gets from it has the
structure that it has with an ordinary text, as read by what reads such files: crossplane for nginx's, shlex for a
shell's, Python's own parsers for YAML, JSON and Python, and readers of ini files, units and SQL.
"""

import ast
import functools
import itertools
import json
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import crossplane
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from serving import bootstrap, host_files, machines, nginx, release_files
from settings import SettingsError
from settings.loader import parse
from settings.models import Settings
from tests.conftest import PUBLIC_KEY
from tests.unit.machine import module
from tests.unit.test_nginx import HASH, Tree, nested

FILE = "stacks/Pulumi.test.yaml"
# It is there to bring directives of its own.
FREE = "nginx.extra"


def places(kind: Any, path: str = "") -> Iterator[str]:
    """Where a type of the settings has text: a.b, a.b[] in a list, a.b{} for a map's names, a.b{}: for its values."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in (str, SecretStr):
        yield path
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield from places(field.annotation, f"{path}.{name}" if path else name)
    elif origin is Annotated:
        yield from places(arguments[0], path)
    elif origin in (Union, UnionType):
        for one in arguments:
            yield from places(one, path)
    elif origin is tuple:
        yield from places(arguments[0], f"{path}[]")
    elif origin is dict:
        yield from places(arguments[0], f"{path}{{}}")
        yield from places(arguments[1], f"{path}{{}}:")
    else:
        assert origin is Literal or kind in (int, bool, NoneType, Any), f"{path}: a type that this does not know"


SOURCE = {"install": "source", "version": "2.0.31", "archive": "https://example.com/a.tar.gz", "sha256": "ab" * 32}
AUTH = {"nginx": {"auth_basic": "Staff", "auth_basic_users": {"ada": HASH}}}
MYSQL = {"mysql": {"password": "x"}}
ACME = {"site": {"server_name": "www.example.com"}, "tls": {"acme": True}}
GIVEN = {"site": {"server_name": "www.example.com"}, "tls": {"certificate": "c.pem", "private_key": "k.pem"}}
SYSTEMD = {"serving": {"process_manager": "systemd"}}
SITES = {"sites": {"blog": {"app": {"module": "blog"}}}}

# An ordinary text for each place, and what else must be set there.
ORDINARY: dict[str, str | tuple[str, dict[str, Any]]] = {
    "app.source": "./app",
    "app.module": "mysite.wsgi",
    "app.wsgi_file": "site.wsgi",
    "app.callable": "application",
    "app.requirements": "requirements.txt",
    "app.env{}": "TOKEN",
    "app.env{}:": "text",
    "app.health": "/healthz",
    "app.exclude[]": "*.log",
    "site.name": "shop",
    "site.server_name": "www.example.com",
    "site.location": "/blog/",
    "server.instance_type": "ecs.e-c1m1.large",
    "server.image": "m-bp1",
    "server.zone": "cn-hangzhou-i",
    "server.mirrors.packages[]": "https://mirror.example.com/debian",
    "server.mirrors.epel[]": ("https://mirror.example.com/epel", {"server": {"os": "centos7"}}),
    "server.mirrors.index[]": "https://mirror.example.com/simple/",
    "network.cidr": ("10.0.0.0/16", MYSQL),
    "topology.instance_type": ("ecs.e-c1m1.large", {"topology": {"app_servers": 1}}),
    "access.http[]": "203.0.113.0/24",
    "access.ssh[]": "203.0.113.0/24",
    "access.public_key": PUBLIC_KEY,
    "access.private_key_file": "~/.ssh/id_ed25519",
    "access.host_key": PUBLIC_KEY,
    "uwsgi.version": "2.0.31",
    "uwsgi.archive": (SOURCE["archive"], {"uwsgi": SOURCE}),
    "uwsgi.sha256": (SOURCE["sha256"], {"uwsgi": SOURCE}),
    "uwsgi.prefix": ("/opt/uwsgi", {"uwsgi": SOURCE}),
    "uwsgi.socket": "127.0.0.1:8080",
    "uwsgi.http_socket": "127.0.0.1:8080",
    "uwsgi.http": "127.0.0.1:8080",
    "uwsgi.chmod_socket": "666",
    "uwsgi.pythonpath[]": "lib",
    "uwsgi.uid": "www",
    "uwsgi.gid": ("www", SYSTEMD),
    "uwsgi.static_map{}": "/s/",
    "uwsgi.static_map{}:": "static",
    "gunicorn.bind": "127.0.0.1:8080",
    "gunicorn.user": "www",
    "gunicorn.group": ("www", SYSTEMD),
    "nginx.version": ("2.0.31", {"nginx": SOURCE}),
    "nginx.archive": (SOURCE["archive"], {"nginx": SOURCE}),
    "nginx.sha256": (SOURCE["sha256"], {"nginx": SOURCE}),
    "nginx.prefix": ("/opt/nginx", {"nginx": SOURCE}),
    "nginx.user": "www",
    "nginx.charset": "gbk",
    "nginx.client_max_body_size": "1m",
    "nginx.upstream.weights{}": ("app-1", {"topology": {"app_servers": 2}}),
    "nginx.static{}": "/a/",
    "nginx.static{}:": "b",
    "nginx.static_expires": "2h",
    "nginx.gzip_types[]": "text/css",
    "nginx.error_page{}:": "404.html",
    "nginx.cache.max_size": "1m",
    "nginx.cache.bypass_cookies[]": "session",
    "nginx.cache.bypass_header": "X-Fresh",
    "nginx.limit_req.rate": "1r/s",
    "nginx.set_real_ip_from[]": "10.0.0.0/8",
    "nginx.allow[]": "10.0.0.0/8",
    "nginx.deny[]": "10.0.0.0/8",
    "nginx.auth_basic": ("Staff", AUTH),
    "nginx.auth_basic_users{}": ("ada", {"nginx": {"auth_basic": "Staff"}}),
    "nginx.auth_basic_users{}:": (HASH, {"nginx": {"auth_basic": "Staff"}}),
    "nginx.add_header{}": "X-A",
    "nginx.add_header{}:": "default-src 'self'",
    "nginx.hide_header[]": "X-A",
    "tls.certificate": ("c.pem", GIVEN),
    "tls.private_key": ("k.pem", GIVEN),
    "tls.directory": ("https://ca.example.com/dir", ACME),
    "tls.ca": ("ca.pem", ACME),
    "mysql.database": ("app", MYSQL),
    "mysql.user": ("app", MYSQL),
    "mysql.password": ("x", MYSQL),
    "mysql.schema_files[]": ("schema.sql", MYSQL),
    "mysql.innodb_buffer_pool_size": ("512M", MYSQL),
    "mysql.instance_type": ("ecs.e-c1m1.large", MYSQL),
    "sites{}": "shop",
    "sites{}:{}": "app",
    "sites{}:{}:{}": "module",
}
# The name or value beside the one that is tried in a map.
BESIDE = {
    "app.env": ("TOKEN", "text"),
    "uwsgi.static_map": ("/s/", "static"),
    "nginx.upstream.weights": ("app-1", 2),
    "nginx.static": ("/a/", "b"),
    "nginx.error_page": ("404", "404.html"),
    "nginx.auth_basic_users": ("ada", HASH),
    "nginx.add_header": ("X-A", "b"),
}
# Each brings the texts to files of another kind.
KINDS: tuple[dict[str, Any], ...] = (
    {"server": {"os": "debian12"}},
    {"uwsgi": {"config": "command_line", "logto": True}, "server": {"os": "centos7"}},
    {"uwsgi": {"dynamic": True}, "server": {"os": "alinux3"}},
    {**SYSTEMD, "uwsgi": {"config": "command_line"}},
    {"serving": {"process_manager": "emperor"}},
    {"serving": {"app_server": "gunicorn"}},
    {"serving": {"app_server": "gunicorn", "process_manager": "systemd"}},
    {"topology": {"app_servers": 1}, **MYSQL},
    {"serving": {"front": "none"}, "uwsgi": {"http": "0.0.0.0:8080"}},
)
# Free text that goes into no file that a server reads, or as JSON.
FREE_LENGTH = {"app.env{}:", "tls.certificate", "tls.private_key", "mysql.password"}
FRAGMENTS = (
    *"\"'`;{}()[]<>|&#%$\\=:,*?!~@/ \t\n\r\0\v\f",
    *("\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ufeff", "\u00e9", "\u202e", "\U0001f511", "\ud800"),
    *("..", "../", "--", "/*", "*/", "${x}", "$(x)", "`x`", "%(x)s", "%n", "@(x)", "{{x}}", "{% x %}", "@@venv@@"),
    *("; deny all;", "}\nserver {", '"; #', "'; DROP TABLE x; -- ", "\n[section]\nx = y", "\nExecStart=/x", ": x\n- y"),
)


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(one)
    for name, value in other.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = merged(found[name], value) if both else value
    return found


def placed(place: str, text: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of a kind with a text at a place."""
    if place.startswith("sites"):
        own = {"sites{}": {text: {}}, "sites{}:{}": {"blog": {text: {}}}}.get(place, {"blog": {"app": {text: "blog"}}})
        return merged(kind, {"sites": own})
    key = place.rstrip("{}[]:")
    value: Any = text
    if place.endswith("[]"):
        value = [text]
    elif place.endswith("{}"):
        value = {text: BESIDE[key][1]}
    elif place.endswith(":"):
        value = {BESIDE[key][0]: text}
    for name in reversed(key.split(".")):
        value = {name: value}
    return merged(merged(kind, of(place)[1]), value)


def of(place: str) -> tuple[str, dict[str, Any]]:
    found = ORDINARY[place]
    return found if isinstance(found, tuple) else (found, {})


def files(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and text of every file that the servers of a stack get, and of the SQL that they run. Raises SettingsError.

    The names stand in one order, whatever the sites and files are called.
    """
    found = parse(config, FILE)
    texts: list[tuple[str, str]] = []
    for machine in machines(found):
        texts += [("user-data.yaml", bootstrap.user_data(machine.plan, found))]
        for own in (host_files(machine.plan), *map(release_files, machine.plan.sites)):
            texts += [(name, text) for name, text in own.items() if not name.startswith("tool/")]
        if machine.plan.role == "db":
            texts += [("accounts.sql", module("database").accounts(machine.plan.host, "x", None))]
    for site in found.each:
        texts += [("htpasswd", text.get_secret_value()) for text in nginx.secret_files(site).values()]
    return texts


@functools.cache
def structure(name: str, text: str) -> Any:
    """What a file says without its texts."""
    # In what the release tool fills in, two @@ begin or end a fact.
    marks = 0 if name in ("host.json", "htpasswd") else text.count("@@")
    unseen = len(re.findall(r"[\0\r\v\f\x1b\x7f\x85\u2028\u2029]", text))
    return marks, unseen, _structure(name, text)


def _structure(name: str, text: str) -> Any:
    name = name.rpartition("/")[2]
    if text.startswith("#!/bin/sh") or text.startswith("#!/bin/bash") or name.endswith(".sh"):
        return shell(text)
    if name in ("nginx.conf", "http.conf", "server.conf"):
        return of_nginx(text)
    if name.endswith(".json"):
        return of_values(json.loads(text))
    if name.endswith(".yaml"):
        read = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        written = [structure(file["path"], file.pop("content")) for file in read["write_files"]]
        return written, of_values(read)
    if name.endswith(".py"):
        return of_python(text)
    if name.endswith(".sql"):
        return re.sub(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`", "", text)
    if name.endswith((".ini", ".cnf", ".service", ".timer", ".repo")) or name == "supervisor.conf":
        return of_ini(text)
    # Lines of words: tmpfiles, sysctl, limits, htpasswd.
    return [len(re.split(r"[\s:]+", line)) for line in text.split("\n")]


def of_nginx(text: str) -> Any:
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8", dir=_folder()) as file:
        file.write(text)
        file.flush()
        read = crossplane.parse(file.name, single=True, comments=False, check_ctx=False, check_args=False)
    assert read["status"] == "ok", read["errors"]
    return shape(nested(read["config"][0]["parsed"]))


def shape(found: Tree) -> Tree:
    """The directives with the number of their arguments, and of the variables in them."""
    return tuple(
        (name, len(arguments), sum(one.count("$") for one in arguments), shape(block))
        for name, arguments, block in found
    )


@functools.cache
def _folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def shell(text: str) -> Any:
    words = shlex.shlex(text, posix=False, punctuation_chars=True)
    words.whitespace_split = True
    return [word if set(word) <= set(";|&()<>") else len(re.findall(r"[$`\\\n]", word)) for word in words]


def of_values(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return [of_values(item, key) for key, item in sorted(value.items())]
    if isinstance(value, list):
        return [of_values(item) for item in value]
    # A file in a file.
    return _structure(name, value) if name.endswith((".conf", ".ini")) else type(value).__name__


def of_python(text: str) -> Any:
    return [type(node).__name__ for node in ast.walk(ast.parse(re.sub("@@[a-z_]+@@", "0", text)))]


def of_ini(text: str) -> Any:
    """Lines as ini files and units have them: sections, keys, words of a command, and what would be expanded."""
    found: list[Any] = []
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if not equals or line.startswith(("[", "#", ";", " ", "\t")):
            # A section, a comment, a blank line, or one that goes on with the value before it.
            found.append(re.sub(":.*", "", line) if line.startswith("[") else line[:1])
            continue
        plain = re.sub(r"%%|\$\$", "", value)
        words = len(shlex.split(value)) if key.strip() in ("command", "ExecStart") else 1
        found.append((key.strip(), words, len(re.findall(r"%|\$|@\(", plain)), value.endswith("\\")))
    return found


def refusal(place: str, text: str, kind: Mapping[str, Any]) -> str:
    """Why a text is refused, empty when it is taken."""
    key = place.rstrip("{}[]:")
    try:
        parse(placed(place, text, kind), FILE)
    except SettingsError as error:
        line = str(error)
        assert line.startswith(f"{FILE}: {key}"), f"{place}: {line!r} does not name it"
        assert line.isprintable(), f"{place}: {line!r} is more than a line"
        assert "allowed: " in line, f"{place}: {line!r}"
        return line
    return ""


def check(place: str, texts: Iterable[str]) -> None:
    """Hold the files that come from each text against those of the ordinary one, a kind after the other."""
    turns = itertools.cycle(kinds(place))
    reached: dict[int, bool] = {}
    for text in texts:
        number = next(turns)
        # What is in no file with one text is in none with another.
        if not refusal(place, text, KINDS[number]) and reached.get(number, True):
            wanted, found = ordinary(place, number), files(placed(place, text, KINDS[number]))
            reached[number] = found != wanted
            if (place, text) == ("site.location", "/"):
                # The whole of its domain, which stands otherwise in the files.
                continue
            for (name, before), (_, after) in zip(wanted, found, strict=True):
                after.encode()
                same = before == after or structure(name, before) == structure(name, after)
                assert same, f"{place}: {text!r} changes {name}"


@functools.cache
def ordinary(place: str, kind: int) -> list[tuple[str, str]]:
    return files(placed(place, of(place)[0], KINDS[kind]))


@functools.cache
def kinds(place: str) -> list[int]:
    """Those in which the ordinary text may stand at the place."""
    found = []
    for number, kind in enumerate(KINDS):
        try:
            parse(placed(place, of(place)[0], kind), FILE)
        except SettingsError:
            continue
        found.append(number)
    return found


PLACES = sorted({*places(Settings)} - {FREE})


def test_every_text_of_the_settings_has_an_ordinary_one_here() -> None:
    """Whoever adds a setting gives it one."""
    assert set(PLACES) == set(ORDINARY)
    assert [place for place in PLACES if not kinds(place)] == []


@pytest.mark.parametrize("place", PLACES)
def test_no_text_ends_its_place(place: str) -> None:
    text = of(place)[0]
    cuts = itertools.cycle((0, 2, len(text)))
    check(place, (text[:at] + fragment + text[at:] for fragment, at in zip(FRAGMENTS, cuts, strict=False)))
    check(place, FRAGMENTS)


@pytest.mark.parametrize("place", sorted({*PLACES} - FREE_LENGTH))
def test_no_text_is_longer_than_what_reads_it_takes(place: str) -> None:
    assert refusal(place, of(place)[0] * 5000, KINDS[kinds(place)[0]])


@given(place=st.sampled_from(PLACES), text=st.text() | st.lists(st.sampled_from(FRAGMENTS)).map("".join))
@settings(deadline=None, max_examples=100)
def test_no_text_at_all_ends_its_place(place: str, text: str) -> None:
    check(place, (text, of(place)[0] + text))


def test_a_secret_is_in_no_refusal() -> None:
    for place in ("app.env{}:", "tls.private_key", "mysql.password", "nginx.auth_basic_users{}:"):
        for fragment in FRAGMENTS:
            assert "hunter2" not in refusal(place, f"hunter2{fragment}", KINDS[kinds(place)[0]])
