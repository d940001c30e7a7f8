"""No text of a stack's settings but nginx.extra ends its place in a file: walked over all that there are.

A hostile text is refused in one line that names file and key, or every file that a server gets from it has the
structure that it has with an ordinary text, as read by what reads such files: crossplane for nginx's, shlex for a
shell's, Python's own parsers for YAML, JSON and Python, and readers of ini files, units and SQL.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from reference.samples import FILE, MYSQL, ORDINARY, SYSTEMD, key_of, of, placed
from settings import SettingsError
from settings.loader import parse
from settings.stack import Document
from tests.builders.rendered import files
from tests.builders.structure import structure

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


SITES = {"sites": {"blog": {"app": {"module": "blog"}}}}

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


def refusal(place: str, text: str, kind: Mapping[str, Any]) -> str:
    """Why a text is refused, empty when it is taken."""
    key = key_of(place)
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


PLACES = sorted({*places(Document)} - {FREE})


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
