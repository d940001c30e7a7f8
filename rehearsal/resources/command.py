"""Commands over real SSH, files over real SFTP, local processes.

The machine is found by its address and its host key is known, so nothing is
accepted blindly and nothing but a machine of the stack is ever reached.
"""

import os
import re
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi

from rehearsal.compare import Schema
from rehearsal.errors import RehearsalError
from rehearsal.processes import Done, run
from rehearsal.resources import pairs
from rehearsal.resources.base import Context, Resource, only
from rehearsal.state import Record

# What ssh says when a connection ends before a command has begun, as when cloud-init restarts sshd.
_DIAL = re.compile(
    "ssh: connect to host|kex_exchange_identification|Connection (reset|closed|timed out)"
    "|banner exchange|ssh_dispatch_run_fatal"
)


class _OverSsh(Resource):
    def facts(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        connection = inputs["connection"]
        proxy = connection.get("proxy")
        return {**_where(connection), "proxy": _where(proxy) if proxy else None}

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return secrets.token_hex(16)

    def check(self, inputs: Mapping[str, Any]) -> None:
        connection = inputs.get("connection") or {}
        if not connection.get("host"):
            raise RehearsalError("connection.host is missing")
        if connection.get("proxy") and not connection["proxy"].get("host"):
            raise RehearsalError("connection.proxy.host is missing")

    def ssh(self, context: Context, facts: Mapping[str, Any]) -> list[str]:
        """The ssh command line for the machine that has this address, through the proxy if there is one.

        As in the cloud, a machine without a public address is reached through another one alone.
        """
        proxy, public = facts.get("proxy"), _public(context)
        if proxy is None:
            return self._line(context, facts, public, "connection.host", "public address")
        jump = self._line(context, proxy, public, "connection.proxy.host", "public address")
        return self._line(context, facts, public | _private(context), "connection.host", "address", jump)

    def _line(
        self,
        context: Context,
        facts: Mapping[str, Any],
        machines: Mapping[str, str],
        key: str,
        what: str,
        jump: Sequence[str] = (),
    ) -> list[str]:
        host = facts["host"]
        if host not in machines:
            raise RehearsalError(f"{key} {host} is no {what} of a machine of this stack")
        return context.keys.ssh(machines[host], host, facts.get("user", "root"), int(facts.get("port", 22)), jump)

    def dial(self, context: Context, command: list[str], connection: Mapping[str, Any], stdin: str, log: str) -> Done:
        """Run ssh; try again while there is no connection, as often as the connection or its proxy says.

        log: what is shown of the output, as the input `logging` of a Command names it.
        """
        first = connection.get("proxy") or connection
        failures = 0
        while True:
            missed, through = first, ""
            if _listens(first["host"], int(first.get("port", 22)), first.get("perDialTimeout", 15) or 15):
                done = run(command, stdin, _sayer(context, log))
                said = (done.stderr.rstrip().splitlines() or [""])[-1]
                if done.code != 255 or not _DIAL.match(said) or done.stdout:
                    return done
                missed, through = connection, f" through {first['host']}" if first is not connection else ""
            failures += 1
            limit = missed.get("dialErrorLimit", 10)
            if limit != -1 and failures >= limit:
                where = f"{missed['host']}:{int(missed.get('port', 22))}{through}"
                raise RehearsalError(f"no SSH connection to {where} after {failures} attempts")
            time.sleep(1)


def _where(connection: Mapping[str, Any]) -> dict[str, Any]:
    """What of a connection, or of its proxy, is recorded: nothing secret."""
    return {key: connection[key] for key in ("host", "user", "port") if key in connection}


def _sayer(context: Context, log: str) -> Any:
    shown = {"stdout": ("stdout",), "stderr": ("stderr",), "none": ()}.get(log, ("stdout", "stderr"))

    def say(stream: str, line: str) -> None:
        if stream in shown and line:
            context.say(line)

    return say


def _private(context: Context) -> dict[str, str]:
    """Private address → machine."""
    found = {machine.outputs.get("primaryIpAddress"): machine.id for machine in context.state.records(pairs.INSTANCE)}
    return {address: machine for address, machine in found.items() if address}


def _public(context: Context) -> dict[str, str]:
    """Public address → machine that it leads to."""
    machines = _private(context)
    forwards = [
        forward
        for pair in pairs.of_stack(context.host, context.stack)
        for forward in context.host.get(f"/1.0/networks/{pair.name}/forwards", recursion="1")
    ]
    targets = {forward["listen_address"]: forward["config"].get("target_address") for forward in forwards}
    return {address: machines[target] for address, target in targets.items() if target in machines}


def _listens(host: str, port: int, timeout: float) -> bool:
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def failed(what: str, done: Done, log: str) -> RehearsalError:
    """The error of a command that exited with another code than 0, with what of its output was not shown yet."""
    tail = "".join(f"\n{line}" for line in done.tail if line) if log in ("none", "stdout") else ""
    return RehearsalError(f"{what} exited {done.code}{':' if tail else ', see its lines above'}{tail}")


class _Command(Resource):
    """Runs `create`, and when it changes `update`, or `create` again where there is none."""

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self._run(context, record.name, inputs, inputs.get("create"))

    def update(
        self, context: Context, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        return self._run(context, record.name, inputs, inputs.get("update") or inputs.get("create"))

    def _run(self, context: Context, name: str, inputs: Mapping[str, Any], text: str | None) -> dict[str, Any]:
        raise NotImplementedError


class RemoteCommand(_Command, _OverSsh):
    schema = Schema(
        replaces=frozenset({"triggers"}),
        updates=dict.fromkeys(
            ("connection", "create", "update", "delete", "stdin", "environment", "logging"), "runs again"
        ),
        recorded=frozenset({"addPreviousOutputInEnv"}),
    )

    def facts(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().facts(inputs), **({"delete": inputs["delete"]} if inputs.get("delete") else {})}

    def check(self, inputs: Mapping[str, Any]) -> None:
        super().check(inputs)
        if inputs.get("environment"):
            raise RehearsalError("environment is not rehearsed: sshd accepts no variables as it comes; use stdin")
        only(inputs, "logging", "stdout", "stderr", "stdoutAndStderr", "none")

    def _run(self, context: Context, name: str, inputs: Mapping[str, Any], text: str | None) -> dict[str, Any]:
        if not text:
            return {"stdout": "", "stderr": ""}
        connection = inputs["connection"]
        line = [*self.ssh(context, connection), "--", text]
        done = self.dial(context, line, connection, inputs.get("stdin") or "", inputs.get("logging", ""))
        if done.code:
            raise failed(f"command {name}", done, inputs.get("logging", ""))
        return {"stdout": done.stdout.removesuffix("\n"), "stderr": done.stderr.removesuffix("\n")}

    def delete(self, context: Context, record: Record) -> None:
        if record.status == "pending" or "delete" not in record.facts:
            return
        line = [*self.ssh(context, record.facts), "--", record.facts["delete"]]
        done = self.dial(context, line, record.facts, "", "")
        if done.code:
            raise failed(f"delete command of {record.name}", done, "")


class CopyToRemote(_OverSsh):
    schema = Schema(
        replaces=frozenset({"triggers"}),
        updates=dict.fromkeys(("connection", "source", "remotePath"), "copies again"),
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        super().check(inputs)
        if not isinstance(inputs.get("source"), (pulumi.FileAsset, pulumi.StringAsset)):
            raise RehearsalError("source: allowed: a FileAsset or a StringAsset")

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        connection = inputs["connection"]
        source = inputs["source"]
        content = Path(source.path).read_bytes() if isinstance(source, pulumi.FileAsset) else source.text.encode()
        ssh = self.ssh(context, connection)
        scratch = context.keys.folder / f"upload-{record.serial}"
        scratch.write_bytes(content)
        try:
            # sftp takes ssh's options; its port option alone has another name.
            options, target = ssh[1:-3], ssh[-1]
            line = ["sftp", "-q", "-b", "-", "-P", ssh[-2], *options, target]
            batch = f"put {_quoted(str(scratch))} {_quoted(inputs['remotePath'])}\n"
            done = self.dial(context, line, connection, batch, "none")
        finally:
            scratch.unlink()
        if done.code:
            raise failed(f"copy {record.name} to {inputs['remotePath']}", done, "none")
        return {}

    def update(
        self, context: Context, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        return self.create(context, record, inputs)


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class LocalCommand(_Command):
    schema = Schema(
        replaces=frozenset({"triggers"}),
        updates=dict.fromkeys(
            ("create", "update", "delete", "stdin", "environment", "dir", "interpreter", "logging"), "runs again"
        ),
        recorded=frozenset({"addPreviousOutputInEnv"}),
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return secrets.token_hex(16)

    def facts(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        # Its environment may be secret: a delete command runs without it.
        return {key: inputs[key] for key in ("delete", "dir", "interpreter") if inputs.get(key)}

    def delete(self, context: Context, record: Record) -> None:
        if record.status != "pending" and "delete" in record.facts:
            self._run(context, record.name, record.facts, record.facts["delete"])

    def _run(self, context: Context, name: str, inputs: Mapping[str, Any], text: str | None) -> dict[str, Any]:
        if not text:
            return {"stdout": "", "stderr": ""}
        interpreter: Sequence[str] = inputs.get("interpreter") or ["/bin/sh", "-c"]
        environment = {**os.environ, **(inputs.get("environment") or {})}
        folder = context.root / (inputs.get("dir") or ".")
        say = _sayer(context, inputs.get("logging", ""))
        done = run([*interpreter, text], inputs.get("stdin") or "", say, folder, environment)
        if done.code:
            raise failed(f"command {name}", done, inputs.get("logging", ""))
        return {"stdout": done.stdout.removesuffix("\n"), "stderr": done.stderr.removesuffix("\n")}
