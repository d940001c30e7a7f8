"""A stack's configuration, read the way Pulumi's engine reads it, and what a rehearsal changes in it."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import yaml

from rehearsal import passphrase
from rehearsal.errors import UserError
from schema.base import printable

# The systems that have an image here; the program's own default is centos7.
_IMAGES = ("debian12",)
_DEFAULT_OS = "centos7"


@dataclass(frozen=True)
class Stack:
    """project, name: Pulumi's. config: `namespace:key` → text, structured values as JSON text, all decrypted.

    secret_keys: keys of config that hold anything encrypted. secrets: what was encrypted, in plain text.
    """

    project: str
    name: str
    config: Mapping[str, str] = field(repr=False)
    secret_keys: frozenset[str] = frozenset()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


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
    folder = _yaml(root / "Pulumi.yaml", root).get("stackConfigDir") or "."
    if not isinstance(folder, str) or not (root / folder).resolve().is_relative_to(root.resolve()):
        raise UserError("Pulumi.yaml: stackConfigDir: allowed: a folder of the project, such as stacks")
    return root / folder


def load(root: Path, name: str) -> Stack:
    """Read Pulumi.yaml and the stack's file. Raises UserError with one line."""
    project = _yaml(root / "Pulumi.yaml", root)
    if not isinstance(project.get("name"), str):
        raise UserError("Pulumi.yaml: name: allowed: the project's name")
    file = _folder(root) / f"Pulumi.{name}.yaml"
    shown = file.relative_to(root)
    try:
        if not file.is_file():
            if file.exists() or file.is_symlink():
                raise UserError(f"{shown}: no plain file; allowed: a file of YAML")
            raise UserError(f"{shown}: no such stack; allowed: {', '.join(names(root)) or 'none yet'}")
    except OSError as error:
        raise UserError(f"{shown}: {error.strerror}") from None
    content = _yaml(file, root)
    own = content.get("config") or {}
    for key in content:
        if key not in _TOP:
            raise UserError(f"{shown}: {printable(key)}: unknown key; allowed: {', '.join(_TOP)}")
    if not isinstance(own, dict):
        raise UserError(f"{shown}: config: allowed: a map of keys")
    for key in own:
        whole = _qualified(project["name"], key)
        if key != whole in own:
            raise UserError(f"{shown}: {printable(key)}: stands there as {printable(whole)}, too; allowed: one of them")
        namespace = whole.split(":")[0]
        if namespace not in (project["name"], *_NAMESPACES):
            allowed = ", ".join(f"{name}:…" for name in (project["name"], *_NAMESPACES))
            raise UserError(f"{shown}: {printable(key)}: unknown namespace; allowed: {allowed}")
    values = {**_defaults(project), **{_qualified(project["name"], key): value for key, value in own.items()}}
    encrypted = {key: list(passphrase.find(value, key)) for key, value in values.items()}
    plain = _decrypted(list(chain.from_iterable(encrypted.values())), content, shown)
    return Stack(
        project["name"],
        name,
        {key: text(passphrase.replaced(value, plain)) for key, value in values.items()},
        frozenset(key for key, found in encrypted.items() if found),
        frozenset(plain.values()),
    )


def _decrypted(encrypted: list[tuple[str, str]], content: Mapping[str, Any], shown: Path) -> dict[str, str]:
    """What passphrase.find found, with the content of the stack's file → encrypted text → plain text."""
    if not encrypted:
        return {}
    first = f"{shown}: {encrypted[0][0]}"
    # Which of Pulumi's providers these lead to: https://www.pulumi.com/docs/iac/concepts/secrets/
    if content.get("secretsprovider") not in (None, "", "default", "passphrase"):
        raise UserError(
            f"{first}: encrypted by another secrets provider; allowed: passphrase, "
            "set by pulumi stack change-secrets-provider passphrase"
        )
    salt = content.get("encryptionsalt")
    if not salt:
        raise UserError(
            f"{first}: encrypted, but not with a passphrase, since encryptionsalt is missing; "
            "allowed: what pulumi config set --secret writes with the passphrase provider"
        )
    try:
        phrase = passphrase.given(os.environ)
    except OSError as error:
        raise UserError(
            f"{first}: encrypted, and {passphrase.FILE_VARIABLE} cannot be read: {error.filename}: {error.strerror}; "
            "allowed: a file that holds the passphrase"
        ) from None
    if phrase is None:
        raise UserError(
            f"{first}: encrypted, and no passphrase is set; "
            f"allowed: {passphrase.VARIABLE} or {passphrase.FILE_VARIABLE} in the environment"
        )
    try:
        key = passphrase.unlock(phrase, str(salt))
    except passphrase.WrongPassphraseError:
        source = passphrase.VARIABLE if passphrase.VARIABLE in os.environ else passphrase.FILE_VARIABLE
        raise UserError(
            f"{first}: encrypted with another passphrase than {source} gives; allowed: the stack's own passphrase"
        ) from None
    except ValueError:
        raise UserError(f"{shown}: encryptionsalt: damaged; allowed: the line that Pulumi wrote") from None
    plain = {}
    for place, value in encrypted:
        try:
            plain[value] = passphrase.decrypt(key, value)
        except ValueError:
            raise UserError(f"{shown}: {place}: damaged; allowed: what pulumi config set --secret wrote") from None
    return plain


def _defaults(project: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    config = project.get("config") or {}
    if not isinstance(config, dict):
        raise UserError("Pulumi.yaml: config: allowed: a map of keys")
    for key, declared in config.items():
        value = declared.get("default", declared.get("value")) if isinstance(declared, dict) else declared
        if value is not None:
            found[_qualified(project["name"], key)] = value
    return found


def _qualified(project: str, key: Any) -> str:
    return str(key) if ":" in str(key) else f"{project}:{key}"


def text(value: Any) -> str:
    """A config value as the engine hands it to a program: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(_numbers(value), default=str)


def _numbers(value: Any) -> Any:
    """A value with its numbers as Go prints them: 1.0 is 1."""
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else value


class _TwiceError(Exception):
    """A key that a map has already."""

    def __init__(self, key: str, line: int) -> None:
        super().__init__(key)
        self.line = line


# Of plain scalars, as Pulumi reads them with https://pkg.go.dev/gopkg.in/yaml.v2: a date is text, and y is true.
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"


def _number(scalar: str) -> int | float | None:
    """What Go's strconv.ParseInt and then ParseFloat make of it; None when it is no number to them."""
    plain = scalar.replace("_", "")
    if len(plain) < 70 and _INTEGER.fullmatch(plain):
        whole = int(re.sub("^([-+]?)0([0-7])", r"\g<1>0o\2", plain), 0)
        if -(2**63) <= whole < 2**64:
            return whole
    value = float(plain) if _FLOAT.fullmatch(plain) else math.inf
    return value if math.isfinite(value) else None


class _Once(yaml.SafeLoader):
    """Reads as Pulumi does, in Go: PyYAML takes 12:30 for 750, and of a key that stands twice the last one."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as its base class has it
        first: [(tag, form) for tag, form in found if tag.removeprefix(_TAG) not in ("int", "float", "timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    bool_values: ClassVar = {**yaml.SafeLoader.bool_values, "y": True, "n": False}

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        if kind is yaml.ScalarNode and implicit[0] and tag == f"{_TAG}str":
            return f"{_TAG}str" if _number(value) is None else f"{_TAG}float"
        return tag

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        found = _number(node.value)
        if found is None:
            raise yaml.constructor.ConstructorError(problem=f"{node.value} is no number", problem_mark=node.start_mark)
        return found

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                # A name of one letter is a name.
                key.tag = f"{_TAG}str" if key.value in ("y", "Y", "n", "N") else key.tag
                if (key.tag, key.value) in seen:
                    raise _TwiceError(printable(key.value), key.start_mark.line + 1)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_Once.add_implicit_resolver(f"{_TAG}bool", re.compile("[yYnN]$"), list("yYnN"))
for _kind in ("int", "float"):
    _Once.add_constructor(f"{_TAG}{_kind}", _Once.construct_number)


def _yaml(file: Path, root: Path) -> dict[str, Any]:
    shown = file.relative_to(root)
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Once)  # noqa: S506
        # What names itself by an alias has no end, and half of a pair of surrogates is no text.
        json.dumps(content, default=str, ensure_ascii=False).encode()
    except OSError as error:
        raise UserError(f"{shown}: {error.strerror}") from None
    except UnicodeError:
        raise UserError(f"{shown}: not UTF-8 text; allowed: YAML") from None
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        # What PyYAML raises for a tag that its value does not fit, too.
        raise UserError(
            f"{shown}: a map that is part of itself or too deep, or a tag, a key or a number that no setting has; "
            "allowed: plain YAML"
        ) from None
    except _TwiceError as error:
        raise UserError(f"{shown}: line {error.line}: {error}: stands there twice; allowed: each key once") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise UserError(f"{shown}:{where} not YAML: {printable(problem)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{shown}: allowed: a map of keys")
    return content


def overlay(stack: Stack, public_key: str, dry: bool = False) -> tuple[Stack, list[str]]:
    """What a rehearsal changes before the program reads its settings → (stack, one line for each change).

    dry: nothing is made, so that the operating system may be one without an image here.
    """
    config = {**stack.config, "rehearsal:active": "true"}
    notes = []
    server = section(stack, "server")
    system = server.get("os", _DEFAULT_OS)
    if not dry and isinstance(system, str) and system in ("centos7", "alinux3", "ubuntu2204"):
        if isinstance(mirrors := server.get("mirrors"), dict):
            # Package sources of another system would be of no use here.
            server["mirrors"] = {key: value for key, value in mirrors.items() if key not in ("packages", "epel")}
        config[f"{stack.project}:server"] = json.dumps({**server, "os": _IMAGES[0]})
        notes.append(f"rehearsed on {_IMAGES[0]}: no {system} image here; its own package steps do not run")
    access = section(stack, "access")
    if access.get("public_key") is None:
        config[f"{stack.project}:access"] = json.dumps({**access, "public_key": public_key})
        notes.append("access.public_key: none, so the rehearsal's own key is used")
    return replace(stack, config=config), notes


def ca(stack: Stack, root: Path) -> Path | None:
    """File with the roots that vouch for the stack's sites, None for those that everybody knows."""
    value = section(stack, "tls").get("ca")
    return root / Path(value).expanduser() if isinstance(value, str) else None


def section(stack: Stack, name: str) -> dict[str, Any]:
    """One structured key of the project's config, empty when it is unset or no map."""
    try:
        value = json.loads(stack.config.get(f"{stack.project}:{name}", "{}"))
    except ValueError:
        value = None
    # What is not a map is the program's to refuse, with its own words.
    return value if isinstance(value, dict) else {}
