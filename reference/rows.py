"""Every setting, read from the models."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr

from settings.stack import MACHINE_KEYS, SITE_KEYS, Document

# What stands for a name in the key of a setting that each entry of a map has.
NAME = "<name>"


@dataclass(frozen=True)
class Row:
    """A setting. kind: its type, with all that checks it. default: as YAML would have it, None for none."""

    key: str
    kind: Any
    default: Any
    description: str

    @property
    def is_map(self) -> bool:
        """Whether its own keys come as rows of their own."""
        return model_of(self.kind) is not None

    @property
    def is_secret(self) -> bool:
        return SecretStr in leaves(self.kind)

    @property
    def of_site(self) -> bool:
        """Whether each of several sites may have its own."""
        part, _, rest = self.key.partition(".")
        return part in SITE_KEYS and rest.split(".")[0] not in MACHINE_KEYS.get(part, ())


def rows(model: type[BaseModel] = Document, prefix: str = "") -> Iterator[Row]:
    """Every setting, in the order of the models."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        inner = model_of(kind)
        if inner is None or field.description:
            yield Row(key, kind, field.get_default(call_default_factory=True), field.description or "")
        if inner is not None:
            yield from rows(inner, f"{key}.{NAME}." if get_origin(field.annotation) is dict else f"{key}.")


def model_of(kind: Any) -> type[BaseModel] | None:
    """The model of a map with known keys, which may be absent."""
    return next((one for one in leaves(kind) if issubclass(one, BaseModel)), None)


def leaves(kind: Any) -> list[type]:
    """The plain types in a type."""
    if get_origin(kind) is Literal:
        return []
    if get_origin(kind) is Annotated:
        return leaves(get_args(kind)[0])
    inner = [leaf for one in get_args(kind) for leaf in leaves(one)]
    return inner if get_origin(kind) else [kind] if isinstance(kind, type) else []
