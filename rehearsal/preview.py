"""What an `up` would do: the program run dry by the same engine.

recorded state ─▶ engine, dry, over a copy of it ─▶ changes ─▶ lines, files and their differences, time away
"""

import difflib
import logging
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter

from rehearsal import image, program
from rehearsal.compare import Op
from rehearsal.engine import Engine
from rehearsal.keys import Keys
from rehearsal.resources import Context, pairs
from rehearsal.stack import Stack, section
from rehearsal.state import Imagined, Record, State

_COPY = "command:remote:CopyToRemote"
# Folders of an archive whose files are named and not shown: the application's own code, and the release tool.
CODE = ("app/", "tool/")
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class _Manifest:
    """Name → mode and digest of each file, as components/archive.py writes it."""

    files: dict[str, tuple[str, str]]


_LISTED = TypeAdapter(_Manifest)


@dataclass(frozen=True)
class Change:
    """What happens to one resource. old, new: its record before and after. note: why, or what it interrupts."""

    op: Op
    note: str
    old: Record | None
    new: Record | None

    @property
    def record(self) -> Record:
        found = self.new or self.old
        assert found is not None  # noqa: S101  There is no change of nothing.
        return found


@dataclass(frozen=True)
class Rendered:
    """Files of one place. old, new: name → text; old is None where nothing was. lost: or nothing is known of it."""

    title: str
    old: Mapping[str, str] | None
    new: Mapping[str, str]
    lost: bool = False

    @cached_property
    def differences(self) -> dict[str, list[str]]:
        """Name → lines of its unified diff, of the files that differ."""
        old = self.old or {}
        found = {}
        for name in sorted({*old, *self.new}):
            one, other = old.get(name, ""), self.new.get(name, "")
            if (name in old, one) != (name in self.new, other):
                lines = difflib.unified_diff(
                    one.splitlines(),
                    other.splitlines(),
                    _end(name, name in old),
                    _end(name, name in self.new),
                    "",
                    "",
                    2,
                    "",
                )
                found[name] = list(lines)
        return found


def _end(name: str, there: bool) -> str:
    return name if there else "/dev/null"


@dataclass(frozen=True)
class Preview:
    """changes: in the order in which they are made. refused: what may not be done, and how it can be.

    files: what is rendered anew. front: whether nginx stands before every application.
    """

    changes: Sequence[Change]
    refused: Sequence[str]
    files: Sequence[Rendered]
    front: bool

    def records(self, type_: str) -> list[Record]:
        """What there is of a type afterwards."""
        return [change.new for change in self.changes if change.new is not None and change.new.type == type_]

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return any(change.op is not Op.SAME for change in self.changes)


class _Watched:
    """Writes down what the engine does: key → operation and note."""

    def __init__(self) -> None:
        self.done: dict[str, tuple[Op, str]] = {}

    def started(self, key: str, op: Op, type_: str, name: str) -> None:
        pass

    def finished(self, key: str, op: Op, type_: str, name: str, seconds: float, note: str) -> None:
        self.done[key] = op, note

    def failed(self, key: str, type_: str, name: str, message: str) -> None:
        pass


def foresee(root: Path, stack: Stack, state: State, keys: Keys, logger: logging.Logger) -> Preview:
    """Run the program dry over what is recorded. state: not touched. Raises UserError for what the program refuses."""
    imagined = Imagined(state)
    watched = _Watched()
    engine = Engine(Context(root, imagined, keys, "", image.CACHE, lambda text: None), watched, dry=True)
    program.dry(root, stack, engine, logger)
    engine.delete_rest()
    changes = list(_changes(state, imagined, watched.done))
    sites = [site.get("serving") for site in section(stack, "sites").values() if isinstance(site, dict)]
    fronts = [serving.get("front") for serving in (section(stack, "serving"), *sites) if isinstance(serving, dict)]
    return Preview(changes, engine.refused, list(_files(root, changes)), "none" not in fronts)


def _changes(before: State, after: State, done: Mapping[str, tuple[Op, str]]) -> Iterator[Change]:
    """In the order of dependencies, which is the engine's; what is deleted comes last, in its own."""
    made = {
        key: Change(op, note, before.done(key), after.done(key)) for key, (op, note) in done.items() if "#" not in key
    }
    depths: dict[str, int] = {}

    def depth(urn: str) -> int:
        if urn not in depths:
            depths[urn] = 1 + max((depth(other) for other in made[urn].record.dependencies if other in made), default=0)
        return depths[urn]

    yield from (made[urn] for urn in sorted(made, key=lambda urn: (depth(urn), urn)))
    serials = {record.serial: record for record in before.records()}
    for key, (op, note) in done.items():
        _, _, serial = key.partition("#")
        # Of one that is replaced now its successor's line tells.
        if serial in serials and (not note or serials[serial].status != "done"):
            yield Change(op, note, serials[serial], None)


def _files(root: Path, changes: Iterable[Change]) -> Iterator[Rendered]:
    """Files that come onto a machine, each set of them once."""
    copied: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        if change.new is None or change.op not in (Op.CREATE, Op.REPLACE, Op.UPDATE):
            continue
        if change.new.type == pairs.INSTANCE and change.op is not Op.UPDATE:
            old = {"user data": change.old.inputs.get("userData", "")} if change.old else None
            yield Rendered(f"{change.new.name} boots with", old, {"user data": change.new.inputs.get("userData", "")})
        elif change.new.type == _COPY:
            places = (_archive(change.old), _archive(change.new))
            copied.setdefault(places, []).append(change.new.name.removesuffix("-archive"))
    for (one, other), names in copied.items():
        if one != other and (new := _unpacked(root, other)) is not None:
            old = _unpacked(root, one)
            lost = bool(one) and old is None
            after = ", after a release that .build no longer has" if lost else ""
            yield Rendered(f"{', '.join(names)} gets{after}", old, new, lost)


def _archive(record: Record | None) -> str:
    """Name of the archive that is copied, which its content decides; "" for none."""
    path = record.inputs.get("remotePath") if record else None
    return Path(path).name if isinstance(path, str) else ""


def _unpacked(root: Path, archive: str) -> dict[str, str] | None:
    """Texts of a release's files, digests of those that are only named, if it is still at hand."""
    texts = {}
    try:
        with tarfile.open(root / ".build" / archive) as tar:
            for member in tar:
                if not member.name.startswith(CODE) and (file := tar.extractfile(member)):
                    texts[member.name] = file.read().decode(errors="replace")
        # What it lists is shown by itself.
        listed = _LISTED.validate_json(texts.pop(_MANIFEST)).files
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, KeyError):
        return None
    return {**texts, **{name: digest for name, (_, digest) in listed.items() if name.startswith(CODE)}}
