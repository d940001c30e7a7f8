"""pydantic's errors as one line for the user: which key, the refused value, and what is allowed."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from schema.base import printable
from settings.stack import Document

# Characters: a longer value is not repeated.
_LONGEST = 60


def first_error(error: ValidationError) -> str:
    """`<key>: got <value>; allowed: …` for the first value that is refused."""
    errors = error.errors(include_url=False)
    location, message = _read(errors[0])
    for other in errors[1:]:
        # A key that takes one of two types reports each of them.
        place, also = _read(other)
        if place == location:
            message += also.replace("allowed:", ", or")
    if (value := _shown(errors[0])) and value not in message.partition("allowed:")[0]:
        message = f"got {value}{'; ' if message.startswith('allowed:') else ', '}{message}"
    return f"{'.'.join(location)}: {message}" if location else message


def _read(details: ErrorDetails) -> tuple[list[str], str]:
    # A key of a map may be any text, and the error is one line.
    location = [printable(part) for part in details["loc"]]
    location = [
        part for part in location if part != "[key]" and "[" not in part and part not in ("int", "constrained-int")
    ]
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        message = str(context["error"])
        if "[key]" not in details["loc"] and _model_at(location) is not None:
            # A check over several keys names its key itself.
            key, _, message = message.partition(": ")
            location += [key]
        return location, message
    if kind == "extra_forbidden":
        model = _model_at(location[:-1])
        return location, unknown(location[-1], model) if model else "unknown key; allowed: none"
    if kind == "literal_error":
        return location, f"allowed: {str(context['expected']).replace(chr(39), '')}"
    plain = {
        "missing": "missing; allowed: a value, since there is no default",
        "model_type": "allowed: a map of keys",
        "dict_type": "allowed: a map of keys",
        "tuple_type": "allowed: a list",
        "string_type": "allowed: text",
        "string_unicode": "allowed: text",
        "int_parsing": "allowed: a whole number",
        "int_type": "allowed: a whole number",
        "int_from_float": "allowed: a whole number",
        "bool_parsing": "allowed: true or false",
        "bool_type": "allowed: true or false",
        "greater_than_equal": f"allowed: {context.get('ge')} or more",
        "less_than_equal": f"allowed: {context.get('le')} or less",
    }
    return location, plain.get(kind, details["msg"])


def unknown(name: str, model: type[BaseModel]) -> str:
    """The message for a key that a model does not have."""
    near = get_close_matches(name.lower().replace("-", "_"), model.model_fields, n=1)
    # List first the key that was probably meant.
    return f"unknown key; allowed: {', '.join(dict.fromkeys([*near, *model.model_fields]))}"


def _shown(details: ErrorDetails) -> str:
    """The refused value as a message repeats it; "" for one that may be secret, is no single value or is long."""
    value = details["input"]
    location = [str(part) for part in details["loc"]]
    if "[key]" in location or isinstance(value, dict | list | tuple) or _may_be_secret(_annotation_at(location)):
        return ""
    shown = printable(value) if isinstance(value, str) else json.dumps(value, default=str)
    # A long text or one of several lines may be a pasted key.
    return shown if 0 < len(shown) <= _LONGEST and "\n" not in str(value) else ""


def _may_be_secret(annotation: Any) -> bool:
    """Whether a place takes a secret, or other keys, of which one may be a secret."""
    if annotation is Any:
        return True
    if isinstance(annotation, type):
        return issubclass(annotation, BaseModel | SecretStr)
    return any(_may_be_secret(part) for part in get_args(annotation) if part is not Ellipsis)


def _annotation_at(location: Sequence[str]) -> Any:
    """The type of the last setting that a location names; what lies below it is a part of its value."""
    model: type[BaseModel] = Document
    annotation: Any = Any
    parts = iter(location)
    for part in parts:
        field = model.model_fields.get(part)
        if field is None:
            break
        annotation = field.annotation
        below = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        models = [kind for kind in below if issubclass(kind, BaseModel)]
        if not models or (get_origin(annotation) is dict and next(parts, None) is None):
            break
        model = models[0]
    return annotation


def _model_at(location: list[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = Document
    parts = iter(location)
    for part in parts:
        field = model.model_fields.get(part)
        # A field that may be absent is a union with None.
        types = (field.annotation, *get_args(field.annotation)) if field else ()
        models = [kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not models:
            return None
        if field and get_origin(field.annotation) is dict and next(parts, None) is None:
            # A map of names to a model: its keys are any names.
            return None
        model = models[0]
    return model
