"""What a rehearsal knows between runs: one record for each resource, the stack's outputs and its key for digests.

    store:  key, folder, outputs, resource.<n> = one record each

A record is written before its object is made and again afterwards, so the next run finds everything that a killed run
has begun.
"""

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter

from rehearsal.engine.errors import UserError

# Every stack's state has a key from the beginning.
KEY = "key"
_FOLDER = "folder"
_OUTPUTS = "outputs"
_RESOURCE = "resource."

Status = Literal["pending", "done", "doomed"]


class Store(Protocol):
    """Where the state of one stack is kept, as a map of texts."""

    @property
    def stack(self) -> str:
        """The stack's name."""

    def load(self) -> dict[str, str] | None:
        """The map; None when the store does not exist yet. Raises UserError."""

    def ensure(self, values: Mapping[str, str]) -> None:
        """Make the store, with these values in it."""

    def write(self, values: Mapping[str, str]) -> None:
        """Replace the whole map in one step."""

    def delete(self) -> None:
        """Remove the store with all that it holds."""

    def place(self, key: str) -> str:
        """How a message names a key and where it is kept."""

    def removal(self, key: str) -> str:
        """The command by which a user removes a key."""


@dataclass(frozen=True)
class Record:
    """One resource. inputs: comparable (see inputs.py). outputs: the secret ones are left out.

    facts: names of objects, and whatever deleting needs. dependencies: urns. status: pending while it is made, doomed
    when a new resource has replaced it. seconds: how long making it took. retain: whether its object stays when the
    record goes.
    """

    serial: str
    urn: str
    type: str
    name: str
    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    dependencies: tuple[str, ...] = ()
    trigger: str | None = None
    protect: bool = False
    retain: bool = False
    status: Status = "pending"
    seconds: float | None = None


_RECORD_TYPE = TypeAdapter(Record)
_OUTPUTS_TYPE = TypeAdapter(dict[str, Any])


def encode(record: Record) -> str:
    return json.dumps(asdict(record), sort_keys=True)


def decode(text: str) -> Record:
    """A record. Unknown keys are ignored, because other stacks may have been written by a later version.

    Raises ValueError when it is damaged.
    """
    return _RECORD_TYPE.validate_json(text)


def read_records(values: Mapping[str, str]) -> dict[str, Record | None]:
    """The map that a store holds → serial → record, None for a damaged one."""
    texts = {key.removeprefix(_RESOURCE): text for key, text in values.items() if key.startswith(_RESOURCE)}
    return {serial: _read(serial, text) for serial, text in texts.items()}


def _read(serial: str, text: str) -> Record | None:
    try:
        record = decode(text)
        return record if record.serial == serial and int(serial) > 0 else None
    except ValueError:
        return None


def _damaged(store: Store, key: str, remedy: str) -> UserError:
    return UserError(f"{store.place(key)}: damaged; {remedy} --stack {store.stack}")


class State:
    """The records of one stack. Safe to use from several threads of one process.

    values: the map that the store holds, None for a store that does not exist yet. Raises UserError when a record is
    damaged.
    """

    def __init__(self, store: Store, values: Mapping[str, str] | None) -> None:
        self.store = store
        self.exists = values is not None
        self._values = dict(values or {})
        self._records: dict[str, Record] = {}
        for serial, record in read_records(self._values).items():
            if record is None:
                key = _RESOURCE + serial
                raise _damaged(store, key, f"run {store.removal(key)}, then ./rehearse destroy")
            self._records[serial] = record
        self._lock = threading.RLock()
        self._next = max((int(serial) for serial in self._records), default=0)

    @classmethod
    def load(cls, store: Store) -> "State":
        """The state that a store holds; an empty state when the store does not exist yet. Raises UserError."""
        return cls(store, store.load())

    def imagined(self) -> "State":
        """A copy in which a preview does what a run would do: nothing is written to the store."""
        return State(_Imagined(self.store), self._values if self.exists else None)

    @property
    def stack(self) -> str:
        return self.store.stack

    def ensure(self, folder: str) -> None:
        """Make the store unless it exists. folder: of the project's checkout."""
        with self._lock:
            if not self.exists:
                self._values = {KEY: secrets.token_hex(32), _FOLDER: folder}
                self.store.ensure(self._values)
                self.exists = True
            elif self.folder != folder:
                self._values[_FOLDER] = folder
                self._write()

    @property
    def key(self) -> str:
        """Hex key of the digests that replace secrets. Raises UserError when it is damaged."""
        try:
            return bytes.fromhex(self._values[KEY]).hex()
        except ValueError:
            raise _damaged(self.store, KEY, "no secret can be compared; run ./rehearse destroy") from None

    @property
    def folder(self) -> str:
        return self._values.get(_FOLDER, "")

    @property
    def outputs(self) -> dict[str, Any]:
        """The stack's outputs of its last complete run, without secret ones. Raises UserError when damaged."""
        try:
            return _OUTPUTS_TYPE.validate_json(self._values.get(_OUTPUTS, "{}"))
        except ValueError:
            raise _damaged(self.store, _OUTPUTS, "they are written anew by ./rehearse up") from None

    @outputs.setter
    def outputs(self, values: dict[str, Any]) -> None:
        with self._lock:
            text = json.dumps(values, sort_keys=True)
            if self._values.get(_OUTPUTS) != text:
                self._values[_OUTPUTS] = text
                self._write()

    def records(self, *types: str) -> list[Record]:
        """All records, or those of some types, oldest first."""
        with self._lock:
            found = [record for record in self._records.values() if not types or record.type in types]
        return sorted(found, key=lambda record: int(record.serial))

    def done(self, urn: str) -> Record | None:
        """The resource in use under this urn."""
        return next((record for record in self.records() if record.urn == urn and record.status == "done"), None)

    def by_id(self, type_: str, id_: str) -> Record | None:
        return next((record for record in self.records(type_) if record.id == id_), None)

    def new_serial(self) -> str:
        with self._lock:
            self._next += 1
            return str(self._next)

    def put(self, *records: Record) -> None:
        """Write records, all of them in one step."""
        with self._lock:
            for record in records:
                self._records[record.serial] = record
                self._values[_RESOURCE + record.serial] = encode(record)
            self._write()

    def remove(self, *records: Record) -> None:
        with self._lock:
            for record in records:
                self._records.pop(record.serial, None)
                self._values.pop(_RESOURCE + record.serial, None)
            self._write()

    def doom(self, record: Record) -> Record:
        return replace(record, status="doomed")

    def delete(self) -> None:
        """Remove the store."""
        with self._lock:
            self.store.delete()
            self.exists, self._values, self._records = False, {}, {}

    def _write(self) -> None:
        self.store.write(self._values)


class _Imagined:
    """A store that keeps nothing and names places as the original store does."""

    def __init__(self, original: Store) -> None:
        self._original = original

    @property
    def stack(self) -> str:
        return self._original.stack

    def load(self) -> dict[str, str] | None:
        return None

    def ensure(self, values: Mapping[str, str]) -> None:
        pass

    def write(self, values: Mapping[str, str]) -> None:
        pass

    def delete(self) -> None:
        pass

    def place(self, key: str) -> str:
        return self._original.place(key)

    def removal(self, key: str) -> str:
        return self._original.removal(key)
