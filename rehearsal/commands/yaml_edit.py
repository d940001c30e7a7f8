"""Edits of a YAML file's text that leave every other line as it is, comments included."""

import math
from collections.abc import Mapping, Sequence
from textwrap import indent
from typing import Any

import yaml

# A list that would make a longer line is written with one item a line.
_WIDTH = 100


class UnreadableError(Exception):
    """The file has a form that this module cannot edit."""


def with_value(text: str, path: Sequence[str], value: Any, comment: Sequence[str] = ()) -> str:
    """Return the text of a YAML file with a value at a path of keys; missing maps on the way are made.

    comment: lines above a new key; they are left out inside braces. Raises UnreadableError. The caller has to check
    what the result means: an anchor, for example, is edited wherever it is used.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UnreadableError from error
    start, end, new = (
        (len(text), len(text), _below(text, len(text), _block(path, value, 0, comment)))
        if root is None
        else _edit(text, root, path, value, comment)
    )
    return text[:start] + new.replace("\n", "\r\n" if "\r\n" in text else "\n") + text[end:]


def _edit(text: str, node: yaml.Node, path: Sequence[str], value: Any, comment: Sequence[str]) -> tuple[int, int, str]:
    """Return (start, end, what replaces text[start:end])."""
    for depth, key in enumerate(path):
        if not isinstance(node, yaml.MappingNode) or not node.value:
            break
        found = next(((name, below) for name, below in node.value if name.value == key), None)
        if found is None:
            return _insertion(text, node, path[depth:], value, comment)
        rest = path[depth + 1 :]
        if not rest or _is_nothing(found[1]):
            return _replacement(text, node, found, rest, value, comment)
        node = found[1]
    raise UnreadableError


def _insertion(
    text: str, node: yaml.MappingNode, path: Sequence[str], value: Any, comment: Sequence[str]
) -> tuple[int, int, str]:
    """Return the edit that adds a key at the end of a map that has others."""
    end = _end(*node.value[-1])
    if node.flow_style:
        return end, end, f", {_flow(_nested(path, value))[1:-1]}"
    # Insert below the last value's line, so that a comment at the end of the line stays there.
    if not text[:end].endswith("\n"):
        end = text.find("\n", end) + 1 or len(text)
    return end, end, _below(text, end, _block(path, value, node.value[0][0].start_mark.column, comment))


def _replacement(
    text: str,
    parent: yaml.MappingNode,
    pair: tuple[yaml.Node, yaml.Node],
    path: Sequence[str],
    value: Any,
    comment: Sequence[str],
) -> tuple[int, int, str]:
    """Return the edit that gives a key its first value, or another value."""
    start = text.find(":", pair[0].end_mark.index) + 1
    end = max(_end(*pair), start)
    # The text of a block scalar includes its last line break.
    line_break = "\n" if text[:end].endswith("\n") else ""
    if parent.flow_style or not (path or (isinstance(value, Mapping) and value)):
        return start, end, f" {_flow(_nested(path, value))}{line_break}"
    column = pair[0].start_mark.column + 2
    block = _block(path, value, column, comment) if path else indent(_dump(value), " " * column)
    return start, end, f"\n{block.rstrip()}{line_break}"


def _end(name: yaml.Node, value: yaml.Node) -> int:
    """Return where a key's value ends, without the comments and empty lines that PyYAML counts to a block."""
    if isinstance(value, yaml.CollectionNode) and not value.flow_style and value.value:
        last = value.value[-1]
        return _end(*last) if isinstance(value, yaml.MappingNode) else _end(last, last)
    return int(max(name.end_mark.index, value.end_mark.index))


def _is_nothing(node: yaml.Node) -> bool:
    """Return whether a value is null or an empty map."""
    return not node.value if isinstance(node, yaml.MappingNode) else node.tag == "tag:yaml.org,2002:null"


def _below(text: str, at: int, lines: str) -> str:
    """Return lines that are inserted at a place, on lines of their own."""
    return lines if not at or text[at - 1] == "\n" else f"\n{lines}"


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _block(path: Sequence[str], value: Any, column: int, comment: Sequence[str]) -> str:
    """Return the lines of a key and its value, with the comment above the innermost key of the path."""
    if len(path) > 1:
        return f"{' ' * column}{_flow(path[0])}:\n{_block(path[1:], value, column + 2, comment)}"
    above = "".join(f"# {line}\n" for line in comment)
    return indent(above + _dump({path[0]: value}), " " * column)


def _dump(value: Mapping[str, Any]) -> str:
    """Return a map in block style, with short lists in brackets."""
    lines = []
    for key, item in value.items():
        name = _flow(key)
        if isinstance(item, Mapping) and item:
            lines.append(f"{name}:\n{indent(_dump(item), '  ')}")
        elif isinstance(item, list | tuple) and len(name) + len(_flow(item)) > _WIDTH:
            lines.append(f"{name}:\n" + "".join(f"  - {_flow(part)}\n" for part in item))
        else:
            lines.append(f"{name}: {_flow(item)}\n")
    return "".join(lines)


def _flow(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
