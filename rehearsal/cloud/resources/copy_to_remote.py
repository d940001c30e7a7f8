"""A file that is copied to a machine, over SFTP."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi

from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.ssh_connection import SSH_WORDS, OverSsh, command_error, dial, ssh_command
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.state import Record


class CopyToRemote(OverSsh):
    schema = Schema(
        replaces=frozenset({"triggers"}),
        updates=dict.fromkeys(("connection", "source", "remotePath"), "copies again"),
        words={**SSH_WORDS, "source": "a changed file"},
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        super().check(inputs)
        if not isinstance(inputs.get("source"), (pulumi.FileAsset, pulumi.StringAsset)):
            raise RehearsalError("source: allowed: a FileAsset or a StringAsset")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        connection = inputs["connection"]
        source = inputs["source"]
        content = Path(source.path).read_bytes() if isinstance(source, pulumi.FileAsset) else source.text.encode()
        ssh = ssh_command(context, connection)
        scratch = context.keys.folder / f"upload-{record.serial}"
        scratch.write_bytes(content)
        try:
            # sftp takes ssh's options, except that its option for the port is -P.
            options, target = ssh[1:-3], ssh[-1]
            words = ["sftp", "-b", "-", "-P", ssh[-2], *options, target]
            batch = f"put {_quoted(str(scratch))} {_quoted(inputs['remotePath'])}\n"
            done = dial(context, words, connection, batch, "none")
        finally:
            scratch.unlink()
        if done.code:
            error = command_error(f"copy {record.name} to {inputs['remotePath']}", done, "none")
            # All that SFTP has for what is no error of its own. Pulumi's engine shows it alone.
            if any(": Failure" in line for line in done.tail):
                error = RehearsalError(
                    f"{error}\nmost likely no space is left on the server: look at ./rehearse status"
                )
            raise error
        return {}

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        return self.create(context, record, inputs)


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
