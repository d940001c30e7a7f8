"""Changes that a command makes in a stack's file: every line that it does not change stays as it is."""

import copy
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operations.local_files import give_to_user
from rehearsal.commands.stack_file import qualified
from rehearsal.commands.yaml_edit import UnreadableError, with_value
from rehearsal.commands.yaml_file import parse
from rehearsal.engine.errors import UserError


@dataclass(frozen=True)
class Change:
    """A value at a path of keys. comment: lines above the key if it is new."""

    path: tuple[str, ...]
    value: Any
    comment: tuple[str, ...] = ()


def place(content: Mapping[str, Any], project: str, setting: tuple[str, ...]) -> tuple[str, ...]:
    """Path of a setting in the content of a stack's file, which may leave the project's name out of a key."""
    whole = f"{project}:{setting[0]}"
    section = next((key for key in content.get("config") or {} if qualified(project, key) == whole), whole)
    return ("config", section, *setting[1:])


def edited(before: bytes, changes: Iterable[Change], shown: Path) -> bytes:
    """The content of a YAML file with changes. Raises UserError for a form that cannot be edited."""
    text, expected = before.decode(), parse(before, shown)
    try:
        for change in changes:
            text = with_value(text, change.path, change.value, change.comment)
            _put(expected, change)
        found = parse(text.encode(), shown)
    except (UnreadableError, UserError):
        found = None
    if found != expected:
        raise UserError(f"{shown}: not edited, since its form is unusual; allowed: plain maps, one key a line")
    return text.encode()


def _put(content: dict[str, Any], change: Change) -> None:
    """Set a value in nested maps. A map that an anchor uses twice changes in one place only."""
    for key in change.path[:-1]:
        below = content.get(key)
        if below is not None and not isinstance(below, dict):
            raise UnreadableError
        content[key] = copy.copy(below or {})
        content = content[key]
    content[change.path[-1]] = change.value


def replace(file: Path, content: bytes) -> None:
    """Give a file new content in one step; its mode stays. The file may be missing, its folder not."""
    file = file.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(content)
        temporary.chmod(file.stat().st_mode & 0o7777 if file.exists() else 0o644)
        give_to_user(temporary)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
