"""What the models of the settings share: the base model, numbers, and rules over several keys."""

from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from schema import text

Count = Annotated[int, Field(ge=1, le=1024)]
Seconds = Annotated[int, Field(ge=1, le=3600)]
Percent = Annotated[int, Field(ge=1, le=100)]
Port = Annotated[int, Field(ge=1, le=65535)]
# Below 1024 a port is root's, and no application server runs as root.
AppPort = Annotated[int, Field(ge=1024, le=65534)]

# The key to name, whether the rule is broken, the reason, and what is allowed.
Rule = tuple[str, bool, str, str]


def check_rules(rules: Iterable[Rule]) -> None:
    """Raise ValueError with `<key>: <reason>; allowed: …` for the first rule that is broken."""
    for key, is_broken, reason, allowed in rules:
        if is_broken:
            raise ValueError(f"{key}: {reason}; allowed: {allowed}")


def sequence(value: object) -> object:
    """A single text as a list of one: `pulumi config set --path access.ssh 203.0.113.0/24` stores a text."""
    return (value,) if isinstance(value, str) else value


# What a message says is allowed of the files that a release takes along.
READABLE = "files and folders that you may read (or leave them out with app.exclude)"


def printable(name: object) -> str:
    """Return a name as a message shows it, on one line."""
    return str(name) if str(name).isprintable() else repr(name)


Cidrs = Annotated[tuple[text.Cidr, ...], BeforeValidator(sequence)]


class SettingsError(Exception):
    """A value that a user set and that is not allowed: one line with file, key and what is allowed."""


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object, info: ValidationInfo) -> object:
        """Reject `true` where a number is meant, since pydantic would read it as 1."""
        if isinstance(value, bool) and info.field_name and int in _kinds(cls.model_fields[info.field_name].annotation):
            raise ValueError("allowed: a whole number")
        return value


def _kinds(annotation: object) -> set[object]:
    """Return the types of a union, without their Annotated metadata."""
    inside = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return set().union(*map(_kinds, inside))
    return {annotation}
