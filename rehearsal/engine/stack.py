"""A stack as a program runs for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stack:
    """A stack's name and configuration. project: Pulumi's name of the project.

    config: `namespace:key` → text, structured values as JSON text, all decrypted. secret_keys: keys of config that hold
    an encrypted value. secrets: what was encrypted, in plain text.
    """

    project: str
    name: str
    config: Mapping[str, str] = field(repr=False)
    secret_keys: frozenset[str] = frozenset()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
