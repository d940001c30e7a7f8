"""A command is a list of arguments, and reaches a unit's or supervisor's file as that list."""

import configparser
import shlex
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schema.command import Command, for_supervisor, for_systemd, shown

READ: TypeAdapter[tuple[str, ...]] = TypeAdapter(Command)

ARGUMENTS = st.lists(
    st.text(st.sampled_from("ab \"'`;{}()[]<>|&#%$\\=:,*?!~@/é\U0001f511-"), max_size=12), min_size=1, max_size=4
)


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ("flask --app site db upgrade", ["flask", "--app", "site", "db", "upgrade"]),
        ("  python -m x\n", ["python", "-m", "x"]),
        ("sh -c 'a && b > $HOME/*'", ["sh", "-c", "a && b > $HOME/*"]),
        (r'echo "a \"b\" | ; c" \; \$x', ["echo", 'a "b" | ; c', ";", "$x"]),
        ("celery -A site worker -n w1@%h", ["celery", "-A", "site", "worker", "-n", "w1@%h"]),
        ("env A=1 ./manage.py run --name=x", ["env", "A=1", "./manage.py", "run", "--name=x"]),
        (["python", "a b", "", "$x|*"], ["python", "a b", "", "$x|*"]),
    ],
)
def test_a_text_or_a_list_becomes_arguments(given: Any, arguments: list[str]) -> None:
    assert list(READ.validate_python(given)) == arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a && b", "&& is a shell's"),
        ("a | b", "| is a shell's"),
        ("a; b", "; is a shell's"),
        ("a > b", "> is a shell's"),
        ("a `b`", "` is a shell's"),
        ('a "`b`"', "` is a shell's"),
        ("a & ", "& is a shell's"),
        ("a --port $PORT", "$PORT is not expanded"),
        ('a "$PORT"', "$PORT is not expanded"),
        (r'a "\$PORT"', "$PORT is not expanded"),
        ("a $(b)", "$(b is not expanded"),
        ("a ${PORT:-1}", "${PORT is not expanded"),
        ("a ~/b", "~ is not expanded"),
        ("a *.json", "* is not expanded"),
        ("A=1 b", "A= before a command is a shell's; allowed: app.env"),
        (["A=1", "b"], "A= before a command"),
        ("cd web", "cd is a shell's own word"),
        ("a 'b", "a quote is not closed"),
        ("a b \\", "a quote is not closed"),
        ("", "allowed: a program"),
        ([], "allowed: a program"),
        ("'' a", "allowed: a program"),
        ("-m x", "starts with a program's name"),
        ("a\nb", "on one line"),
        ("a 'b\nc'", "on one line"),
        (["a", "b\0"], "without control characters"),
        (["a", "\x1b"], "without control characters"),
        ("a @@venv@@", "without @@"),
        ("a" * 4001, "4000 characters at most"),
    ],
)
def test_what_only_a_shell_could_run_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        READ.validate_python(given)
    assert message in str(error.value)


@given(ARGUMENTS)
def test_supervisor_reads_the_same_arguments(arguments: list[str]) -> None:
    # As supervisor's own UnhosedConfigParser does.
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(f"[program:x]\ncommand={for_supervisor(tuple(arguments))}\n")
    assert shlex.split(parser["program:x"]["command"] % {}) == arguments


@given(ARGUMENTS)
def test_systemd_reads_the_same_arguments(arguments: list[str]) -> None:
    assert systemd(for_systemd(tuple(arguments))) == arguments


def systemd(line: str) -> list[str]:
    """The arguments of ExecStart=, by the rules of systemd.service(5): quotes, escapes, specifiers, variables."""
    found, rest = [], line
    while rest:
        assert rest[0] == '"'
        end = 1
        word = ""
        while rest[end] != '"':
            if rest[end] == "\\":
                assert rest[end + 1] in '\\"x'
                is_code = rest[end + 1] == "x"
                word += chr(int(rest[end + 2 : end + 4], 16)) if is_code else rest[end + 1]
                end += 4 if is_code else 2
            else:
                word += rest[end]
                end += 1
        assert word.count("%") == 2 * word.count("%%")
        assert word.count("$") == 2 * word.count("$$")
        found.append(word.replace("%%", "%").replace("$$", "$"))
        assert rest[end + 1 : end + 2] in ("", " ")
        rest = rest[end + 2 :]
    return found


@given(st.lists(st.text(string.printable[:95], max_size=8), min_size=1, max_size=3))
def test_what_is_shown_can_be_typed(arguments: list[str]) -> None:
    assert shlex.split(shown(tuple(arguments))) == arguments
