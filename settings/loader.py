"""Pulumi's stack config → StackSettings. The one place of this package that knows Pulumi.

A wrong value ends the program before its first resource is registered, with one
line: `stacks/Pulumi.<stack>.yaml: <key>: <what is allowed>`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret
from pydantic import ValidationError

from schema.base import SettingsError, printable
from settings import (
    certificates,
    data,
    dependencies,
    files,
    messages,
    plain_secrets,
    procfile,
    server_python,
    ssh_agent,
    stack,
    static_files,
)
from settings.server import Access
from settings.site import SiteValidationError
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
        warnings += [f"{settings.key_of(site)}{text}" for site in settings.sites for text in site.app_server.warnings]
        has_store = settings.data_gib is not None or settings.shares_data
        if doubt := data.note(settings.sites, has_store, settings.server.protect):
            notes.append(doubt)
        notes += [
            f"{settings.key_of(site)}release.pin: {site.release.pin}, which is kept, serves in place of app.source"
            for site in settings.sites
            if site.release.pin
        ]
        certificates.check(settings, Path.cwd(), file)
        if not rehearsed:
            check_cloud(settings, file)
            # Whoever only looks at a preview need not be able to log in.
            lacking = ssh_agent.look(settings.access)[0]
            if lacking and not pulumi.runtime.is_dry_run():
                raise SettingsError(f"{file}: {lacking}")
            warnings += filter(None, (lacking, private_key_doubt(settings.access)))
            # Pulumi tells of a whole section whether it has a secret; a rehearsal knows each value.
            if doubt := plain_secrets.warning(settings, lambda site, value: _has_secret("app") or _has_secret("sites")):
                warnings.append(doubt)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    for text in notes:
        pulumi.info(text)
    for text in warnings:
        pulumi.warn(text)
    return settings


def _has_secret(section: str) -> bool:
    return is_config_secret(f"{pulumi.get_project()}:{section}")


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


def private_key_doubt(access: Access) -> str | None:
    """Why a new server may let nobody in: the private key is not access.public_key's. Raises SettingsError."""
    return ssh_agent.look(access)[1] or files.other_key(access, f"stacks/Pulumi.{pulumi.get_stack()}.yaml")


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
            raise SettingsError(f"{file}: {printable(name)}: {messages.unknown(name, Document)}")
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
    except SiteValidationError as error:
        raise SettingsError(f"{file}: sites.{error.name}.{messages.first_error(error.error)}") from None
    except ValidationError as error:
        raise SettingsError(f"{file}: {messages.first_error(error)}") from None
    except ValueError as error:
        raise SettingsError(f"{file}: {error}") from None


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
