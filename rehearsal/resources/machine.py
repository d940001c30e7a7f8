"""Key pairs and instances: system containers with the type's CPU and memory, user data and sshd."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rehearsal.compare import Schema
from rehearsal.errors import RehearsalError
from rehearsal.instance_types import size
from rehearsal.lxd import LxdError, settled
from rehearsal.resources import pairs
from rehearsal.resources.base import Context, Resource, only
from rehearsal.state import Record

POOL = "wsgi-ecs"
# Bytes of user data, as the older pages of ECS have it; newer ones say 32 KB.
# https://www.alibabacloud.com/help/en/ecs/user-guide/customize-the-initialization-configuration-for-an-instance
USER_DATA_LIMIT = 16 * 1024
T = TypeVar("T")
_KEY_PAIR = "alicloud:ecs/ecsKeyPair:EcsKeyPair"
# Seconds from start to an address, and from there to a listening sshd.
_BOOT = 180
_DROPPED = "a firewall of this host may drop what it asks (look at iptables-save and nft list ruleset), or "


class EcsKeyPair(Resource):
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


class Instance(Resource):
    """The machine's name in LXD is the instance's id, so an old and a new one stand side by side."""

    type = "alicloud:ecs/instance:Instance"
    prefix = "i-"
    schema = Schema(
        replaces=frozenset({"vswitchId", "availabilityZone", "privateIp", "spotStrategy"}),
        updates={
            "userData": "reboots, and cloud-init does not run again",
            "imageId": "wipes the disk",
            "instanceType": "restarts",
            "keyName": "reboots",
            "status": "",
            **dict.fromkeys(("instanceName", "description", "tags", "volumeTags", "securityGroups"), ""),
            **dict.fromkeys(("deletionProtection", "systemDiskCategory", "systemDiskSize"), ""),
            **dict.fromkeys(("internetMaxBandwidthOut", "instanceChargeType", "forceDelete"), ""),
        },
        recorded=frozenset(
            {
                "systemDiskName", "systemDiskDescription", "systemDiskPerformanceLevel", "spotPriceLimit",
                "spotDuration", "creditSpecification", "internetChargeType", "stoppedMode", "resourceGroupId",
                "securityEnhancementStrategy", "httpTokens", "httpEndpoint", "hostName",
            }
        ),
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "status", "Running")
        only(inputs, "internetMaxBandwidthOut", 0)
        groups = inputs.get("securityGroups") or []
        if len(groups) != 1:
            raise RehearsalError(f"an instance in {len(groups)} security groups is not rehearsed; allowed: one")
        for key in ("vswitchId", "imageId", "instanceType"):
            if not inputs.get(key):
                raise RehearsalError(f"an instance without {key} is not rehearsed")
        size(inputs["instanceType"])

    def exists(self, context: Context, record: Record) -> bool:
        return context.lxd.find(f"/1.0/instances/{record.id}") is not None

    def drift(self, context: Context, record: Record) -> str:
        status = context.lxd.get(f"/1.0/instances/{record.id}")["status"]
        return "" if status == "Running" else f"it is {status.lower()}, and is started"

    def repair(self, context: Context, record: Record) -> None:
        self._power(context, record.id, "start")
        self._know(context, record.id)

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        pair = pairs.ensure(context, inputs["vswitchId"], inputs["securityGroups"][0])
        group = context.state.by_id(pairs.GROUP, pair.group)
        apart = group is not None and group.inputs.get("innerAccessPolicy") == "Drop"
        devices = {
            "root": {"type": "disk", "path": "/", "pool": POOL},
            "eth0": {
                "type": "nic",
                "network": pair.name,
                "name": "eth0",
                # LXD's rules are for what comes from elsewhere; on one bridge this keeps machines from each other.
                "security.port_isolation": str(apart).lower(),
            },
            "cache": {"type": "disk", "source": str(context.cache), "path": "/var/cache/rehearsal", "readonly": "true"},
        }
        self._make(context, record.id, inputs, devices)
        return self._started(context, record.id, pair.name, inputs)

    def _make(self, context: Context, name: str, inputs: Mapping[str, Any], devices: Mapping[str, Any]) -> None:
        body = {
            "name": name,
            "type": "container",
            "profiles": [],
            "source": {"type": "image", "alias": context.image},
            "config": {
                **_limits(inputs),
                f"{pairs.TAG}stack": context.stack,
                "user.user-data": inputs.get("userData") or "#cloud-config",
                "user.public-keys": json.dumps(self.public_keys(context, inputs)),
            },
            "devices": devices,
        }
        context.lxd.post("/1.0/instances", body)

    def _started(self, context: Context, name: str, bridge: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self._power(context, name, "start")
        return self._outputs(context, name, bridge, inputs)

    def _outputs(self, context: Context, name: str, bridge: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        address = _wait(
            lambda: _address(context, name), f"{name} has got no address from the bridge {bridge}", _DROPPED
        )
        self._know(context, name)
        limits = size(inputs["instanceType"])
        return {
            "primaryIpAddress": address,
            "privateIp": address,
            "publicIp": "",
            "cpu": limits.cpu,
            "memory": limits.memory,
            "osType": "linux",
            "osName": "Debian 12 64bit",
            "status": "Running",
            "rehearsalBridge": bridge,
        }

    def _know(self, context: Context, name: str) -> None:
        keys = _wait(lambda: _host_keys(context, name), f"{name}: sshd does not answer")
        context.keys.know(name, keys)

    def update(
        self, context: Context, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        if "securityGroups" in keys:
            raise RehearsalError("moving an instance to another security group is not rehearsed; replace it")
        bridge = record.outputs["rehearsalBridge"]
        if "imageId" in keys:
            devices = context.lxd.get(f"/1.0/instances/{record.id}")["devices"]
            remove(context, record.id)
            # Its data disk and its address stay.
            nic = devices["eth0"] | {"ipv4.address": record.outputs["primaryIpAddress"]}
            self._make(context, record.id, inputs, devices | {"eth0": nic})
            return self._started(context, record.id, bridge, inputs)
        if not {"userData", "instanceType", "keyName"} & set(keys):
            return record.outputs
        public_keys = self.public_keys(context, inputs)
        config = {
            **_limits(inputs),
            "user.user-data": inputs.get("userData") or "#cloud-config",
            "user.public-keys": json.dumps(public_keys),
        }
        context.lxd.patch(f"/1.0/instances/{record.id}", {"config": config})
        if "keyName" in keys:
            self.authorize(context, record.id, public_keys)
        self._power(context, record.id, "restart")
        return self._outputs(context, record.id, bridge, inputs)

    def authorize(self, context: Context, name: str, public_keys: list[str]) -> None:
        """Make these, and no others, the keys that log in as root."""
        text = "".join(f"{key}\n" for key in public_keys)
        context.lxd.write(name, "/root/.ssh/authorized_keys", text)

    def delete(self, context: Context, record: Record) -> None:
        remove(context, record.id)
        pairs.leave(context, record)

    def public_keys(self, context: Context, inputs: Mapping[str, Any]) -> list[str]:
        """The key pair's public key and the rehearsal's own."""
        keys = [context.keys.public]
        if inputs.get("keyName"):
            pair = context.state.by_id(_KEY_PAIR, inputs["keyName"])
            if pair is None:
                raise RehearsalError(f"key_name {inputs['keyName']} is no key pair of this stack")
            keys.insert(0, pair.inputs["publicKey"].strip())
        # The same key with another comment is the same key.
        return list({" ".join(key.split()[:2]): key for key in reversed(keys)}.values())[::-1]

    def _power(self, context: Context, name: str, action: str) -> None:
        try:
            context.lxd.put(
                f"/1.0/instances/{name}/state", {"action": action, "timeout": 30, "force": action != "start"}
            )
        except LxdError as error:
            log = context.lxd.find(f"/1.0/instances/{name}") and _start_log(context, name)
            raise RehearsalError(f"{name} does not {action}: {error}\n{log or ''}".rstrip()) from None


def introduce(context: Context) -> None:
    """Make a newly made key of the rehearsal known to the machines that are there, and theirs to it."""
    for record in context.state.records(Instance.type):
        if record.status == "done" and context.lxd.find(f"/1.0/instances/{record.id}"):
            instance = Instance()
            instance.authorize(context, record.id, instance.public_keys(context, record.inputs))
            context.keys.know(record.id, _host_keys(context, record.id))


def remove(context: Context, name: str) -> None:
    """Stop and delete a machine; none of that name is no error."""
    path = f"/1.0/instances/{name}"

    def stop_and_delete() -> None:
        found = context.lxd.find(path)
        if found is not None and found["status"] != "Stopped":
            context.lxd.put(f"{path}/state", {"action": "stop", "force": True, "timeout": 10})
        context.lxd.delete(path)

    settled(stop_and_delete)
    context.keys.forget(name)


def _limits(inputs: Mapping[str, Any]) -> dict[str, str]:
    limits = size(inputs["instanceType"])
    return {"limits.cpu": str(limits.cpu), "limits.memory": f"{limits.memory}MiB"}


def _address(context: Context, name: str) -> str | None:
    network = context.lxd.get(f"/1.0/instances/{name}/state")["network"] or {}
    addresses = (network.get("eth0") or {"addresses": []})["addresses"]
    return next((item["address"] for item in addresses if item["family"] == "inet"), None)


def _host_keys(context: Context, name: str) -> list[str]:
    """Public host keys (`type base64`), none until sshd answers.

    Asked from this host inside the machine's network: from outside its security group decides, and
    `lxc exec` now and then loses what a command prints when several machines boot at once.
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


def _start_log(context: Context, name: str) -> str:
    path = Path(f"/var/log/lxd/{context.lxd.project}_{name}/lxc.log")
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return "\n".join(line for line in lines if " ERROR " in line or " WARN " in line)[-2000:]
