"""A machine of a stack: a system container of LXD, with the rehearsal's own SSH key and a known host key."""

import gzip
import json
import re
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rehearsal.cloud import daemon, members, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.instance_types import size
from rehearsal.cloud.lxd import STACK_TAG, LxdError, retry_busy
from rehearsal.engine.errors import RehearsalError

T = TypeVar("T")
_PACKED = re.compile(r"(?<=^  encoding: gz\+b64\n  content: )\S+$", re.MULTILINE)
# Seconds from the start to an address, and from the address to a listening sshd.
_BOOT = 180
_FIREWALL_HINT = "a firewall of this host may drop its requests (look at iptables-save and nft list ruleset), or "


def make(
    context: CloudContext,
    name: str,
    inputs: Mapping[str, Any],
    devices: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
) -> None:
    """Create a stopped machine. inputs: of its Instance. devices: as LXD takes them. tags: more of its config."""
    body = {
        "name": name,
        "type": "container",
        "profiles": [],
        "source": {"type": "image", "alias": context.images[inputs["imageId"]].alias},
        "config": {**config(context, inputs), STACK_TAG: context.stack, **(tags or {})},
        "devices": devices,
    }
    context.lxd.post("/1.0/instances", body)


def config(context: CloudContext, inputs: Mapping[str, Any]) -> dict[str, str]:
    """LXD's config of a machine, as its Instance's inputs decide it."""
    limits = size(inputs["instanceType"])
    user_data = inputs.get("userData") or "#cloud-config"
    user_data = put_in_place(user_data, context.images[inputs["imageId"]].replaced)
    return {
        "limits.cpu": str(limits.cpu),
        "limits.memory": f"{limits.memory}MiB",
        "user.user-data": user_data,
        "user.public-keys": json.dumps(public_keys(context, inputs)),
    }


def unpacked(user_data: str) -> str:
    """User data with the text of the packed file in place of its bytes."""
    return _PACKED.sub(lambda found: gzip.decompress(b64decode(found[0])).decode(), user_data)


def put_in_place(user_data: str, texts: Mapping[str, str]) -> str:
    """User data with other texts in place of some, in its packed file, too. texts: old → new."""

    def replaced(text: str) -> str:
        for old, new in texts.items():
            text = text.replace(old, new)
        return text

    def packed(found: re.Match[str]) -> str:
        text = replaced(gzip.decompress(b64decode(found[0])).decode())
        return b64encode(gzip.compress(text.encode(), mtime=0)).decode()

    return _PACKED.sub(packed, replaced(user_data))


def public_keys(context: CloudContext, inputs: Mapping[str, Any]) -> list[str]:
    """The key pair's public key and the rehearsal's own."""
    keys = [context.keys.public]
    if inputs.get("keyName"):
        pair = context.state.by_id(tokens.KEY_PAIR, inputs["keyName"])
        if pair is None:
            raise RehearsalError(f"key_name {inputs['keyName']} is no key pair of this stack")
        keys.insert(0, pair.inputs["publicKey"].strip())
    # Two keys that differ only in their comment are the same key.
    return list({" ".join(key.split()[:2]): key for key in reversed(keys)}.values())[::-1]


def authorize(context: CloudContext, name: str, keys: list[str]) -> None:
    """Let these public keys, and no others, log in as root."""
    text = "".join(f"{key}\n" for key in keys)
    context.lxd.write(name, "/root/.ssh/authorized_keys", text)


def let_in(context: CloudContext, name: str, inputs: Mapping[str, Any]) -> None:
    """Let the public keys log in to a machine of an image that does not read them itself."""
    context.lxd.exec(name, ["install", "-d", "-m", "0700", "/root/.ssh"])
    authorize(context, name, public_keys(context, inputs))


def power(context: CloudContext, name: str, action: str) -> None:
    """Start or restart a machine. Raises RehearsalError with the end of LXD's log."""
    try:
        context.lxd.put(f"/1.0/instances/{name}/state", {"action": action, "timeout": 30, "force": action != "start"})
    except LxdError as error:
        log = context.lxd.find(f"/1.0/instances/{name}") and _start_log(context, name)
        raise RehearsalError(f"{name} does not {action}: {error}\n{log or ''}".rstrip()) from None


def wait_for_address(context: CloudContext, name: str, bridge: str) -> str:
    """The machine's IPv4 address, once its bridge has given it one. Raises RehearsalError."""
    failure = f"{name} has got no address from the bridge {bridge}"
    return _wait(lambda: _address(context, name), failure, _FIREWALL_HINT)


def wait_for_sshd(context: CloudContext, name: str) -> None:
    """Wait until sshd answers, and note its host key. Raises RehearsalError."""
    keys = _wait(lambda: _host_keys(context, name), f"{name}: sshd does not answer")
    context.keys.know(name, keys)


def introduce(context: CloudContext) -> None:
    """Let a newly made key of the rehearsal log in to the existing machines, and note their host keys."""
    for record in context.state.records(tokens.INSTANCE):
        if record.status == "done" and context.lxd.find(f"/1.0/instances/{record.id}"):
            _introduce(context, record.id, record.inputs)
    configurations = {each.id: each.inputs for each in context.state.records(tokens.SCALING_CONFIGURATION)}
    for member in members.all_members(context.lxd):
        if member.is_whole:
            _introduce(context, member.id, configurations.get(member.configuration, {}))


def _introduce(context: CloudContext, name: str, inputs: Mapping[str, Any]) -> None:
    authorize(context, name, public_keys(context, inputs))
    context.keys.know(name, _host_keys(context, name))


def names(context: CloudContext) -> list[str]:
    """Every machine in the stack's LXD project, whatever the state knows."""
    if not context.state.exists:
        return []
    return [path.split("?")[0].rsplit("/", 1)[-1] for path in context.lxd.get("/1.0/instances")]


def remove(context: CloudContext, name: str) -> None:
    """Stop and delete a machine. A machine that does not exist is no error."""
    path = f"/1.0/instances/{name}"

    def stop_and_delete() -> None:
        found = context.lxd.find(path)
        if found is not None and found["status"] == "Frozen":
            # Its processes could not be told to end.
            context.lxd.put(f"{path}/state", {"action": "unfreeze", "timeout": 10})
        if found is not None and found["status"] != "Stopped":
            context.lxd.put(f"{path}/state", {"action": "stop", "force": True, "timeout": 10})
        context.lxd.delete(path)

    retry_busy(stop_and_delete)
    context.keys.forget(name)


def _address(context: CloudContext, name: str) -> str | None:
    network = context.lxd.get(f"/1.0/instances/{name}/state")["network"] or {}
    addresses = (network.get("eth0") or {"addresses": []})["addresses"]
    return next((item["address"] for item in addresses if item["family"] == "inet"), None)


def _host_keys(context: CloudContext, name: str) -> list[str]:
    """Public host keys (`type base64`); none until sshd answers.

    The scan runs on this host inside the machine's network. From outside the security group decides, and `lxc exec`
    sometimes loses what a command prints when several machines boot at the same time.
    """
    pid = context.lxd.get(f"/1.0/instances/{name}/state")["pid"]
    scan = ["nsenter", f"--target={pid}", "--net", "ssh-keyscan", "-T", "2", "-t", "ed25519", "127.0.0.1"]
    done = subprocess.run(scan, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return [line.split(" ", 1)[1] for line in done.stdout.splitlines() if not line.startswith("#")]


def _wait(probe: Callable[[], T | None], failure: str, hint: str = "") -> T:
    deadline = time.monotonic() + _BOOT
    while not (value := probe()):
        if time.monotonic() > deadline:
            raise RehearsalError(
                f"{failure} after {_BOOT} s; {hint}look at ./rehearse logs, and run ./rehearse up again"
            )
        time.sleep(0.1)
    return value


def _start_log(context: CloudContext, name: str) -> str:
    path = Path(f"{daemon.current().logs}/{context.lxd.project}_{name}/lxc.log")
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return "\n".join(line for line in lines if " ERROR " in line or " WARN " in line)[-2000:]
