"""A certificate of CAS, with its private key: a file beside the rehearsal's own keys, which HAProxy gets a copy of."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.resource import Resource
from rehearsal.engine.state import Record


class ServiceCertificate(Resource[CloudContext]):
    prefix = "cas"
    schema = Schema(replaces=frozenset({"cert", "key"}), updates={"certificateName": "", "tags": ""})

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        path = context.keys.folder / f"{record.id}.pem"
        path.touch(0o600)
        path.write_text(f"{inputs['cert'].rstrip()}\n{inputs['key'].rstrip()}\n")
        return {}

    def exists(self, context: CloudContext, record: Record) -> bool:
        return (context.keys.folder / f"{record.id}.pem").is_file()

    def delete(self, context: CloudContext, record: Record) -> None:
        (context.keys.folder / f"{record.id}.pem").unlink(missing_ok=True)
