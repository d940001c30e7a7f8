"""Connections to machines over real SSH, as a `connection` of the command provider describes them.

A machine is found by its address and checked by the connection's host key. A connection without a host key, such as the
first one, is checked by the key that was read through LXD, so no host key is accepted blindly and only machines of the
stack are reached.
"""

import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rehearsal.cloud import group_bridge, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.processes import Done, run
from rehearsal.engine.compare import differing
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource

# What ssh prints when a connection ends before a command has begun, for example because cloud-init restarts sshd.
_DIAL = re.compile(
    "ssh: connect to host|kex_exchange_identification|Connection (reset|closed|timed out)"
    "|banner exchange|ssh_dispatch_run_fatal"
)
# What ssh prints of a machine, by its id, that shows another host key than the known one.
_OTHER_KEY = re.compile(
    r"^(?:Host key for|No \S+ host key is known for) (i-\w+) (?:has changed )?and you have", re.MULTILINE
)


def _triggers(old: Any, new: Any) -> str:
    """What changed among the triggers: the archive's id, the server's id, type or key, or the addresses of others."""
    return " and ".join(dict.fromkeys(_trigger(str(after or before)) for before, after in differing(old, new)))


def _trigger(value: str) -> str:
    if re.fullmatch("[0-9a-f]{12}", value):
        return "a new release"
    if value.startswith("ecs."):
        return "another server.instance_type"
    if re.search(r"-[0-9a-f]{12}$", value):
        return "the key pair"
    return "other servers" if re.fullmatch(r"[0-9.]+", value) else "a new server"


# How the inputs that all of them have are called in a reason.
SSH_WORDS: dict[str, str | Callable[[Any, Any], str]] = {"triggers": _triggers, "connection": "another way to log in"}


class OverSsh(Resource[CloudContext]):
    """A resource type whose work is done over a connection."""

    def facts(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        connection = inputs["connection"]
        proxy = connection.get("proxy")
        return {**_destination(connection), "proxy": _destination(proxy) if proxy else None}

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return secrets.token_hex(16)

    def check(self, inputs: Mapping[str, Any]) -> None:
        connection = inputs.get("connection") or {}
        if not connection.get("host"):
            raise RehearsalError("connection.host is missing")
        if connection.get("proxy") and not connection["proxy"].get("host"):
            raise RehearsalError("connection.proxy.host is missing")


def _destination(connection: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded part of a connection, or of its proxy, which contains no secrets."""
    return {key: connection[key] for key in ("host", "user", "port") if key in connection}


def ssh_command(context: CloudContext, facts: Mapping[str, Any]) -> list[str]:
    """The ssh command line for the machine with this address, through the proxy if the connection has one.

    As in the cloud, a machine without a public address is reached only through another machine.
    """
    proxy, public = facts.get("proxy"), _public(context)
    if proxy is None:
        return _to_machine(context, facts, public, "connection.host", "public address")
    jump = _to_machine(context, proxy, public, "connection.proxy.host", "public address")
    return _to_machine(context, facts, public | _private(context), "connection.host", "address", jump)


def _to_machine(
    context: CloudContext,
    facts: Mapping[str, Any],
    machines: Mapping[str, str],
    key: str,
    address: str,
    jump: Sequence[str] = (),
) -> list[str]:
    """machines: address → machine that may be reached. key, address: how an error names the host."""
    host = facts["host"]
    if host not in machines:
        raise RehearsalError(f"{key} {host} is no {address} of a machine of this stack")
    machine = machines[host]
    way = context.keys.way(machine, host, facts.get("user", "root"), int(facts.get("port", 22)), jump)
    if facts.get("hostKey"):
        way = replace(way, known_hosts=context.keys.pin(machine, facts["hostKey"]))
    return way.command()


def dial(context: CloudContext, command: list[str], connection: Mapping[str, Any], stdin: str, log: str) -> Done:
    """Run ssh. Retry while no connection is made, as often as the connection or its proxy allows.

    log: which output is shown, as the input `logging` of a Command names it. Raises RehearsalError.
    """
    first = connection.get("proxy") or connection
    failures = 0
    while True:
        missed, through = first, ""
        if _listens(first["host"], int(first.get("port", 22)), first.get("perDialTimeout", 15) or 15):
            done = run(command, stdin, _printer(context, log))
            last_line = (done.stderr.rstrip().splitlines() or [""])[-1]
            if done.code == 255 and (other := _OTHER_KEY.search(done.stderr)):
                # Trying again would not help.
                raise RehearsalError(
                    f"machine {other[1]} shows another host key than at its first contact, so nothing was sent to it; "
                    "put its key back, or destroy the stack and run up again"
                )
            if done.code != 255 or not _DIAL.match(last_line) or done.stdout:
                return done
            missed, through = connection, f" through {first['host']}" if first is not connection else ""
        failures += 1
        limit = missed.get("dialErrorLimit", 10)
        if limit != -1 and failures >= limit:
            where = f"{missed['host']}:{int(missed.get('port', 22))}{through}"
            raise RehearsalError(f"no SSH connection to {where} after {failures} attempts")
        time.sleep(1)


def _printer(context: CloudContext, log: str) -> Callable[[str, str], None]:
    shown = {"stdout": ("stdout",), "stderr": ("stderr",), "none": ()}.get(log, ("stdout", "stderr"))

    def say(stream: str, line: str) -> None:
        if stream in shown and line:
            context.say(line)

    return say


def _private(context: CloudContext) -> dict[str, str]:
    """Private address → machine."""
    found = {machine.outputs.get("primaryIpAddress"): machine.id for machine in context.state.records(tokens.INSTANCE)}
    return {address: machine for address, machine in found.items() if address}


def _public(context: CloudContext) -> dict[str, str]:
    """Public address → machine that it is forwarded to."""
    machines = _private(context)
    forwards = [
        forward
        for bridge in group_bridge.of_stack(context.host, context.stack)
        for forward in context.host.get(f"/1.0/networks/{bridge.name}/forwards", recursion="1")
    ]
    targets = {forward["listen_address"]: forward["config"].get("target_address") for forward in forwards}
    return {address: machines[target] for address, target in targets.items() if target in machines}


def _listens(host: str, port: int, timeout: float) -> bool:
    """Whether an SSH server answers. timeout: seconds."""
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def command_error(what: str, done: Done, log: str) -> RehearsalError:
    """The error of a command with an exit code other than 0, with the output that was not shown yet."""
    tail = "".join(f"\n{line}" for line in done.tail if line) if log in ("none", "stdout") else ""
    return RehearsalError(f"{what} exited {done.code}{':' if tail else ', see its lines above'}{tail}")
