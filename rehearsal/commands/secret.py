"""`secret set`: writes an encrypted value into a stack's file, as `pulumi config set --path --secret` does."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from rehearsal.commands import overlay, passphrase, stack_edit, stack_file
from rehearsal.commands.show import masked
from rehearsal.commands.yaml_file import parse
from rehearsal.engine.errors import UserError
from schema.base import printable

# One part of a path, as `pulumi config set --path` takes it: .name, or ["any text"].
_PART = re.compile(r'\.(?P<name>[A-Za-z0-9_-]+)|\[(?P<text>"(?:[^"\\]|\\.)*")\]')


def set_secret(root: Path, name: str, key: str) -> int:
    """Read a value and write it, encrypted, under a setting's key. Returns the exit code. Raises UserError."""
    project, file = stack_file.find(root, name)
    content, shown = stack_file.content_of(root, project["name"], file), file.relative_to(root)
    setting = _setting(key.removeprefix(f"{project['name']}:"), f"{shown}: {printable(key)}")
    path = stack_edit.place(content, project["name"], setting)
    _check_place(content, path, setting, shown)
    value = _value(f"{shown}: {_name(setting)}")
    salt, crypt_key, is_typed = _key_of(content, shown)
    changes = [stack_edit.Change(path, {"secure": passphrase.encrypt(crypt_key, value)})]
    if salt:
        changes.append(stack_edit.Change(("encryptionsalt",), salt))
    new = stack_edit.edited(file.read_bytes(), changes, shown)
    stack = stack_file.assemble(project, name, parse(new, shown), shown, crypt_key)
    problem = overlay.problem(stack)
    if problem and _is_about(problem, _name(setting)):
        raise UserError(f"{shown}: {masked(problem, stack.secrets)}")
    stack_edit.replace(file, new)
    click.echo(f"{shown}: {_name(setting)} is set, encrypted; the next up brings it to the servers")
    if is_typed:
        click.echo(f"preview and up decrypt it with the same passphrase in {passphrase.VARIABLE}")
    return 0


def list_secrets(root: Path, name: str) -> int:
    """Print the keys of the encrypted values. Returns the exit code. Needs no passphrase. Raises UserError."""
    project, file = stack_file.find(root, name)
    content = stack_file.content_of(root, project["name"], file)
    sections = (content.get("config") or {}).items()
    keys = [key for name, value in sections for key, _ in passphrase.find(value, str(name))]
    for key in sorted(keys):
        click.echo(printable(key.removeprefix(f"{project['name']}:")))
    if not keys:
        click.echo(f"{file.relative_to(root)}: no encrypted value")
    return 0


def _setting(key: str, first: str) -> tuple[str, ...]:
    """The parts of a setting's key. first: start of a message. Raises UserError."""
    found, whole, end = [], f".{key}", 0
    while match := _PART.match(whole, end):
        found.append(match["name"] or json.loads(match["text"], strict=False))
        end = match.end()
    if end < len(whole) or len(found) < 2:
        raise UserError(f"{first}: no setting; allowed: a key such as app.env.TOKEN or sites.shop.app.env.TOKEN")
    return tuple(found)


def _name(setting: Sequence[str]) -> str:
    return ".".join(map(printable, setting))


def _is_about(problem: str, name: str) -> bool:
    """Whether a refusal of the settings names this setting, or what it is in."""
    named = problem.partition(": ")[0]
    return named == name or name.startswith(f"{named}.")


def _check_place(content: Mapping[str, Any], path: Sequence[str], setting: Sequence[str], shown: Path) -> None:
    """Refuse a site that the stack does not have, and a place inside a value that is no map. Raises UserError."""
    below: Any = content.get("config") or {}
    for depth, part in enumerate(path[1:]):
        if passphrase.secure(below) is not None or not isinstance(below, dict):
            where = _name(setting[:depth])
            raise UserError(f"{shown}: {where}: encrypted or plain as a whole; allowed: a map of keys")
        if depth == 1 and setting[0] == "sites" and part not in below:
            sites = ", ".join(map(printable, below)) or "none yet; for a stack without sites, app.env.TOKEN"
            raise UserError(f"{shown}: sites.{printable(part)}: no such site; allowed: {sites}")
        below = below.get(part) or {}


def _value(first: str) -> str:
    """The value, from a hidden prompt or from standard input without its last line break. Raises UserError."""
    if sys.stdin.isatty():
        value = _typed("value")
    else:
        try:
            value = sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise UserError(f"{first}: not UTF-8; allowed: text on standard input") from None
    if not value:
        raise UserError(f"{first}: empty; allowed: a value on standard input, or typed at the prompt")
    return value


def _typed(text: str, again: str | None = None) -> str:
    """What is typed at a hidden prompt. again: the question that follows, for the same answer. Raises UserError."""
    try:
        return str(click.prompt(text, hide_input=True, confirmation_prompt=again or False, err=True))
    except click.Abort:
        raise UserError("interrupted; nothing is changed") from None


def _key_of(content: Mapping[str, Any], shown: Path) -> tuple[str, bytes, bool]:
    """(a new encryptionsalt or "", the key of the stack's values, whether the passphrase was typed)."""
    first = f"{shown}: its secrets are encrypted"
    has_secrets = any(True for _ in passphrase.find(content.get("config") or {}, ""))
    is_other = content.get("secretsprovider") not in (None, "", "default", "passphrase")
    salt = stack_file.salt_of(content, first) if has_secrets or is_other else content.get("encryptionsalt")
    phrase, source = stack_file.phrase_of(f"{shown}: the passphrase is needed")
    is_typed = phrase is None
    if phrase is None:
        if not sys.stdin.isatty():
            raise UserError(
                f"{shown}: no passphrase is set; "
                f"allowed: {passphrase.VARIABLE} or {passphrase.FILE_VARIABLE} in the environment"
            )
        question = "passphrase of this stack" if salt else "new passphrase, which encrypts this stack's secrets"
        phrase = _typed(question, None if salt else "the same passphrase again").encode(errors="surrogateescape")
        source = "what was typed"
    if salt:
        return "", stack_file.unlock(phrase, salt, shown, f"{first} with another passphrase than {source}"), is_typed
    return *passphrase.new_salt(phrase), is_typed
