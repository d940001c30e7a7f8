"""Values encrypted as Pulumi's passphrase provider does it, for the stacks of tests."""

import base64
import hashlib
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PASSPHRASE = "rehearse"
ENCRYPTION_SALT = "v1:Y0l9Q1rckOw=:v1:Cf8jC8DUSEDSShZ+:0uzYBIFYJAExfYkFGklz+c8mbbewYg=="
KEY = hashlib.pbkdf2_hmac("sha256", PASSPHRASE.encode(), base64.b64decode("Y0l9Q1rckOw="), 1_000_000)


def encrypt(plain: str, key: bytes = KEY) -> str:
    """The text of a `secure:` key."""
    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, plain.encode(), None)
    return f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(sealed).decode()}"
