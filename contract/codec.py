"""Documents of the contract as JSON text.

A document that an earlier version has written is still read: unknown keys are ignored, and absent keys take their
defaults.
"""

import json
from typing import Any, Type, TypeVar

T = TypeVar("T")


def encode(document: Any) -> str:
    """A document as JSON text. Fields that have their default are left out."""
    return json.dumps(plain(document), indent=1, sort_keys=True) + "\n"


def plain(value: Any) -> Any:
    """A document, or a list or map of them, as JSON values."""
    if hasattr(value, "_fields"):
        defaults = value._field_defaults
        found = [(name, getattr(value, name)) for name in value._fields]
        return {name: plain(part) for name, part in found if name not in defaults or part != defaults[name]}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def decode(kind: Type[T], text: str) -> T:
    """JSON text → a document of that kind. Raises ValueError for any other text."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("no {}: {}".format(kind.__name__, type(value).__name__))
    return read(kind, value)  # type: ignore[no-any-return]


def read(kind: Any, value: Any) -> Any:
    """JSON values → a document of that kind: unknown keys are ignored, and absent keys take their defaults.

    Raises ValueError for a key that is missing and has no default.
    """
    if value is None:
        return None
    if hasattr(kind, "_fields"):
        if not isinstance(value, dict):
            raise ValueError("no {}: {}".format(kind.__name__, type(value).__name__))
        types = kind.__annotations__
        missing = [name for name in kind._fields if name not in value and name not in kind._field_defaults]
        if missing:
            raise ValueError("{} without {}".format(kind.__name__, ", ".join(missing)))
        return kind(**{name: read(types[name], value[name]) for name in kind._fields if name in value})
    parts = [part for part in getattr(kind, "__args__", None) or () if part is not type(None)]
    if parts and isinstance(value, list):
        return [read(parts[-1], part) for part in value]
    if parts and isinstance(value, dict):
        if hasattr(parts[-1], "_fields") and len(parts) == 1:
            return read(parts[0], value)
        return {key: read(parts[-1], part) for key, part in value.items()}
    return value
