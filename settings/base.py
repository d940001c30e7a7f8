"""What the models of the settings share."""

from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from settings import text

Count = Annotated[int, Field(ge=1, le=1024)]
Seconds = Annotated[int, Field(ge=1, le=3600)]


def sequence(value: object) -> object:
    """A single text as a list of one: `pulumi config set --path access.ssh 203.0.113.0/24` stores a text."""
    return (value,) if isinstance(value, str) else value


# What is wanted of the files that a release takes along.
READABLE = "files and folders that you may read (or leave them out with app.exclude)"


def printable(name: object) -> str:
    """A map's name as it stands in a message, which is one line."""
    return str(name) if str(name).isprintable() else repr(name)


Cidrs = Annotated[tuple[text.Cidr, ...], BeforeValidator(sequence)]


class SettingsError(Exception):
    """A value that a user set and that is not allowed: one line with file, key and what is allowed."""


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object, info: ValidationInfo) -> object:
        """`true` is no 1, which pydantic takes it for."""
        if isinstance(value, bool) and info.field_name and int in _kinds(cls.model_fields[info.field_name].annotation):
            raise ValueError("allowed: a whole number")
        return value


def _kinds(annotation: object) -> set[object]:
    """The types that a union has, without what Annotated says of them."""
    inside = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return set().union(*map(_kinds, inside))
    return {annotation}
