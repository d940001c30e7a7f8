"""Pulumi's passphrase secrets provider: reads and writes what `pulumi config set --secret` writes into a stack's file.

    secure:          v1:<nonce>:<ciphertext and tag>, AES-256-GCM
    encryptionsalt:  v1:<salt>:<the word pulumi, encrypted in the same way>, which detects a wrong passphrase

The parts are base64. https://github.com/pulumi/pulumi/blob/master/pkg/secrets/passphrase/manager.go and
https://github.com/pulumi/pulumi/blob/master/sdk/go/common/resource/config/crypt.go
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VARIABLE = "PULUMI_CONFIG_PASSPHRASE"
FILE_VARIABLE = "PULUMI_CONFIG_PASSPHRASE_FILE"

_ROUNDS = 1_000_000
_KEY_BYTES = 32
_SALT_BYTES = 8
_NONCE_BYTES = 12
# Characters that Go's strings.TrimSpace removes; Python's strip() removes four control characters more.
_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001)))).translate(dict.fromkeys(range(0x1C, 0x20)))


class WrongPassphraseError(Exception):
    """The passphrase is not the stack's."""


def from_environment(environ: Mapping[str, str]) -> bytes | None:
    """The passphrase of PULUMI_CONFIG_PASSPHRASE, which may be empty, else of the file that
    PULUMI_CONFIG_PASSPHRASE_FILE names; None when neither is set. Raises OSError for the file."""
    if VARIABLE in environ:
        return environ[VARIABLE].encode(errors="surrogateescape")
    if not environ.get(FILE_VARIABLE):
        return None
    text = Path(environ[FILE_VARIABLE]).read_bytes().decode(errors="surrogateescape")
    return text.strip(_SPACE).encode(errors="surrogateescape")


def unlock(passphrase: bytes, encryptionsalt: str) -> bytes:
    """The key of a stack's values. Deriving it takes some tenths of a second.

    Raises WrongPassphraseError, or ValueError for an encryptionsalt that Pulumi did not write.
    """
    version, salt, check = encryptionsalt.split(":", 2)
    if version != "v1":
        raise ValueError("unknown version")
    _parts(check)
    key = _derived(passphrase, base64.b64decode(salt, validate=True))
    try:
        right = decrypt(key, check) == "pulumi"
    except ValueError:
        right = False
    if not right:
        raise WrongPassphraseError
    return key


def decrypt(key: bytes, value: str) -> str:
    """The plain text of a value. Raises ValueError when it is damaged or encrypted with another key."""
    try:
        return AESGCM(key).decrypt(*_parts(value), None).decode()
    except InvalidTag:
        raise ValueError("damaged") from None


def encrypt(key: bytes, plain: str) -> str:
    """The encrypted text of a value."""
    nonce = os.urandom(_NONCE_BYTES)
    return f"v1:{_base64(nonce)}:{_base64(AESGCM(key).encrypt(nonce, plain.encode(), None))}"


def new_salt(passphrase: bytes) -> tuple[str, bytes]:
    """A new encryptionsalt, and the key of the stack's values."""
    salt = os.urandom(_SALT_BYTES)
    key = _derived(passphrase, salt)
    return f"v1:{_base64(salt)}:{encrypt(key, 'pulumi')}", key


def _derived(passphrase: bytes, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", passphrase, salt, _ROUNDS, _KEY_BYTES)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _parts(value: str) -> tuple[bytes, bytes]:
    """(nonce, ciphertext and tag) of a value."""
    version, nonce, ciphertext = value.split(":")
    if version != "v1":
        raise ValueError("unknown version")
    return base64.b64decode(nonce, validate=True), base64.b64decode(ciphertext, validate=True)


def secure(value: Any) -> str | None:
    """The encrypted text of `{secure: <text>}`; None for anything else, as Pulumi ignores a map with more keys."""
    if isinstance(value, dict) and list(value) == ["secure"] and isinstance(value["secure"], str):
        return value["secure"]
    return None


def find(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """(place, encrypted text) of everything encrypted in a config value; places as `config set --path` takes them."""
    encrypted = secure(value)
    if encrypted is not None:
        yield place, encrypted
    elif isinstance(value, dict):
        for key, item in value.items():
            plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", str(key))
            yield from find(item, f"{place}.{key}" if plain else f"{place}[{json.dumps(str(key))}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from find(item, f"{place}[{index}]")


def with_plain_text(value: Any, plain: Mapping[str, str]) -> Any:
    """A config value with everything encrypted in it decrypted. plain: encrypted text → plain text."""
    encrypted = secure(value)
    if encrypted is not None:
        return plain[encrypted]
    if isinstance(value, dict):
        return {key: with_plain_text(item, plain) for key, item in value.items()}
    if isinstance(value, list):
        return [with_plain_text(item, plain) for item in value]
    return value
