"""Stores of a stack's state for tests."""

from collections.abc import Mapping
from pathlib import Path

from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.lxd import Lxd
from rehearsal.engine.state import KEY, State

DIGEST_KEY = "00" * 32
NOWHERE = Path("/nonexistent")


class MemoryStore:
    """A store in memory. writes: a copy of the map for each write."""

    def __init__(self, stack: str = "test") -> None:
        self.stack = stack
        self.writes: list[dict[str, str]] = []

    def load(self) -> dict[str, str] | None:
        return self.writes[-1] if self.writes else None

    def ensure(self, values: Mapping[str, str]) -> None:
        self.write(values)

    def write(self, values: Mapping[str, str]) -> None:
        self.writes.append(dict(values))

    def delete(self) -> None:
        self.writes.clear()

    def place(self, key: str) -> str:
        return f"memory: {key}"

    def removal(self, key: str) -> str:
        return f"forget {key}"


def cloud_context(folder: Path, keys: Keys, host: Lxd | None = None) -> CloudContext:
    """A run over a state in memory. folder: of the program and of the cache."""
    state = State(MemoryStore(), {KEY: DIGEST_KEY})
    return CloudContext(folder, state, keys, {}, lambda text: None, host=host or Lxd())
