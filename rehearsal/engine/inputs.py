"""A registration's inputs in the form in which they are compared and recorded.

Assets become hashes of their content and secrets become keyed digests, so neither a file's path nor the text of a
secret reaches the state.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.output import Unknown, contains_unknowns
from pulumi.runtime import rpc

from rehearsal.engine.compare import KNOWN_LATER
from rehearsal.engine.errors import UserError


def plain(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Deserialized properties → (values without secret wrappers, names of the secret ones)."""
    secret = frozenset(key for key, value in inputs.items() if rpc.is_rpc_secret(value))
    values = {key: rpc.unwrap_rpc_secret(value) for key, value in inputs.items()}
    return {key: _whole(value) for key, value in values.items()}, secret


def _whole(value: Any) -> Any:
    # Protobuf has only one type of number: 22 arrives as 22.0.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def comparable(
    inputs: Mapping[str, Any],
    secret: frozenset[str],
    key: str,
    without_secret: Mapping[str, Callable[[str], str]] | None = None,
) -> dict[str, Any]:
    """Plain inputs → JSON values to compare and record.

    key: hex key of the stack's digests. without_secret: as in Schema; a secret input that it does not name is a digest.
    """
    shown = {
        name: part(inputs[name]) for name, part in (without_secret or {}).items() if isinstance(inputs.get(name), str)
    }
    rest = {name: value for name, value in inputs.items() if name not in shown}
    return shown | {name: _hidden(value, key) if name in secret else _comparable(value) for name, value in rest.items()}


def _hidden(value: Any, key: str) -> dict[str, str]:
    return KNOWN_LATER if contains_unknowns(value) else digest(value, key)


def _comparable(value: Any) -> Any:
    if isinstance(value, Unknown):
        return KNOWN_LATER
    if isinstance(value, pulumi.FileAsset):
        return {"asset": file_hash(Path(value.path))}
    if isinstance(value, pulumi.StringAsset):
        return {"asset": hashlib.sha256(value.text.encode()).hexdigest()}
    if isinstance(value, (pulumi.Archive, pulumi.Asset)):
        raise UserError(f"{type(value).__name__} is not rehearsed; allowed: FileAsset, StringAsset")
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return value


def digest(value: Any, key: str) -> dict[str, str]:
    """Keyed digest of any JSON value."""
    text = json.dumps(_comparable(value), sort_keys=True).encode()
    return {"secret": hmac.new(bytes.fromhex(key), text, hashlib.sha256).hexdigest()}


def is_digest(value: Any) -> bool:
    """Whether a recorded value is the digest of a secret."""
    return isinstance(value, dict) and list(value) == ["secret"]


def is_known(value: Any) -> bool:
    """Whether no part of a recorded value is known later."""
    if value == KNOWN_LATER:
        return False
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(map(is_known, parts))


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises UserError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
