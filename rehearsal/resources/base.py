"""What every rehearsed resource type is, and what it works with."""

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulumi.output import contains_unknowns

from rehearsal.compare import Schema
from rehearsal.errors import RehearsalError
from rehearsal.keys import Keys
from rehearsal.lxd import Lxd
from rehearsal.state import Record, State


@dataclass(frozen=True)
class Context:
    """One run's surroundings. say(text): a line of progress. image: alias of the base image.

    cache: the host's folder of packages. published(address): the stack has taken a public address.
    """

    root: Path
    state: State
    keys: Keys
    image: str
    cache: Path
    say: Callable[[str], None]
    published: Callable[[str], None] = lambda address: None
    host: Lxd = field(default_factory=Lxd)
    # Bridges, ACLs and forwards are read, decided on and written: one at a time.
    network_lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def stack(self) -> str:
        return self.state.stack

    @property
    def lxd(self) -> Lxd:
        """LXD seen from the stack's own project, where its machines are."""
        return Lxd(self.state.project)


class Resource:
    """A resource type. One object serves all resources of the type; all state is in records."""

    schema = Schema()
    prefix = ""

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        """The physical id, decided on before anything is made, so that a killed run is found again."""
        return f"{self.prefix}{secrets.token_hex(5)}"

    def facts(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What deleting needs to know, beside id and recorded inputs. No secrets."""
        return {}

    def check(self, inputs: Mapping[str, Any]) -> None:
        """Refuse values that are not rehearsed. Raises RehearsalError."""

    def exists(self, context: Context, record: Record) -> bool:
        """Whether what was recorded is still there."""
        return True

    def drift(self, context: Context, record: Record) -> str:
        """How what is there differs from the record, if `repair` puts that right; "" for not at all."""
        return ""

    def repair(self, context: Context, record: Record) -> None:
        """Make what has drifted as it was."""

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Make it; what an earlier, killed attempt has made under the same id was deleted before.

        Returns the outputs that are no inputs. Raises RehearsalError.
        """
        return {}

    def update(
        self, context: Context, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        """Change it in place. record: as it was; inputs: all of the new ones; keys: those that differ."""
        return record.outputs

    def updated(self, context: Context) -> None:
        """Called when an update has been recorded."""

    def delete(self, context: Context, record: Record) -> None:
        """Remove it; what is already gone is no error."""


class Foreseen(Resource):
    """A type as a preview has it: its objects are looked at, and none is made, changed or deleted."""

    def __init__(self, real: Resource) -> None:
        self._real = real
        self.schema = real.schema

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        """None yet: Pulumi's SDK then knows none either."""
        return ""

    def check(self, inputs: Mapping[str, Any]) -> None:
        if not contains_unknowns(inputs):
            self._real.check(inputs)

    def exists(self, context: Context, record: Record) -> bool:
        return self._real.exists(context, record)

    def drift(self, context: Context, record: Record) -> str:
        return self._real.drift(context, record)


def only(inputs: Mapping[str, Any], key: str, *allowed: Any) -> None:
    """Refuse another value of an input than those allowed, or its absence."""
    if key in inputs and inputs[key] not in allowed:
        raise RehearsalError(f"{key}={inputs[key]!r} is not rehearsed; allowed: {', '.join(map(str, allowed))}")
