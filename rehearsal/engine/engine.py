"""What Pulumi's engine does with a registration: compare, execute, record; and at the end, delete.

A new object is made before the old one is deleted, unless it says delete_before_replace. Old objects and those no
longer registered are deleted at the end, dependents first, and only if nothing has failed.

A preview is a dry run of the same engine over an imagined state: existing objects keep their recorded outputs, and
all other outputs are unknown.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Generic, Protocol

from rehearsal.engine.compare import Op, Recorded, Step, compare, delete_order
from rehearsal.engine.errors import RehearsalError, UserError
from rehearsal.engine.inputs import comparable, is_digest
from rehearsal.engine.registration import Registration
from rehearsal.engine.resource import C, Foreseen, Provider, Resource
from rehearsal.engine.state import Record


class Watcher(Protocol):
    """Who hears of each step of a run."""

    def started(self, key: str, op: Op, type_: str, name: str) -> None: ...
    def finished(self, key: str, op: Op, type_: str, name: str, seconds: float, note: str) -> None: ...
    def failed(self, key: str, type_: str, name: str, message: str) -> None: ...


class Stopped(Exception):
    """A resource was not started, because another one failed, which has been reported."""


class Engine(Generic[C]):
    """One run over one stack. register() is called from several threads.

    dry: compare only, and execute nothing. Steps that a run refuses are then collected in `refused`, and the dry run
    continues. unprotect: the settings that take the protection off a resource, as a message names them.
    """

    def __init__(
        self, context: C, provider: Provider[C], watcher: Watcher, dry: bool = False, unprotect: str = "protect: false"
    ) -> None:
        self.context = context
        self.provider = provider
        self.watcher = watcher
        self.dry = dry
        # Pulumi lets one update take protection off and replace the resource, which would hide what is lost by it.
        self._two_steps = f"in two steps: 1. {unprotect} and nothing else, and up; 2. this change, and up"
        self.refused: list[str] = []
        self.failed = False
        # An error of the rehearsal itself rather than of the rehearsed program.
        self.broken: Exception | None = None
        self.changes = 0
        self._urns: set[str] = set()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._busy = 0

    def register(self, registration: Registration) -> Record:
        """Make one resource match its registration. Returns its record, with all outputs in it.

        Raises Stopped when an earlier resource failed, else RehearsalError or UserError.
        """
        with self._lock:
            if registration.urn in self._urns:
                self.failed = True
                raise UserError(f"two resources have the name {registration.name} and the type {registration.type}")
            self._urns.add(registration.urn)
            if self.failed:
                raise Stopped
            self._busy += 1
        try:
            return self._register(registration)
        except Exception as error:
            with self._lock:
                self.failed = True
            if isinstance(error, (RehearsalError, UserError)):
                self.watcher.failed(registration.urn, registration.type, registration.name, str(error))
            else:
                self.broken = self.broken or error
            raise
        finally:
            with self._lock:
                self._busy -= 1
                self._idle.notify_all()

    def records(self, *types: str) -> list[Record]:
        return self.context.state.records(*types)

    def wait(self) -> None:
        """Wait until no resource is under way any more."""
        with self._lock:
            self._idle.wait_for(lambda: self._busy == 0)

    def _handler(self, type_: str) -> Resource[C]:
        real = self.provider.types[type_]
        return Foreseen(real) if self.dry else real

    def _refuse(self, reason: str) -> None:
        if not self.dry:
            raise RehearsalError(reason)
        with self._lock:
            self.refused.append(reason)

    def _register(self, registration: Registration) -> Record:
        state = self.context.state
        handler = self._handler(registration.type)
        try:
            handler.check(registration.inputs)
        except RehearsalError as error:
            raise UserError(f"{registration.name} ({registration.type}): {error}") from None
        state.ensure(str(self.context.root))
        self._clear_unfinished(registration, handler)
        inputs = comparable(registration.inputs, registration.secret, state.key, handler.schema.without_secret)
        old, note = self._existing(registration, handler)
        recorded = Recorded(old.inputs, old.trigger) if old else None
        step = compare(recorded, inputs, registration.options, handler.schema)
        if step.refused:
            steps = f"; {self._two_steps}" if step.op is Op.REPLACE else ""
            self._refuse(f"{registration.name}: {step.refused}{steps}")
        if old is None:
            return self._make(registration, handler, step, None, note)
        if step.op is Op.REPLACE:
            return self._make(registration, handler, step, old, "")
        drift = handler.drift(self.context, old)
        if drift and step.op is Op.SAME:
            step = replace(step, op=Op.UPDATE, reason=drift)
        if drift:
            handler.repair(self.context, old)
            # `repair` may have added facts to the record.
            old = state.done(registration.urn) or old
        return self._keep(registration, handler, step, old)

    def _clear_unfinished(self, registration: Registration, handler: Resource[C]) -> None:
        """Delete what a killed or failed run began: how far it came is unknown, so it is begun again."""
        for unfinished in self.context.state.records(registration.type):
            if unfinished.urn == registration.urn and unfinished.status == "pending":
                handler.delete(self.context, unfinished)
                self.context.state.remove(unfinished)

    def _existing(self, registration: Registration, handler: Resource[C]) -> tuple[Record | None, str]:
        """The record of an object that exists, None without one; and a note when a recorded object does not exist."""
        record = self.context.state.done(registration.urn)
        if record is None or handler.exists(self.context, record):
            return record, ""
        handler.delete(self.context, record)
        self.context.state.remove(record)
        return None, "it no longer existed"

    def _make(
        self, registration: Registration, handler: Resource[C], step: Step, old: Record | None, note: str
    ) -> Record:
        state, started = self.context.state, time.monotonic()
        self.watcher.started(registration.urn, step.op, registration.type, registration.name)
        if old is not None and step.delete_first:
            self._delete(old)
        record = Record(
            serial=state.new_serial(),
            urn=registration.urn,
            type=registration.type,
            name=registration.name,
            id=handler.id(registration.name, registration.inputs),
            inputs=dict(step.inputs),
            facts=handler.facts(registration.inputs),
            dependencies=registration.dependencies,
            trigger=registration.options.trigger,
            protect=registration.options.protect,
            retain=registration.options.retain,
        )
        state.put(record)
        outputs = handler.create(self.context, record, registration.inputs)
        # `create` may have added facts to the record, such as the address that it took.
        record = next(kept for kept in state.records() if kept.serial == record.serial)
        seconds = time.monotonic() - started
        record = replace(record, outputs=self._public(outputs, registration), status="done", seconds=round(seconds, 1))
        state.put(*([state.doom(old)] if old is not None and not step.delete_first else []), record)
        with self._lock:
            self.changes += 1
        self.watcher.finished(
            registration.urn, step.op, registration.type, registration.name, seconds, step.reason or note
        )
        return replace(record, outputs=outputs)

    def _keep(self, registration: Registration, handler: Resource[C], step: Step, old: Record) -> Record:
        state, started, outputs = self.context.state, time.monotonic(), old.outputs
        if step.op is Op.UPDATE:
            self.watcher.started(registration.urn, step.op, registration.type, registration.name)
            outputs = handler.update(self.context, old, self._effective(registration, step), step.keys)
        record = replace(
            old,
            inputs=dict(step.inputs),
            outputs=self._public(outputs, registration),
            facts={**old.facts, **handler.facts(registration.inputs)},
            dependencies=registration.dependencies,
            trigger=registration.options.trigger,
            protect=registration.options.protect,
            retain=registration.options.retain,
        )
        if record != old:
            state.put(record)
        if step.op is Op.UPDATE:
            handler.updated(self.context)
            with self._lock:
                self.changes += 1
        changes = [handler.schema.changed(key, old.inputs.get(key), step.inputs.get(key)) for key in step.keys]
        note = ", ".join(filter(None, [*changes, step.reason]))
        seconds = time.monotonic() - started
        self.watcher.finished(registration.urn, step.op, registration.type, registration.name, seconds, note)
        return replace(record, outputs=outputs)

    def _effective(self, registration: Registration, step: Step) -> dict[str, Any]:
        """The values to apply: the registered ones, but recorded values for ignored inputs that are no digests."""
        ignored = registration.options.ignore_changes
        kept = {key: value for key, value in step.inputs.items() if key in ignored and not is_digest(value)}
        gone = {key for key in ignored if key not in step.inputs}
        return {key: value for key, value in registration.inputs.items() if key not in gone} | kept

    def _public(self, outputs: Mapping[str, Any], registration: Registration) -> dict[str, Any]:
        return {key: value for key, value in outputs.items() if key not in registration.secret_outputs}

    def _delete(self, record: Record) -> None:
        # Mark it doomed first, because what is derived from the records, such as an ACL, then leaves it out.
        doomed = self.context.state.doom(record)
        self.context.state.put(doomed)
        if not record.retain:
            self._handler(record.type).delete(self.context, record)
        self.context.state.remove(doomed)

    def delete_rest(self) -> None:
        """Delete what was replaced and what is no longer registered, after a run without a failure."""
        records = self.context.state.records()
        rest = [record for record in records if record.status != "done" or record.urn not in self._urns]
        if names := _protected(rest):
            self._refuse(f"protected, and no longer wanted: {names}; {self._two_steps}")
        self.delete(rest, force=True)

    def delete(self, records: list[Record], force: bool = False) -> None:
        """Delete records, dependents first; those that do not depend on each other are deleted at the same time.

        Protected records are refused before anything is deleted, unless `force`. Raises RehearsalError.
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
        """Delete a record and report it. Returns whether that failed."""
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
