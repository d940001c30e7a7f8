"""YAML files, read as Pulumi reads them in Go: https://pkg.go.dev/gopkg.in/yaml.v2"""

import json
import math
import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from rehearsal.engine.errors import UserError
from schema.base import printable


class _TwiceError(Exception):
    """A map has the same key twice."""

    def __init__(self, key: str, line: int) -> None:
        super().__init__(key)
        self.line = line


# Plain scalars that are numbers to Pulumi. Unlike PyYAML, it reads a date as text, and y as true.
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"


def _number(scalar: str) -> int | float | None:
    """The number that Go's strconv.ParseInt, and then ParseFloat, read; None for what they refuse."""
    plain = scalar.replace("_", "")
    if len(plain) < 70 and _INTEGER.fullmatch(plain):
        whole = int(re.sub("^([-+]?)0([0-7])", r"\g<1>0o\2", plain), 0)
        if -(2**63) <= whole < 2**64:
            return whole
    value = float(plain) if _FLOAT.fullmatch(plain) else math.inf
    return value if math.isfinite(value) else None


class _Once(yaml.SafeLoader):
    """Reads YAML as Pulumi does. PyYAML reads 12:30 as 750, and takes the last of two equal keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class has it, too
        first: [(tag, form) for tag, form in found if tag.removeprefix(_TAG) not in ("int", "float", "timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    bool_values: ClassVar = {**yaml.SafeLoader.bool_values, "y": True, "n": False}

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        if kind is yaml.ScalarNode and implicit[0] and tag == f"{_TAG}str":
            return f"{_TAG}str" if _number(value) is None else f"{_TAG}float"
        return tag

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        found = _number(node.value)
        if found is None:
            raise yaml.constructor.ConstructorError(problem=f"{node.value} is no number", problem_mark=node.start_mark)
        return found

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                # Read y and n as text when they are keys.
                key.tag = f"{_TAG}str" if key.value in ("y", "Y", "n", "N") else key.tag
                if (key.tag, key.value) in seen:
                    raise _TwiceError(printable(key.value), key.start_mark.line + 1)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_Once.add_implicit_resolver(f"{_TAG}bool", re.compile("[yYnN]$"), list("yYnN"))
for _kind in ("int", "float"):
    _Once.add_constructor(f"{_TAG}{_kind}", _Once.construct_number)


def read(file: Path, root: Path) -> dict[str, Any]:
    """The map of a YAML file; empty for an empty file. root: messages name the file from there. Raises UserError."""
    shown = file.relative_to(root)
    try:
        return parse(file.read_bytes(), shown)
    except OSError as error:
        raise UserError(f"{shown}: {error.strerror}") from None


def parse(text: bytes, shown: Path) -> dict[str, Any]:
    """The map of a YAML text; empty for an empty text. shown: what messages name. Raises UserError."""
    try:
        content = yaml.load(text.decode(), _Once)  # noqa: S506
        # Find maps that contain themselves by an alias, and halves of surrogate pairs, which are no text.
        json.dumps(content, default=str, ensure_ascii=False).encode()
    except UnicodeError:
        raise UserError(f"{shown}: not UTF-8 text; allowed: YAML") from None
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        # PyYAML raises these also for a value that does not fit its tag.
        raise UserError(
            f"{shown}: a map that is part of itself or too deep, or a tag, a key or a number that no setting has; "
            "allowed: plain YAML"
        ) from None
    except _TwiceError as error:
        raise UserError(f"{shown}: line {error.line}: {error}: stands there twice; allowed: each key once") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise UserError(f"{shown}:{where} not YAML: {printable(problem)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{shown}: allowed: a map of keys")
    return content
