"""Commands: a text that a shell would split, or a list of arguments. No shell ever reads either.

The quoting functions at the end write a command as a unit's or supervisor's file takes it.
"""

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

Arguments = tuple[str, ...]

_LONGEST = 4000
_ONE_LINE = "allowed: a command on one line, without control characters"
# Words that only a shell knows.
_BUILTINS = ("cd", "source", ".", "export", "set", "unset", "exec", "eval", "alias", "ulimit", "umask", "if", "for")
# A backslash with the character that it protects, or a quoted part.
_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""")
_OPERATOR = re.compile(r"&&|\|\||[|&;<>()`]")
_VARIABLE = re.compile(r"\$[A-Za-z0-9_{(]*")
_PATTERN = re.compile(r"(?:^|\s)~|[*?]")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_HOW_WITH_A_SHELL = "a script inside app.source, or sh -c '…' as the command"


def _bare(text: str) -> str:
    """The part of a text that a shell would read as its own; between double quotes that is only $ and `."""

    def replace(match: re.Match[str]) -> str:
        part = match.group()
        return "".join(re.findall(r"`|\$[A-Za-z0-9_{(]*", part)) if part.startswith('"') else "_"

    return _QUOTED.sub(replace, text)


def sequence(text: str) -> list[str]:
    """The commands of a text that && joins, which run one after the other without a shell, too."""
    ends = [0]
    for match in re.finditer(rf"{_QUOTED.pattern}|&&", text):
        if match.group() == "&&":
            ends += [match.start(), match.end()]
    ends.append(len(text))
    return [text[start:end].strip() for start, end in zip(ends[::2], ends[1::2], strict=True)]


def _split(value: object) -> object:
    """Split a text into its arguments. Raises ValueError for a text that only a shell could run."""
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, str):
        raise ValueError("allowed: a command as text, or a list of its arguments")
    text = value.strip()
    if not text.isprintable():
        raise ValueError(_ONE_LINE)
    bare = _bare(text)
    operator, variable, pattern = _OPERATOR.search(bare), _VARIABLE.search(bare), _PATTERN.search(bare)
    if variable:
        raise ValueError(
            f"{variable.group()} is not expanded, because no shell runs it; "
            f"allowed: the value itself, '$' in single quotes, or sh -c '…' as the command"
        )
    if operator:
        raise ValueError(f"{operator.group()} is a shell's, and no shell runs it; allowed: {_HOW_WITH_A_SHELL}")
    if pattern:
        raise ValueError(
            f"{pattern.group().strip()} is not expanded, because no shell runs it; "
            "allowed: the names themselves, or the character in quotes"
        )
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise ValueError("a quote is not closed; allowed: quotes in pairs, such as 'two words'") from None


def _check(value: Arguments) -> Arguments:
    if not value or not value[0]:
        raise ValueError("allowed: a program and its arguments, such as python manage.py migrate --noinput")
    if not all(argument.isprintable() for argument in value):
        raise ValueError(_ONE_LINE)
    if sum(map(len, value)) > _LONGEST:
        raise ValueError(f"allowed: a command of {_LONGEST} characters at most")
    if any("@@" in argument for argument in value):
        raise ValueError("allowed: a command without @@, which stands for values of the server")
    program = value[0]
    if _ASSIGNMENT.match(program):
        raise ValueError(
            f"{program.partition('=')[0]}= before a command is a shell's; allowed: app.env with the variable, "
            "or env NAME=value as the command's beginning"
        )
    if program in _BUILTINS:
        raise ValueError(f"{program} is a shell's own word, and no shell runs it; allowed: {_HOW_WITH_A_SHELL}")
    if program.startswith("-"):
        raise ValueError("allowed: a command that starts with a program's name")
    return value


# A text or a list of texts, as a tuple of arguments.
Command = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_check)]


def shown(command: Arguments) -> str:
    """A command as a user types it."""
    return shlex.join(command)


def for_systemd(command: Arguments) -> str:
    """A command for a unit's ExecStart=. The first argument must be an absolute path, as systemd 219 needs it."""
    return " ".join(map(_systemd_argument, command))


def _systemd_argument(argument: str) -> str:
    # A lone ; ends a command, and CentOS 7's systemd looks for it without its quotes.
    if argument == ";":
        return r'"\x3b"'
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def for_supervisor(command: Arguments) -> str:
    """A command for a program's command= in supervisor's configuration."""
    return " ".join(map(_supervisor_argument, command))


def _supervisor_argument(argument: str) -> str:
    quoted = "'{}'".format(argument.replace("'", "'\"'\"'"))
    # A ; or # after a space begins a comment even between quotes, so each comes right after a quote.
    return re.sub("[;#]", r"''\g<0>", quoted).replace("%", "%%")
