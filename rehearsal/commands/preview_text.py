"""A preview as text: what happens to each resource, which files change, and what is unavailable for how long."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from contract.documents import APP_FOLDER, SOURCE_FOLDER, TOOL_FOLDER
from contract.resources import USER_DATA_LIMIT
from rehearsal.commands.foresee import Change, Preview
from rehearsal.commands.interruptions import away
from rehearsal.commands.rendered_files import CODE, Rendered
from rehearsal.commands.show import COLOURS, heading
from rehearsal.engine.compare import KNOWN_LATER, Op
from schema.base import printable

# Differences of at most so many lines are shown without --diff.
_SHORT = 40
# So many files of a folder of CODE are named.
_NAMED = 5
# Text and style.
Line = tuple[str, str]


def lines(preview: Preview, details: bool = False) -> Iterator[Line]:
    """The lines of a preview. details: all differences and changed inputs, however many."""
    for change in preview.changes:
        if change.op is not Op.SAME:
            note = f" [{change.note}]" if change.note else ""
            yield f"  {heading(change.op, change.record.type, change.record.name)}{note}", COLOURS[change.op]
            if details:
                yield from ((f"       {text}", "dim") for text in _inputs(change))
    yield from _file_lines(preview.files, details)
    yield from ((text, "yellow") for text in away(preview))
    yield counted(preview.changes), "bold"


def counted(changes: Iterable[Change]) -> str:
    """One line, such as `3 to create, 9 unchanged`."""
    words = {
        Op.CREATE: "to create", Op.UPDATE: "to update", Op.REPLACE: "to replace", Op.DELETE: "to delete",
        Op.SAME: "unchanged",
    }  # fmt: skip
    ops = [change.op for change in changes]
    return ", ".join(f"{ops.count(op)} {word}" for op, word in words.items() if op in ops) or "nothing"


def _inputs(change: Change) -> Iterator[str]:
    """All inputs of a new resource, or the inputs that change, without the texts that are shown as files."""
    if change.new is None:
        return
    old = change.old.inputs if change.old else {}
    for key in sorted({*old, *change.new.inputs}):
        before, after = old.get(key), change.new.inputs.get(key)
        if before != after and key != "userData":
            yield f"{key}: {_value(after)}" if change.old is None else f"{key}: {_value(before)} → {_value(after)}"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(_readable(value), ensure_ascii=False, sort_keys=True)
    first, *others = text.splitlines() or [""]
    return f"{first} … ({len(others) + 1} lines)" if others else first.strip('"')


def _readable(value: Any) -> Any:
    if value == KNOWN_LATER:
        return "known later"
    if isinstance(value, dict):
        return "[secret]" if set(value) == {"secret"} else {key: _readable(item) for key, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list) else value


def _file_lines(files: Sequence[Rendered], details: bool) -> Iterator[Line]:
    texts = [
        len(difference)
        for rendered in files
        for name, difference in rendered.differences.items()
        if not name.startswith(CODE)
    ]
    # Hide the texts of a new set of files, because they are long and say nothing about a change.
    short = sum(texts) <= _SHORT and all(rendered.old is not None for rendered in files)
    # The user's own files come before those that all sites share.
    for rendered in sorted(files, key=lambda rendered: not rendered.has_application):
        if rendered.differences:
            yield from _differences(rendered, details or short)
    if texts and not details and not short:
        yield "  --diff shows the texts", "dim"


def _differences(rendered: Rendered, with_texts: bool) -> Iterator[Line]:
    yield rendered.title, "bold"
    yield from _named(rendered, APP_FOLDER)
    for name, difference in rendered.differences.items():
        if not name.startswith(CODE):
            yield f"  {_summary(rendered, name, difference)}", ""
            if with_texts:
                yield from ((f"    {text}", _colour(text)) for text in difference[2:])
    yield from _named(rendered, SOURCE_FOLDER)
    yield from _named(rendered, TOOL_FOLDER)


def _named(rendered: Rendered, folder: str) -> Iterator[Line]:
    """One line with the files of a folder of CODE, each with its sign unless all have the same."""
    signs = {name: _sign(rendered, name) for name in rendered.differences if name.startswith(folder)}
    # What goes away comes first, because it may be missed.
    names = sorted(signs, key=lambda name: ("-~+".index(signs[name]), name))
    if names:
        mixed = len(set(signs.values())) > 1
        shown = [f"{f'{signs[name]} ' if mixed else ''}{printable(name.removeprefix(folder))}" for name in names]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"  {'~' if mixed else signs[names[0]]} {folder}: {', '.join(shown[:_NAMED])}{more}", ""


def _sign(rendered: Rendered, name: str) -> str:
    if rendered.old is None or name not in rendered.old:
        return "+"
    return "~" if name in rendered.new else "-"


def _summary(files: Rendered, name: str, difference: Sequence[str]) -> str:
    size = f", {len(files.new[name].encode())} of {USER_DATA_LIMIT} bytes" if name == "user data" else ""
    sign = _sign(files, name)
    if sign == "+":
        return f"+ {name}: {len(difference) - 3} lines{size}"
    if sign == "-":
        return f"- {name}"
    more, less = (sum(line.startswith(sign) for line in difference[2:]) for sign in "+-")
    return f"~ {name}: +{more} -{less} lines{size}"


def _colour(text: str) -> str:
    return {"+": "green", "-": "red", "@": "cyan"}.get(text[:1], "")
