"""What a file says without its texts, as read by what reads such files."""

import ast
import functools
import json
import re
import shlex
import tempfile
from pathlib import Path
from typing import Any

import crossplane
import yaml

Tree = tuple[Any, ...]


def nested(directives: list[dict[str, Any]]) -> Tree:
    return tuple((one["directive"], tuple(one["args"]), nested(one.get("block", []))) for one in directives)


@functools.cache
def structure(name: str, text: str) -> Any:
    """What a file says without its texts."""
    # In what the release tool fills in, two @@ begin or end a fact.
    marks = 0 if name in ("host.json", "htpasswd") else text.count("@@")
    unseen = len(re.findall(r"[\0\r\v\f\x1b\x7f\x85\u2028\u2029]", text))
    return marks, unseen, _structure(name, text)


def _structure(name: str, text: str) -> Any:
    name = name.rpartition("/")[2]
    if name.startswith(("process-", "schedule-")) and name.endswith(".sh"):
        return arguments(text)
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
    if name.endswith((".ini", ".cnf", ".service", ".timer", ".repo")) or name in (
        "supervisor.conf",
        "supervisor-processes.conf",
    ):
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


def shape(found: Tree, is_map: bool = False) -> Tree:
    """The directives with the number of their arguments, and of the variables in them.

    is_map: the directives are those of a map, where a text stands in the place of a name.
    """
    return tuple(
        ("" if is_map else name, len(arguments), sum(one.count("$") for one in arguments), shape(block, name == "map"))
        for name, arguments, block in found
    )


@functools.cache
def _folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def shell(text: str) -> Any:
    words = shlex.shlex(text, posix=False, punctuation_chars=True)
    words.whitespace_split = True
    return [word if set(word) <= set(";|&()<>") else len(re.findall(r"[$`\\\n]", word)) for word in words]


def arguments(text: str) -> list[int]:
    """Number of words in each line of a script, in which quotes keep a word together; an operator is a word, too."""
    found = []
    for line in text.split("\n"):
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split, words.commenters = True, ""
        found.append(len(list(words)))
    return found


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
