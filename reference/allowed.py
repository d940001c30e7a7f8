"""What a setting may be, in the words of the program and of a language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from reference.rows import leaves

# What no setting of text takes.
NOTHING = "../\0://"


@dataclass(frozen=True)
class Words:
    """A language. texts: English phrase → its own, empty for English itself. The others are patterns."""

    texts: Mapping[str, str]
    choice: str
    between: str
    at_least: str
    either: str
    listed: str
    mapped: str
    secret: str
    number: str

    def of(self, text: str) -> str:
        return self.texts[text] if self.texts else text


ENGLISH = Words(
    {}, ", ", "{} to {}", "{} or more", ", or ", "list; each: {}", "map: {} → {}", "{}. **Secret**", "a whole number"
)


def allowed(kind: Any, words: Words) -> str:
    """What a setting of this type may be."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return words.of("a map of the keys below")
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return words.either.join(allowed(one, words) for one in arguments if one is not NoneType)
    if origin is Literal:
        return words.choice.join(f"`{one}`" for one in arguments)
    if origin is Annotated:
        inner = arguments[0]
        if inner is int:
            return number_range(arguments[1:], words)
        if inner in (str, SecretStr):
            return words.of(_refusal(kind))
        if get_origin(inner) in (Union, UnionType):
            # What a field says of a number that may be absent.
            checked = (Annotated[(one, *arguments[1:])] for one in get_args(inner) if one is not NoneType)
            return words.either.join(allowed(one, words) for one in checked)
        return allowed(inner, words)
    if origin is tuple:
        return words.listed.format(allowed(arguments[0], words))
    if origin is dict and Any in leaves(arguments[1]):
        return words.mapped.format(
            allowed(arguments[0], words), words.of("settings of its own, as in the sections above")
        )
    if origin is dict:
        return words.mapped.format(*(allowed(one, words) for one in arguments))
    if kind is int:
        return words.number
    if kind is bool:
        return words.choice.join(("`true`", "`false`"))
    if kind not in (str, SecretStr):
        raise TypeError(f"{kind}: a type of a setting that no page can describe yet")
    return words.of("text")


def number_range(checks: Sequence[Any], words: Words) -> str:
    flat = [one for check in checks for one in (check.metadata if isinstance(check, FieldInfo) else [check])]
    least = next(one.ge for one in flat if isinstance(one, Ge))
    most = next((one.le for one in flat if isinstance(one, Le)), None)
    return words.at_least.format(least) if most is None else words.between.format(least, most)


def _refusal(kind: Any) -> str:
    """What is allowed, in the words of the refusal of what is not."""
    try:
        TypeAdapter(kind).validate_python(NOTHING)
    except ValidationError as error:
        return str(error.errors()[0]["ctx"]["error"]).partition("allowed: ")[2]
    return "text"


def shown(value: Any) -> str:
    """A default, as a cell."""
    if value in (None, PydanticUndefined) or isinstance(value, BaseModel) or value in ((), {}):
        return "—"
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{name}: {one}" for name, one in value.items()) + "}"
    elif isinstance(value, tuple):
        text = f"[{', '.join(map(str, value))}]"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`"
