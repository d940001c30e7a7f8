"""`releases` and `rollback`: the kept releases of a site, and one of them live again on each of its servers.

The server with the public address has the ids that the stack's outputs show. Each of its releases names the release of
the app servers that belongs to it, if there are app servers.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contract import paths
from contract.kept import BY
from contract.user import user_at_host
from operations.attached import attach
from operations.connection import explain
from operations.errors import OperationError, UserError
from operations.machines import Machine, Stack

# The shell found no such program.
_NO_PROGRAM = 127


@dataclass(frozen=True)
class _Server:
    """A machine that has the site."""

    machine: Machine
    site: str

    def run(self, verb: str, *words: str) -> int:
        """Run a verb of the server's own command and show what it prints. Returns its exit code."""
        return self._checked(attach(self.machine, [self._command(verb, words)], terminal=False))

    def ask(self, verb: str, *words: str) -> tuple[int, Any]:
        """The exit code of a verb, and the JSON that it prints, None when it refuses."""
        command = [*self.machine.way.command(), "--", self._command(verb, words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if done.returncode == 255 and (advice := explain(self.machine.way)):
            print(f"{self.machine.name}: {advice}", file=sys.stderr)
        code = self._checked(done.returncode)
        return code, json.loads(done.stdout) if code == 0 else None

    def _command(self, verb: str, words: Sequence[str]) -> str:
        # The server's audit log and a run that waits for this one name the user.
        by = f"{BY}={shlex.quote(user_at_host())}"
        return f"{by} {shlex.join([paths.RELEASE_COMMAND, verb, '--site', self.site, *words])}"

    def _checked(self, code: int) -> int:
        if code == _NO_PROGRAM:
            raise UserError(f"{self.machine.name} has no {paths.RELEASE_COMMAND} yet; run up, which brings it")
        return code


def releases(stack: Stack, site: str | None) -> int:
    """List the kept releases of a site. Returns the exit code. site: None for the only one. Raises UserError."""
    front, *_ = _servers(stack, site)
    return front.run("list")


def rollback(stack: Stack, site: str | None, identifier: str | None, force: bool) -> int:
    """Put a kept release live on each server of its site, or leave all as they are. Returns the exit code.

    identifier: the beginning of an id, None for the release that served before. force: although a later release is
    irreversible. Raises UserError or OperationError.
    """
    front, *apps = _servers(stack, site)
    words = [*(["--force"] if force else []), *([identifier] if identifier else [])]
    if not apps:
        return front.run("rollback", *words)
    code, found = front.ask("find", *words)
    if code:
        return code
    if not found["pair"]:
        raise UserError(
            f"site {front.site}: release {found['id']} does not say which release its app servers had, because an "
            "earlier version has released it; allowed: a later one"
        )
    done: list[tuple[_Server, str]] = []
    for server, wanted in [*((app, found["pair"]) for app in apps), (front, found["id"])]:
        print(f"machine {server.machine.name}", flush=True)
        code, target = server.ask("find", "--force", wanted)
        try:
            code = code or server.run("rollback", "--force", wanted)
        except KeyboardInterrupt:
            # The server goes on without this command, and its way back waits for that.
            _go_back([*done, (server, target["serving"])])
            raise
        if code:
            _go_back(done)
            return code
        done.append((server, target["serving"]))
    return 0


def _go_back(done: Sequence[tuple[_Server, str]]) -> None:
    """Put back what has served on the servers that were rolled back. Raises OperationError."""
    for server, before in reversed(done):
        print(f"machine {server.machine.name} goes back to release {before}", flush=True)
        if server.run("rollback", "--force", before):
            raise OperationError(
                f"{server.machine.name} does not go back to release {before}, see its lines above; put it right, and "
                f"run on it: wsgi-ecs-release rollback --site {server.site} {before}"
            )


def _servers(stack: Stack, site: str | None) -> list[_Server]:
    """The servers that a site is released to; the one with the public address is the first. Raises UserError."""
    chosen = stack.site(site)
    servers = [_Server(stack.machine(each.name), chosen) for each in stack.machines if chosen in each.sites]
    if not servers:
        raise UserError(f"stack {stack.name} has no release of site {chosen} yet; run up, which brings one")
    return servers
