"""Values encrypted as Pulumi's passphrase provider does it, for the stacks of tests."""

import base64
import hashlib
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PASSPHRASE = "rehearse"
ENCRYPTION_SALT = "v1:Y0l9Q1rckOw=:v1:Cf8jC8DUSEDSShZ+:0uzYBIFYJAExfYkFGklz+c8mbbewYg=="


def derived(passphrase: str, encryption_salt: str = ENCRYPTION_SALT) -> bytes:
    """The key of a stack's values."""
    salt = base64.b64decode(encryption_salt.split(":")[1])
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, 1_000_000)


KEY = derived(PASSPHRASE)


def encrypt(plain: str, key: bytes = KEY) -> str:
    """The text of a `secure:` key."""
    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, plain.encode(), None)
    return f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(sealed).decode()}"


def new_salt(passphrase: str) -> str:
    """An encryptionsalt of a passphrase of one's own."""
    salt = f"v1:{base64.b64encode(os.urandom(8)).decode()}"
    return f"{salt}:{encrypt('pulumi', derived(passphrase, salt))}"
