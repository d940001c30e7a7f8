"""A key pair. Only its record exists: an instance that names it gets its public key."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource


class KeyPair(Resource[CloudContext]):
    schema = Schema(
        replaces=frozenset({"keyPairName", "publicKey"}),
        updates={"tags": "", "resourceGroupId": ""},
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return str(inputs["keyPairName"])

    def check(self, inputs: Mapping[str, Any]) -> None:
        for key in ("keyPairName", "publicKey"):
            if not inputs.get(key):
                raise RehearsalError(f"a key pair without {key} is not rehearsed")
