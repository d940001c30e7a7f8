"""What a rehearsal knows between runs. It lives in LXD: in the config of the stack's own LXD project.

    project wsgi-ecs-<stack>:  user.key, user.folder, user.outputs, user.resource.<n> = one record each

A record is written before its object is made and again after, so a killed run
leaves nothing that the next one does not find.
"""

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter

from rehearsal.errors import UserError
from rehearsal.lxd import Lxd

PREFIX = "wsgi-ecs-"
_RESOURCE = "user.resource."
# Every stack's project has it from the beginning.
_KEY = "user.key"

# Images and networks are the host's, shared; only machines live in the project.
_FEATURES = {
    "features.images": "false",
    "features.networks": "false",
    "features.profiles": "false",
    "features.storage.volumes": "false",
}

Status = Literal["pending", "done", "doomed"]


@dataclass(frozen=True)
class Record:
    """One resource. inputs: comparable (see inputs.py). outputs: none of the secret ones.

    facts: names of LXD objects and whatever deleting needs. dependencies: urns.
    status: pending while it is made, doomed when a new one has taken its place. seconds: that making it took.
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
    status: Status = "pending"
    seconds: float | None = None


_RECORD = TypeAdapter(Record)
_OUTPUTS = TypeAdapter(dict[str, Any])


def encode(record: Record) -> str:
    return json.dumps(asdict(record), sort_keys=True)


def decode(text: str) -> Record:
    """A record, whatever version of this program has written it: other stacks on this host may be of a later one.

    Raises ValueError when it is damaged.
    """
    return _RECORD.validate_json(text)


def _decoded(stack: str, config: Mapping[str, str]) -> dict[str, Record]:
    """An LXD project's config → serial → record. Raises UserError."""
    found = {}
    for key, text in config.items():
        if key.startswith(_RESOURCE):
            serial = key.removeprefix(_RESOURCE)
            try:
                found[serial] = decode(text)
                intact = found[serial].serial == serial and int(serial) > 0
            except ValueError:
                intact = False
            if not intact:
                raise _damaged(stack, key, f"run lxc project unset {PREFIX}{stack} {key}, then ./rehearse destroy")
    return found


def _damaged(stack: str, key: str, remedy: str) -> UserError:
    return UserError(f"LXD's project {PREFIX}{stack}: {key}: damaged; {remedy} --stack {stack}")


class State:
    """The records of one stack. Safe to use from several threads of one process. Raises UserError when damaged."""

    def __init__(self, stack: str, config: Mapping[str, str] | None) -> None:
        self.stack = stack
        self.project = PREFIX + stack
        self.exists = config is not None
        self._config = dict(config or {})
        self._records = _decoded(stack, self._config)
        self._lock = threading.RLock()
        self._next = max((int(serial) for serial in self._records), default=0)

    @classmethod
    def load(cls, stack: str) -> "State":
        """The stack's state; an empty one, not yet in LXD, when there is none. Raises UserError."""
        found = Lxd().find(f"/1.0/projects/{PREFIX}{stack}")
        if found and _KEY not in found["config"]:
            raise UserError(
                f"LXD's project {PREFIX}{stack} is not of a rehearsal and is let be; rename it (lxc project rename) "
                "or take another stack name"
            )
        return cls(stack, found["config"] if found else None)

    def ensure(self, folder: str) -> None:
        """Make the LXD project unless it is there. folder: of the project's checkout."""
        with self._lock:
            if not self.exists:
                self._config = {**_FEATURES, _KEY: secrets.token_hex(32), "user.folder": folder}
                description = f"Rehearsal of stack {self.stack}"
                Lxd().post("/1.0/projects", {"name": self.project, "description": description, "config": self._config})
                self.exists = True
            elif self.folder != folder:
                self._config["user.folder"] = folder
                self._write()

    @property
    def key(self) -> str:
        """Hex key of the digests that stand for secrets. Raises UserError when damaged."""
        try:
            return bytes.fromhex(self._config[_KEY]).hex()
        except ValueError:
            raise _damaged(self.stack, _KEY, "no secret can be compared; run ./rehearse destroy") from None

    @property
    def folder(self) -> str:
        return self._config.get("user.folder", "")

    @property
    def outputs(self) -> dict[str, Any]:
        """The stack's outputs of its last complete run, without secret ones. Raises UserError when damaged."""
        try:
            return _OUTPUTS.validate_json(self._config.get("user.outputs", "{}"))
        except ValueError:
            raise _damaged(self.stack, "user.outputs", "they are written anew by ./rehearse up") from None

    @outputs.setter
    def outputs(self, values: dict[str, Any]) -> None:
        with self._lock:
            text = json.dumps(values, sort_keys=True)
            if self._config.get("user.outputs") != text:
                self._config["user.outputs"] = text
                self._write()

    def note(self, name: str, value: str) -> bool:
        """Keep a value under user.<name>. True when it was another one before."""
        with self._lock:
            if self._config.get(f"user.{name}") == value:
                return False
            self._config[f"user.{name}"] = value
            self._write()
            return True

    def records(self, *types: str) -> list[Record]:
        """All records, or those of some types, oldest first."""
        with self._lock:
            found = [record for record in self._records.values() if not types or record.type in types]
        return sorted(found, key=lambda record: int(record.serial))

    def done(self, urn: str) -> Record | None:
        """The resource that serves now under this urn."""
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
                self._config[_RESOURCE + record.serial] = encode(record)
            self._write()

    def remove(self, *records: Record) -> None:
        with self._lock:
            for record in records:
                self._records.pop(record.serial, None)
                self._config.pop(_RESOURCE + record.serial, None)
            self._write()

    def doom(self, record: Record) -> Record:
        return replace(record, status="doomed")

    def delete(self) -> None:
        """Remove the LXD project, which must hold no machine any more."""
        with self._lock:
            Lxd().delete(f"/1.0/projects/{self.project}")
            self.exists, self._config, self._records = False, {}, {}

    def _write(self) -> None:
        description = f"Rehearsal of stack {self.stack}"
        Lxd().put(f"/1.0/projects/{self.project}", {"description": description, "config": self._config})


class Imagined(State):
    """A copy of a state, in which a preview does what a run would do: nothing of it is written."""

    def __init__(self, state: State) -> None:
        super().__init__(state.stack, state._config if state.exists else None)

    def ensure(self, folder: str) -> None:
        with self._lock:
            if not self.exists:
                self._config, self.exists = {_KEY: secrets.token_hex(32)}, True

    def _write(self) -> None:
        pass


def stacks() -> dict[str, dict[str, str]]:
    """Every rehearsed stack of this machine → its LXD project's config."""
    found = Lxd().get("/1.0/projects", recursion="1")
    return {
        item["name"].removeprefix(PREFIX): item["config"]
        for item in found
        if item["name"].startswith(PREFIX) and _KEY in item["config"]
    }


def all_records(configs: Mapping[str, Mapping[str, str]]) -> list[Record]:
    """configs: stack → its LXD project's config. Raises UserError."""
    return [record for stack, config in configs.items() for record in _decoded(stack, config).values()]
