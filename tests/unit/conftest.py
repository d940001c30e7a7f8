"""What every unit test has."""

import functools
import hashlib

import pytest

_derive = functools.cache(hashlib.pbkdf2_hmac)


@pytest.fixture(autouse=True)
def keys_are_derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of a passphrase takes a million rounds on purpose, and the tests share a few passphrases."""
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", _derive)


@pytest.fixture(autouse=True)
def no_package_index_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
