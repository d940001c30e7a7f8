"""What an update would do: the same engine runs the program dry.

recorded state ─▶ engine, dry, over a copy of it ─▶ changes ─▶ refusals, files, the order of things
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from contract.resources import receiver_of
from rehearsal.cloud import tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.registry import PROVIDER
from rehearsal.commands.overlay import UNPROTECT
from rehearsal.commands.rendered_files import Rendered, archive_name, front_of, unpack
from rehearsal.engine import program
from rehearsal.engine.compare import Op
from rehearsal.engine.engine import Engine
from rehearsal.engine.stack import Stack
from rehearsal.engine.state import Record, State

# Folder of the project in which the program builds archives.
BUILD = ".build"


@dataclass(frozen=True)
class Change:
    """What happens to one resource. old, new: its record before and after. note: why, or what it interrupts."""

    op: Op
    note: str
    old: Record | None
    new: Record | None

    @property
    def record(self) -> Record:
        record = self.new or self.old
        assert record is not None  # noqa: S101  A change has at least one of the two.
        return record


@dataclass(frozen=True)
class Preview:
    """changes: in the order in which they are made. refused: why `up` refuses the update, and what to do instead.

    files: the files that are rendered anew. archives: folder with the archives of the releases.
    """

    changes: Sequence[Change]
    refused: Sequence[str]
    files: Sequence[Rendered]
    archives: Path

    def records(self, type_: str) -> list[Record]:
        """The records of a type after the update."""
        return [change.new for change in self.changes if change.new is not None and change.new.type == type_]

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return any(change.op is not Op.SAME for change in self.changes)

    @cached_property
    def has_nginx(self) -> bool:
        """Whether nginx is in front of the applications; all sites of a stack have the same front."""
        names = (archive_name(record) for record in self.records(tokens.COPY_TO_REMOTE))
        fronts = (front_of(self.archives / name) for name in names if name)
        return next((front for front in fronts if front is not None), "nginx") != "none"


class _Recorder:
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
    """Run the program dry over a copy of `state`. Raises UserError for what the program refuses."""
    imagined = state.imagined()
    recorder = _Recorder()
    context = CloudContext(root, imagined, keys, {}, lambda text: None)
    engine = Engine(context, PROVIDER, recorder, dry=True, unprotect=UNPROTECT)
    program.dry(root, stack, engine, PROVIDER, logger)
    engine.delete_rest()
    changes = list(_changes(state, imagined, recorder.done))
    archives = root / BUILD
    return Preview(changes, engine.refused, list(_files(archives, changes)), archives)


def _changes(before: State, after: State, done: Mapping[str, tuple[Op, str]]) -> Iterator[Change]:
    """The changes in the order of dependencies, as the engine makes them; deletions come last, in their own order."""
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
        # Leave out a resource that is replaced now, because its successor's line reports that.
        if serial in serials and (not note or serials[serial].status != "done"):
            yield Change(op, note, serials[serial], None)


def _boots_anew(change: Change) -> bool:
    """Whether a change makes a machine, or decides what the next machines of a scaling group boot with."""
    if change.record.type == tokens.SCALING_CONFIGURATION:
        old, new = (each.inputs.get("userData") if each else None for each in (change.old, change.new))
        return old != new or change.op is not Op.UPDATE
    return change.record.type == tokens.INSTANCE and change.op is not Op.UPDATE


def _files(archives: Path, changes: Iterable[Change]) -> Iterator[Rendered]:
    """Files that come onto a machine; the same set of files for several machines is listed once."""
    copied: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        if change.new is None or change.op not in (Op.CREATE, Op.REPLACE, Op.UPDATE):
            continue
        if _boots_anew(change):
            before = {"user data": change.old.inputs.get("userData", "")} if change.old else None
            text = change.new.inputs.get("userData", "")
            # User data that hold the address of a new file system are known later.
            if isinstance(text, str):
                yield Rendered(f"{change.new.name} boots with", before, {"user data": text})
        elif change.new.type == tokens.COPY_TO_REMOTE:
            names = (archive_name(change.old), archive_name(change.new))
            copied.setdefault(names, []).append(receiver_of(change.new.name))
    for (old_name, name), receivers in copied.items():
        if old_name != name and (new := unpack(archives / name)) is not None:
            old = unpack(archives / old_name) if old_name else None
            lost = bool(old_name) and old is None
            remark = f", after a release that {archives.name} no longer has" if lost else ""
            yield Rendered(f"{', '.join(receivers)} gets{remark}", old, new, lost)
