"""Pulumi's stack config → StackSettings. The one place of this package that knows Pulumi.

A wrong value ends the program before its first resource is registered, with one
line: `stacks/Pulumi.<stack>.yaml: <key>: <what is allowed>`.
"""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schema.base import SettingsError, printable
from settings import certificates, dependencies, files, procfile, server_python, stack, static_files
from settings.server import Access
from settings.stack import Document, StackSettings

# The project's name as Pulumi.yaml has it, unless somebody gives it another one.
_NAME = "wsgi-ecs"


def load() -> StackSettings:
    """Read, check and return the settings of the current stack.

    Raises pulumi.RunError, which Pulumi shows as one line without a traceback.
    """
    name = pulumi.get_stack()
    file = f"stacks/Pulumi.{name}.yaml"
    rehearsed = pulumi.Config("rehearsal").get_bool("active") or False
    try:
        if name == "local" and not rehearsed:
            raise SettingsError(
                f"{file}: stack local is for ./rehearse up alone, pulumi up would create paid resources; "
                "allowed: another stack, such as dev"
            )
        settings = read({**get_config_env(), **CONFIG.get()}, pulumi.get_project(), file)
        settings, notes = dependencies.resolve(settings, Path.cwd(), file)
        files.check(settings, Path.cwd(), file)
        # A rehearsal boots another system than the stack names.
        system = pulumi.Config("rehearsal").get("os") or settings.server.os
        misfits = server_python.check(settings, system, Path.cwd(), file)
        # A Procfile's release: line may make the static files.
        settings = procfile.resolve(settings, Path.cwd(), file)
        settings, warnings = static_files.resolve(settings, Path.cwd(), file)
        warnings = [*misfits, *warnings]
        certificates.check(settings, Path.cwd(), file)
        if not rehearsed:
            check_cloud(settings, file)
            if doubt := files.other_key(settings.access, file):
                warnings.append(doubt)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    for text in notes:
        pulumi.info(text)
    for text in warnings:
        pulumi.warn(text)
    return settings


def read(config: Mapping[str, str], project: str, file: str) -> StackSettings:
    """A stack's config as Pulumi hands it to a program (`namespace:key` → text, decrypted) → its settings.

    Raises SettingsError with one line that names file, key and what is allowed.
    """
    return parse(_sections(config, project, file), file)


def refused(message: str) -> pulumi.RunError:
    """The error for a setting that turns out wrong later: `<key>: <what is allowed>` with the stack's file."""
    return pulumi.RunError(f"stacks/Pulumi.{pulumi.get_stack()}.yaml: {message}")


def private_key(access: Access) -> str | None:
    """Text of access.private_key_file; None when the SSH agent is to be used."""
    file = access.private_key_file
    return Path(file).expanduser().read_text(encoding="utf-8") if file else None


def configured(namespace: str) -> dict[str, str]:
    """The current stack's config of a namespace, such as alicloud: key → text, a secret's too."""
    return _of_namespace({**get_config_env(), **CONFIG.get()}, namespace)


def _of_namespace(config: Mapping[str, str], namespace: str) -> dict[str, str]:
    return {key.partition(":")[2]: raw for key, raw in config.items() if key.partition(":")[0] == namespace}


def _sections(config: Mapping[str, str], project: str, file: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if project != _NAME and (others := _of_namespace(config, _NAME)):
        key = min(others)
        raise SettingsError(f"{file}: {_NAME}:{key}: this project's name is {project}; allowed: {project}:{key}")
    for name, raw in _of_namespace(config, project).items():
        section, *below = re.split(r"[.\[]", name)
        if below and section in Document.model_fields:
            key = printable(name)
            raise SettingsError(
                f"{file}: {key}: a key with that very name, as pulumi config set makes it without --path; "
                f"allowed: pulumi config rm {project}:{key}, then pulumi config set --path '{project}:{key}'"
            )
        if name not in Document.model_fields:
            raise SettingsError(f"{file}: {printable(name)}: {_unknown(name, Document)}")
        try:
            values[name] = json.loads(raw)
            # Half of a pair of surrogates is no text that a file could have.
            json.dumps(values[name], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise SettingsError(f"{file}: {name}: no text in UTF-8; allowed: a map of keys") from None
        except (ValueError, RecursionError):
            # The value is not printed, since one that was set by --secret arrives here in plain text.
            raise SettingsError(f"{file}: {name}: allowed: a map of keys") from None
    return values


def parse(config: Mapping[str, Any], file: str) -> StackSettings:
    """Check a stack's structured config (key → map) and return its settings.

    Raises SettingsError with one line that names file, key and what is allowed.
    """
    try:
        return stack.read(config)
    except stack.SiteValidationError as error:
        raise SettingsError(f"{file}: sites.{error.name}.{_first_error(error.error)}") from None
    except ValidationError as error:
        raise SettingsError(f"{file}: {_first_error(error)}") from None
    except ValueError as error:
        raise SettingsError(f"{file}: {error}") from None


def _first_error(error: ValidationError) -> str:
    errors = error.errors(include_url=False, include_input=False)
    location, message = _read(errors[0])
    for other in errors[1:]:
        # A key that takes one of two types reports each of them.
        place, also = _read(other)
        if place == location:
            message += also.replace("allowed:", ", or")
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
        return location, _unknown(location[-1], model) if model else "unknown key; allowed: none"
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


def _unknown(name: str, model: type[BaseModel]) -> str:
    near = get_close_matches(name.lower().replace("-", "_"), model.model_fields, n=1)
    # List first the key that was probably meant.
    return f"unknown key; allowed: {', '.join(dict.fromkeys([*near, *model.model_fields]))}"


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


def check_cloud(settings: StackSettings, file: str) -> None:
    """Refuse what a rehearsal can do without and the cloud cannot. Raises SettingsError."""
    if not settings.access.ssh:
        raise SettingsError(
            f"{file}: access.ssh: required, since releases come over SSH; allowed: a list of IPv4 CIDRs, "
            "such as your own address with /32"
        )
    if settings.access.public_key is None:
        raise SettingsError(
            f"{file}: access.public_key: required; allowed: the text of a public key file, "
            "such as ~/.ssh/id_ed25519.pub"
        )
