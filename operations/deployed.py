"""The machines of a stack that is deployed: the outputs of the program, and the stack's settings of SSH.

~/.ssh/wsgi-ecs/<project>-<stack>/host_keys      of each server, as pulumi up has found it, or of access.host_key
                                  known_hosts    of servers of an earlier version, added at the first connection
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic.networks import IPvAnyAddress

from contract.resources import MACHINES
from operations.connection import Way
from operations.errors import UserError
from operations.local_files import local_path
from operations.machines import Machine, Stack

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_KEY_TYPES = ("ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
# Seconds for Pulumi's answer, which may come from a service.
_PATIENCE = 60
# How an error of Pulumi goes on, by a word of it.
_NEXT = {
    "no stack named": "allowed: a stack of pulumi stack ls",
    "PULUMI_ACCESS_TOKEN": "log in with pulumi login",
    "pulumi login": "log in as it says",
    "passphrase": "set the passphrase of the stack, as for pulumi up",
}


class _Machine(BaseModel):
    """A machine in the output `machines`."""

    name: Annotated[str, Field(pattern=f"^{_NAME}$")]
    id: Annotated[str, Field(pattern=f"^{_NAME}$")]
    private_address: IPvAnyAddress
    host_key: Annotated[str, Field(pattern=rf"^({'|'.join(_KEY_TYPES)}) [A-Za-z0-9+/]+=*$")] | None = None
    sites: tuple[Annotated[str, Field(pattern=f"^{_NAME}$")], ...]


class _Outputs(BaseModel):
    """The outputs that are needed."""

    address: IPvAnyAddress
    url: Annotated[str, Field(pattern="^https?://")]
    machines: Annotated[tuple[_Machine, ...], Field(min_length=1)]


class NotDeployedError(UserError):
    """Pulumi does not know the stack, or cannot be asked."""


def deployed(root: Path, stack: str, file: str | None) -> Stack:
    """The stack. root: the project. file: path of the outputs, None to ask Pulumi. Raises UserError."""
    outputs = _of_file(file) if file else of_pulumi(root, stack)
    return from_outputs(root, stack, outputs, f"{file}: " if file else "")


def from_outputs(root: Path, stack: str, outputs: Mapping[str, Any], origin: str = "") -> Stack:
    """The stack that outputs describe. origin: a message's start. Raises UserError."""
    if MACHINES not in outputs:
        raise UserError(
            f"{origin}stack {stack} has no output machines, so an earlier version has deployed it, or its last pulumi "
            "up has failed; run pulumi up"
        )
    try:
        found = _Outputs.model_validate(outputs)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(
            f"{origin}output {place}: {error.errors()[0]['msg']}; allowed: what pulumi stack output --json prints"
        ) from None
    project, access = _access(root, stack)
    key = Path(root, Path(access["private_key_file"]).expanduser()) if access.get("private_key_file") else None
    if key and not key.is_file():
        raise UserError(f"access.private_key_file: {key}: no such file; allowed: a file with the private key")
    folder = Path.home() / ".ssh" / "wsgi-ecs" / f"{project}-{stack}"
    ways = _ways(found, folder, key, access.get("host_key"))
    machines = (Machine(each.name, each.id, each.sites, way) for each, way in zip(found.machines, ways, strict=True))
    return Stack(stack, tuple(machines), outputs)


def of_pulumi(root: Path, stack: str) -> dict[str, Any]:
    """The outputs of a stack, from the Pulumi CLI. Raises NotDeployedError."""
    if not shutil.which("pulumi"):
        raise NotDeployedError(
            "the Pulumi CLI is not installed; allowed: --outputs FILE with what pulumi stack output --json printed"
        )
    command = ["pulumi", "stack", "output", "--json", "--stack", stack, "--non-interactive"]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotDeployedError(f"{' '.join(command[:4])}: {error}") from None
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("error: ")), "error: no reason")
        advice = next((text for word, text in _NEXT.items() if word in done.stderr), "see pulumi stack output")
        raise NotDeployedError(f"pulumi: {reason.removeprefix('error: ')}; {advice}")
    return _read(done.stdout, "pulumi stack output --json")


def _of_file(file: str) -> dict[str, Any]:
    try:
        text = local_path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--outputs {file}: {getattr(error, 'strerror', None) or 'no text'}; allowed: a file") from None
    return _read(text, f"--outputs {file}")


def _read(text: str, origin: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{origin}: no map in JSON; allowed: what pulumi stack output --json prints")
    return found


def _access(root: Path, stack: str) -> tuple[str, dict[str, str]]:
    """The project's name, and the texts of the section access in the stack's file; empty without such a file."""
    project = _yaml(root / "Pulumi.yaml")
    name = str(project.get("name") or "wsgi-ecs")
    config = _yaml(root / str(project.get("stackConfigDir") or ".") / f"Pulumi.{stack}.yaml").get("config")
    config = config if isinstance(config, dict) else {}
    access = config.get(f"{name}:access", config.get("access"))
    texts = access.items() if isinstance(access, dict) else ()
    return name, {key: value for key, value in texts if isinstance(value, str)}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; allowed: a file of YAML") from None
    return found if isinstance(found, dict) else {}


def _ways(outputs: _Outputs, folder: Path, key: Path | None, host_key: str | None) -> list[Way]:
    """The way to each machine. host_key: of the server with the public address, if the stack's settings have it."""
    # The name of a host key is the instance's id: a server that replaces another one is new, not changed.
    first, *others = outputs.machines
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = {each.id: each.host_key for each in outputs.machines if each.host_key}
    if host_key:
        keys[first.id] = " ".join(host_key.split()[:2])
    pinned = folder / "host_keys"
    pinned.write_text("".join(f"{machine} {line}\n" for machine, line in keys.items()), encoding="utf-8")

    def known(machine: _Machine) -> tuple[Path, Path | None, bool]:
        """Known hosts, private key, and whether a new host key is accepted."""
        is_pinned = machine.id in keys
        return pinned if is_pinned else folder / "known_hosts", key, not is_pinned

    front = Way(str(outputs.address), first.id, *known(first))
    jump = tuple(front.command())
    return [front, *(Way(str(each.private_address), each.id, *known(each), jump, front) for each in others)]
