"""What every rehearsed resource type is, and what a provider offers."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pulumi.output import contains_unknowns

from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.state import Record, State


@dataclass(frozen=True)
class Context:
    """What every run has. root: folder of the program. A provider adds what its resource types need."""

    root: Path
    state: State


C = TypeVar("C", bound=Context)
# Type tokens → the records of these types, of all types for none.
Records = Callable[..., list[Record]]


class Resource(Generic[C]):
    """A resource type. One object serves all resources of the type; everything else is in their records."""

    schema = Schema()
    prefix = ""

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        """The physical id. It is chosen before anything is made, so that the next run finds what a killed run made."""
        return f"{self.prefix}{secrets.token_hex(5)}"

    def facts(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What deleting needs to know, beside id and recorded inputs. No secrets."""
        return {}

    def check(self, inputs: Mapping[str, Any]) -> None:
        """Refuse values that are not rehearsed. Raises RehearsalError."""

    def exists(self, context: C, record: Record) -> bool:
        """Whether the recorded object still exists."""
        return True

    def drift(self, context: C, record: Record) -> str:
        """How the object differs from its record, if `repair` can fix that; "" if it does not differ."""
        return ""

    def repair(self, context: C, record: Record) -> None:
        """Bring a drifted object back to its record."""

    def create(self, context: C, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Make the object. What a killed attempt made under the same id has been deleted before.

        Returns the outputs that are not inputs. Raises RehearsalError.
        """
        return {}

    def update(self, context: C, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
        """Change the object in place. record: before the change; inputs: all new ones; keys: those that differ."""
        return record.outputs

    def updated(self, context: C) -> None:
        """Called when an update has been recorded."""

    def delete(self, context: C, record: Record) -> None:
        """Delete the object. An object that no longer exists is no error."""


class Foreseen(Resource[C]):
    """A resource type in a preview: its objects are looked at, and none is made, changed or deleted."""

    def __init__(self, real: Resource[C]) -> None:
        self._real = real
        self.schema = real.schema

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        """No id yet: Pulumi's SDK then treats the id as unknown."""
        return ""

    def check(self, inputs: Mapping[str, Any]) -> None:
        if not contains_unknowns(inputs):
            self._real.check(inputs)

    def exists(self, context: C, record: Record) -> bool:
        return self._real.exists(context, record)

    def drift(self, context: C, record: Record) -> str:
        return self._real.drift(context, record)


@dataclass(frozen=True)
class Provider(Generic[C]):
    """A rehearsed cloud. types: type token → resource type.

    answer: token and arguments of a provider function, and what exists → its result. Raises UserError for an unknown
    function.
    """

    types: Mapping[str, Resource[C]]
    answer: Callable[[str, dict[str, Any], Records], dict[str, Any]]


def only(inputs: Mapping[str, Any], key: str, *allowed: Any) -> None:
    """Refuse a value of an input that is not allowed. An absent input passes. Raises RehearsalError."""
    if key in inputs and inputs[key] not in allowed:
        raise RehearsalError(f"{key}={inputs[key]!r} is not rehearsed; allowed: {', '.join(map(str, allowed))}")
