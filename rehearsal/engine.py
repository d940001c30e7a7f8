"""What Pulumi's engine does with a registration: compare, execute, record; and at the end, delete.

A new object is made before the old one goes, unless it says delete_before_replace. Old ones
and those no longer registered go at the end, dependents first, and only if all went well.

A preview is a dry run of the same over an imagined state: what exists keeps its recorded
outputs, and those of all else are unknown.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rehearsal.compare import TWO_STEPS, Op, Options, Recorded, Step, changed, compare, delete_order
from rehearsal.errors import RehearsalError, UserError
from rehearsal.inputs import comparable
from rehearsal.resources import TYPES, Context, Foreseen, Resource
from rehearsal.state import Record


@dataclass(frozen=True)
class Registration:
    """A resource as the program registers it. inputs: plain values; secret: names of the secret inputs."""

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    secret: frozenset[str]
    dependencies: tuple[str, ...]
    options: Options
    secret_outputs: frozenset[str]


class Registrar(Protocol):
    """What a monitor hands registrations to."""

    def register(self, wanted: Registration) -> Record: ...


class Watcher(Protocol):
    """Who is told of what happens."""

    def started(self, key: str, op: Op, type_: str, name: str) -> None: ...
    def finished(self, key: str, op: Op, type_: str, name: str, seconds: float, note: str) -> None: ...
    def failed(self, key: str, type_: str, name: str, message: str) -> None: ...


class Stopped(Exception):
    """Not started, because something else failed. Says nothing by itself."""


class Engine:
    """One run over one stack. register() is called from several threads.

    dry: look, and do nothing. What may not be done is then in `refused`, and the run goes on.
    """

    def __init__(self, context: Context, watcher: Watcher, dry: bool = False) -> None:
        self.context = context
        self.watcher = watcher
        self.dry = dry
        self.refused: list[str] = []
        self.failed = False
        # An error of the rehearsal itself, rather than of what is rehearsed.
        self.broken: Exception | None = None
        self.changes = 0
        self.created: list[Record] = []
        self._urns: set[str] = set()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._busy = 0

    def register(self, wanted: Registration) -> Record:
        """Bring one resource to what is wanted. Returns its record, with all outputs in it.

        Raises Stopped when an earlier resource failed, else RehearsalError or UserError.
        """
        with self._lock:
            if wanted.urn in self._urns:
                self.failed = True
                raise UserError(f"two resources have the name {wanted.name} and the type {wanted.type}")
            self._urns.add(wanted.urn)
            if self.failed:
                raise Stopped
            self._busy += 1
        try:
            return self._register(wanted)
        except Exception as error:
            with self._lock:
                self.failed = True
            if isinstance(error, (RehearsalError, UserError)):
                self.watcher.failed(wanted.urn, wanted.type, wanted.name, str(error))
            else:
                self.broken = self.broken or error
            raise
        finally:
            with self._lock:
                self._busy -= 1
                self._idle.notify_all()

    def wait(self) -> None:
        """Return when nothing is under way any more."""
        with self._lock:
            self._idle.wait_for(lambda: self._busy == 0)

    def _handler(self, type_: str) -> Resource:
        return Foreseen(TYPES[type_]) if self.dry else TYPES[type_]

    def _refuse(self, reason: str) -> None:
        if not self.dry:
            raise RehearsalError(reason)
        with self._lock:
            self.refused.append(reason)

    def _register(self, wanted: Registration) -> Record:
        state = self.context.state
        handler = self._handler(wanted.type)
        try:
            handler.check(wanted.inputs)
        except RehearsalError as error:
            raise UserError(f"{wanted.name} ({wanted.type}): {error}") from None
        state.ensure(str(self.context.root))
        for left in state.records(wanted.type):
            if left.urn == wanted.urn and left.status == "pending":
                # Of a run that was killed or failed: what it began is unknown, so it is begun again.
                handler.delete(self.context, left)
                state.remove(left)
        inputs = comparable(wanted.inputs, wanted.secret, state.key)
        old = state.done(wanted.urn)
        gone = ""
        if old is not None and not handler.exists(self.context, old):
            gone = "it was gone from LXD"
            handler.delete(self.context, old)
            state.remove(old)
            old = None
        step = compare(Recorded(old.inputs, old.trigger) if old else None, inputs, wanted.options, handler.schema)
        if step.refused:
            self._refuse(f"{wanted.name}: {step.refused}")
        if old is None:
            return self._make(wanted, handler, step, None, gone)
        if step.op is Op.REPLACE:
            return self._make(wanted, handler, step, old, "")
        drift = handler.drift(self.context, old)
        if drift and step.op is Op.SAME:
            step = replace(step, op=Op.UPDATE, reason=drift)
        if drift:
            handler.repair(self.context, old)
        return self._keep(wanted, handler, step, old)

    def _make(self, wanted: Registration, handler: Resource, step: Step, old: Record | None, note: str) -> Record:
        state, started = self.context.state, time.monotonic()
        self.watcher.started(wanted.urn, step.op, wanted.type, wanted.name)
        if old is not None and step.delete_first:
            self._delete(old)
        record = Record(
            serial=state.new_serial(),
            urn=wanted.urn,
            type=wanted.type,
            name=wanted.name,
            id=handler.id(wanted.name, wanted.inputs),
            inputs=dict(step.inputs),
            facts=handler.facts(wanted.inputs),
            dependencies=wanted.dependencies,
            trigger=wanted.options.trigger,
            protect=wanted.options.protect,
        )
        state.put(record)
        outputs = handler.create(self.context, record, wanted.inputs)
        # A resource that takes an address has noted it in its facts meanwhile.
        record = next(kept for kept in state.records() if kept.serial == record.serial)
        seconds = time.monotonic() - started
        record = replace(record, outputs=self._public(outputs, wanted), status="done", seconds=round(seconds, 1))
        state.put(*([state.doom(old)] if old is not None and not step.delete_first else []), record)
        with self._lock:
            self.changes += 1
            self.created.append(record)
        self.watcher.finished(wanted.urn, step.op, wanted.type, wanted.name, seconds, step.reason or note)
        return replace(record, outputs=outputs)

    def _keep(self, wanted: Registration, handler: Resource, step: Step, old: Record) -> Record:
        state, started, outputs = self.context.state, time.monotonic(), old.outputs
        if step.op is Op.UPDATE:
            self.watcher.started(wanted.urn, step.op, wanted.type, wanted.name)
            outputs = handler.update(self.context, old, self._effective(wanted, step), step.keys)
        record = replace(
            old,
            inputs=dict(step.inputs),
            outputs=self._public(outputs, wanted),
            facts={**old.facts, **handler.facts(wanted.inputs)},
            dependencies=wanted.dependencies,
            trigger=wanted.options.trigger,
            protect=wanted.options.protect,
        )
        if record != old:
            state.put(record)
        if step.op is Op.UPDATE:
            handler.updated(self.context)
            with self._lock:
                self.changes += 1
        told = [changed(key, old.inputs.get(key), step.inputs.get(key)) for key in step.keys]
        note = ", ".join(filter(None, [*told, step.reason]))
        seconds = time.monotonic() - started
        self.watcher.finished(wanted.urn, step.op, wanted.type, wanted.name, seconds, note)
        return replace(record, outputs=outputs)

    def _effective(self, wanted: Registration, step: Step) -> dict[str, Any]:
        """The values to apply: as registered, ignored ones as they were recorded."""
        ignored = wanted.options.ignore_changes
        kept = {key: value for key, value in step.inputs.items() if key in ignored}
        return {key: value for key, value in wanted.inputs.items() if key not in ignored} | kept

    def _public(self, outputs: Mapping[str, Any], wanted: Registration) -> dict[str, Any]:
        return {key: value for key, value in outputs.items() if key not in wanted.secret_outputs}

    def _delete(self, record: Record) -> None:
        # Doomed first: what is derived from the records, such as an ACL, then leaves it out.
        doomed = self.context.state.doom(record)
        self.context.state.put(doomed)
        self._handler(record.type).delete(self.context, record)
        self.context.state.remove(doomed)

    def delete_rest(self) -> None:
        """After a run without a failure: delete what was replaced and what is no longer registered."""
        records = self.context.state.records()
        rest = [record for record in records if record.status != "done" or record.urn not in self._urns]
        if names := _protected(rest):
            self._refuse(f"protected, and no longer wanted: {names}; {TWO_STEPS}")
        self.delete(rest, force=True)

    def delete(self, records: list[Record], force: bool = False) -> None:
        """Delete records, dependents first, side by side where nothing is between them.

        Protected ones are refused before anything is deleted, unless `force`. Raises RehearsalError.
        """
        if (names := _protected(records)) and not force:
            raise RehearsalError(
                f"protected, nothing is deleted: {names}; take protect off in an up of its own first, or use --force"
            )
        by_serial = {record.serial: record for record in records}
        graph = {serial: (record.urn, frozenset(record.dependencies)) for serial, record in by_serial.items()}
        with ThreadPoolExecutor(max_workers=8) as pool:
            for wave in delete_order(graph):
                errors = list(pool.map(self._delete_shown, [by_serial[serial] for serial in wave]))
                if any(errors):
                    raise RehearsalError("not all could be deleted; run the same again")

    def _delete_shown(self, record: Record) -> bool:
        """True when it failed."""
        started, key = time.monotonic(), f"{record.urn}#{record.serial}"
        self.watcher.started(key, Op.DELETE, record.type, record.name)
        try:
            self._delete(record)
        except RehearsalError as error:
            self.watcher.failed(key, record.type, record.name, str(error))
            return True
        with self._lock:
            self.changes += 1
        note = "replaced" if self.context.state.done(record.urn) else ""
        self.watcher.finished(key, Op.DELETE, record.type, record.name, time.monotonic() - started, note)
        return False


def _protected(records: Iterable[Record]) -> str:
    return ", ".join(sorted(record.name for record in records if record.protect and record.status == "done"))
