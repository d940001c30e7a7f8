"""A stack's file, read as Pulumi's engine reads it."""

import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from rehearsal.commands import passphrase
from rehearsal.commands.yaml_file import read
from rehearsal.engine.errors import UserError
from rehearsal.engine.stack import Stack
from schema.base import printable

# https://www.pulumi.com/docs/iac/concepts/projects/stack-settings-file/
_TOP = ("config", "environment", "secretsprovider", "encryptionsalt", "encryptedkey")
_NAMESPACES = ("alicloud", "command", "pulumi")


def names(root: Path) -> list[str]:
    """The stacks that the project has a file for."""
    return sorted(
        printable(path.name.removeprefix("Pulumi.").removesuffix(".yaml"))
        for path in _folder(root).glob("Pulumi.*.yaml")
        if path.is_file()
    )


def _folder(root: Path) -> Path:
    folder = read(root / "Pulumi.yaml", root).get("stackConfigDir") or "."
    if not isinstance(folder, str) or not (root / folder).resolve().is_relative_to(root.resolve()):
        raise UserError("Pulumi.yaml: stackConfigDir: allowed: a folder of the project, such as stacks")
    return root / folder


def locate(root: Path, name: str) -> tuple[dict[str, Any], Path]:
    """The content of Pulumi.yaml and the path of the stack's file, which may be missing. Raises UserError."""
    project = read(root / "Pulumi.yaml", root)
    if not isinstance(project.get("name"), str):
        raise UserError("Pulumi.yaml: name: allowed: the project's name")
    return project, _folder(root) / f"Pulumi.{name}.yaml"


def find(root: Path, name: str) -> tuple[dict[str, Any], Path]:
    """The content of Pulumi.yaml and the stack's file. Raises UserError with one line."""
    project, file = locate(root, name)
    shown = file.relative_to(root)
    try:
        if not file.is_file():
            if file.exists() or file.is_symlink():
                raise UserError(f"{shown}: no plain file; allowed: a file of YAML")
            raise UserError(f"{shown}: no such stack; allowed: {', '.join(names(root)) or 'none yet'}")
    except OSError as error:
        raise UserError(f"{shown}: {error.strerror}") from None
    return project, file


def content_of(root: Path, project: str, file: Path) -> dict[str, Any]:
    """The content of a stack's file, with known keys only. project: its name. Raises UserError with one line."""
    shown, content = file.relative_to(root), read(file, root)
    own = content.get("config") or {}
    for key in content:
        if key not in _TOP:
            raise UserError(f"{shown}: {printable(key)}: unknown key; allowed: {', '.join(_TOP)}")
    if not isinstance(own, dict):
        raise UserError(f"{shown}: config: allowed: a map of keys")
    for key in own:
        whole = qualified(project, key)
        if key != whole in own:
            raise UserError(f"{shown}: {printable(key)}: stands there as {printable(whole)}, too; allowed: one of them")
        namespace = whole.split(":")[0]
        if namespace not in (project, *_NAMESPACES):
            allowed = ", ".join(f"{name}:…" for name in (project, *_NAMESPACES))
            raise UserError(f"{shown}: {printable(key)}: unknown namespace; allowed: {allowed}")
    return content


def load(root: Path, name: str) -> Stack:
    """Read Pulumi.yaml and the stack's file. Raises UserError with one line."""
    project, file = find(root, name)
    shown, content = file.relative_to(root), content_of(root, project["name"], file)
    return assemble(project, name, content, shown)


def assemble(
    project: Mapping[str, Any], name: str, content: Mapping[str, Any], shown: Path, key: bytes | None = None
) -> Stack:
    """The stack that a file's content describes. project: content of Pulumi.yaml. key: of the stack's encrypted values,
    None to derive it from the passphrase of the environment. Raises UserError."""
    own = content.get("config") or {}
    values = {**_defaults(project), **{qualified(project["name"], key): value for key, value in own.items()}}
    encrypted = {key: list(passphrase.find(value, key)) for key, value in values.items()}
    plain = _decrypted(list(chain.from_iterable(encrypted.values())), content, shown, key)
    return Stack(
        project["name"],
        name,
        {key: text(passphrase.with_plain_text(value, plain)) for key, value in values.items()},
        frozenset(key for key, found in encrypted.items() if found),
        frozenset(plain.values()),
    )


def _decrypted(
    encrypted: list[tuple[str, str]], content: Mapping[str, Any], shown: Path, key: bytes | None
) -> dict[str, str]:
    """What passphrase.find found, and the content of the stack's file → encrypted text → plain text."""
    if not encrypted:
        return {}
    key = key or _key(f"{shown}: {encrypted[0][0]}: encrypted", content, shown)
    plain = {}
    for place, value in encrypted:
        try:
            plain[value] = passphrase.decrypt(key, value)
        except ValueError:
            raise UserError(f"{shown}: {place}: damaged; allowed: what pulumi config set --secret wrote") from None
    return plain


def _key(first: str, content: Mapping[str, Any], shown: Path) -> bytes:
    """The key of a stack's encrypted values, by the passphrase of the environment. first: start of a message."""
    salt = salt_of(content, first)
    phrase, source = phrase_of(first)
    if phrase is None:
        raise UserError(
            f"{first}, and no passphrase is set; "
            f"allowed: {passphrase.VARIABLE} or {passphrase.FILE_VARIABLE} in the environment"
        )
    return unlock(phrase, salt, shown, f"{first} with another passphrase than {source} gives")


def salt_of(content: Mapping[str, Any], first: str) -> Any:
    """The encryptionsalt of a file with encrypted values. first: start of a message. Raises UserError."""
    # These keys decide which secrets provider Pulumi uses: https://www.pulumi.com/docs/iac/concepts/secrets/
    if content.get("secretsprovider") not in (None, "", "default", "passphrase"):
        raise UserError(
            f"{first} by another secrets provider; allowed: passphrase, "
            "set by pulumi stack change-secrets-provider passphrase"
        )
    if not content.get("encryptionsalt"):
        raise UserError(
            f"{first}, but not with a passphrase, since encryptionsalt is missing; "
            "allowed: what pulumi config set --secret writes with the passphrase provider"
        )
    return content["encryptionsalt"]


def phrase_of(first: str) -> tuple[bytes | None, str]:
    """The passphrase of the environment, None without one, and its variable. first: start of a message.

    Raises UserError.
    """
    source = passphrase.VARIABLE if passphrase.VARIABLE in os.environ else passphrase.FILE_VARIABLE
    try:
        return passphrase.from_environment(os.environ), source
    except OSError as error:
        raise UserError(
            f"{first}, and {passphrase.FILE_VARIABLE} cannot be read: {error.filename}: {error.strerror}; "
            "allowed: a file that holds the passphrase"
        ) from None


def unlock(phrase: bytes, salt: Any, shown: Path, wrong: str) -> bytes:
    """The key of a file's encrypted values. salt: its encryptionsalt. wrong: a message's start. Raises UserError."""
    try:
        return passphrase.unlock(phrase, str(salt))
    except passphrase.WrongPassphraseError:
        raise UserError(f"{wrong}; allowed: the stack's own passphrase") from None
    except ValueError:
        raise UserError(f"{shown}: encryptionsalt: damaged; allowed: the line that Pulumi wrote") from None


def _defaults(project: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    config = project.get("config") or {}
    if not isinstance(config, dict):
        raise UserError("Pulumi.yaml: config: allowed: a map of keys")
    for key, declared in config.items():
        value = declared.get("default", declared.get("value")) if isinstance(declared, dict) else declared
        if value is not None:
            found[qualified(project["name"], key)] = value
    return found


def qualified(project: str, key: Any) -> str:
    """A key of `config` with its namespace."""
    return str(key) if ":" in str(key) else f"{project}:{key}"


def text(value: Any) -> str:
    """A config value as Pulumi's engine hands it to a program: text unchanged, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(_numbers(value), default=str)


def _numbers(value: Any) -> Any:
    """A value with its numbers as Go prints them: 1.0 becomes 1."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else value
