"""A command on a machine, over SSH."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.ssh_connection import SSH_WORDS, OverSsh, command_error, dial, ssh_command
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import only
from rehearsal.engine.state import Record


class RemoteCommand(OverSsh):
    """Runs `create`; after a change it runs `update`, or `create` again if there is no `update`."""

    schema = Schema(
        replaces=frozenset({"triggers"}),
        updates=dict.fromkeys(
            ("connection", "create", "update", "delete", "stdin", "environment", "logging"), "runs again"
        ),
        recorded=frozenset({"addPreviousOutputInEnv"}),
        words={**SSH_WORDS, "stdin": "a changed environment, secret or origin", "create": "a changed command"},
    )

    def facts(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().facts(inputs), **({"delete": inputs["delete"]} if inputs.get("delete") else {})}

    def check(self, inputs: Mapping[str, Any]) -> None:
        super().check(inputs)
        if inputs.get("environment"):
            raise RehearsalError("environment is not rehearsed: by default sshd accepts no variables; use stdin")
        only(inputs, "logging", "stdout", "stderr", "stdoutAndStderr", "none")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self._run(context, record.name, inputs, inputs.get("create"))

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        return self._run(context, record.name, inputs, inputs.get("update") or inputs.get("create"))

    def _run(self, context: CloudContext, name: str, inputs: Mapping[str, Any], command: str | None) -> dict[str, Any]:
        if not command:
            return {"stdout": "", "stderr": ""}
        connection, log = inputs["connection"], inputs.get("logging", "")
        words = [*ssh_command(context, connection), "--", command]
        done = dial(context, words, connection, inputs.get("stdin") or "", log)
        if done.code:
            raise command_error(f"command {name}", done, log)
        return {"stdout": done.stdout.removesuffix("\n"), "stderr": done.stderr.removesuffix("\n")}

    def delete(self, context: CloudContext, record: Record) -> None:
        if record.status == "pending" or "delete" not in record.facts:
            return
        words = [*ssh_command(context, record.facts), "--", record.facts["delete"]]
        done = dial(context, words, record.facts, "", "")
        if done.code:
            raise command_error(f"delete command of {record.name}", done, "")
