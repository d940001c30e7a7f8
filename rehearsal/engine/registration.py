"""What a program registers, and who receives it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rehearsal.engine.compare import Options
from rehearsal.engine.state import Record


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

    def register(self, registration: Registration) -> Record: ...

    def records(self, *types: str) -> list[Record]:
        """What exists already, all or of some types: provider functions answer from it."""
        ...
