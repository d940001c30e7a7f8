"""Data disks: volumes of LXD that outlive the machines they are attached to.

On ECS a disk is a block device that the machine formats and mounts; a container can have no such
thing, so here the volume is a folder that is mounted on the machine when it is attached.
"""

from collections.abc import Mapping
from typing import Any

from rehearsal.compare import Schema
from rehearsal.errors import RehearsalError
from rehearsal.lxd import Lxd, settled
from rehearsal.resources import pairs
from rehearsal.resources.base import Context, Resource, only
from rehearsal.resources.machine import POOL
from rehearsal.state import Record

# Where a machine has its data disk.
PATH = "/srv/data"
_DISK = "alicloud:ecs/ecsDisk:EcsDisk"
_DEVICE = "data"
_VOLUMES = f"/1.0/storage-pools/{POOL}/volumes/custom"

# A disk that is taken away is gone for those who use it; LXD alone would let them write on, beside its new machine.
_RELEASE = """
import os, signal, subprocess, sys, time

def uses(process):
    links = [process + "/cwd", process + "/root", process + "/exe"]
    links += [process + "/fd/" + name for name in os.listdir(process + "/fd")]
    paths = [os.readlink(link) for link in links]
    with open(process + "/maps") as maps:
        paths += [line.split(None, 5)[5].rstrip() for line in maps if "/" in line]
    return any((path + "/").startswith(sys.argv[1] + "/") for path in paths)

for _ in range(100):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if uses("/proc/" + pid):
                os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass  # A kernel thread, or it has ended meanwhile.
    # By the kernel's list: os.path.ismount does not see one folder of a file system mounted on another.
    mounted = subprocess.call(["mountpoint", "-q", sys.argv[1]]) == 0
    if not mounted or subprocess.call(["umount", sys.argv[1]]) == 0:
        sys.exit()
    time.sleep(0.1)
sys.exit("processes that start again and again keep " + sys.argv[1])
"""


class EcsDisk(Resource):
    """A volume in the default LXD project, tagged with the stack. Its size is recorded, and limits nothing."""

    prefix = "d-"
    schema = Schema(
        replaces=frozenset({"zoneId", "encrypted"}),
        grows=frozenset({"size"}),
        updates=dict.fromkeys(
            (
                "diskName", "description", "tags", "size", "type", "category", "performanceLevel",
                "deleteWithInstance", "deleteAutoSnapshot", "resourceGroupId",
            ),
            "",
        ),
        recorded=frozenset({"paymentType"}),
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "paymentType", "PayAsYouGo")
        only(inputs, "deleteWithInstance", False)
        for key in ("zoneId", "size"):
            if not inputs.get(key):
                raise RehearsalError(f"a disk without {key} is not rehearsed")

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        body = {"name": record.id, "content_type": "filesystem", "config": {f"{pairs.TAG}stack": context.stack}}
        context.host.post(_VOLUMES, body)
        return {"status": "Available"}

    def exists(self, context: Context, record: Record) -> bool:
        return context.host.find(f"{_VOLUMES}/{record.id}") is not None

    def update(
        self, context: Context, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        return record.outputs

    def delete(self, context: Context, record: Record) -> None:
        _remove(context.host, record.id)


class EcsDiskAttachment(Resource):
    """The volume, mounted on the machine."""

    schema = Schema(replaces=frozenset({"diskId", "instanceId", "deleteWithInstance", "bootable"}), away="the database")

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['diskId']}:{inputs['instanceId']}"

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "bootable", False)
        only(inputs, "deleteWithInstance", False)

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        disk = context.state.by_id(_DISK, inputs["diskId"])
        if disk is None:
            raise RehearsalError(f"disk_id {inputs['diskId']} is no disk of this stack")
        machine = context.state.by_id(pairs.INSTANCE, inputs["instanceId"])
        if machine is None:
            raise RehearsalError(f"instance_id {inputs['instanceId']} is no instance of this stack")
        switch = context.state.by_id(pairs.SWITCH, machine.inputs["vswitchId"])
        if switch is None or switch.inputs["zoneId"] != disk.inputs["zoneId"]:
            raise RehearsalError(f"disk {disk.name} is in {disk.inputs['zoneId']}, {machine.name} in another zone")
        if context.host.get(f"{_VOLUMES}/{disk.id}")["used_by"]:
            raise RehearsalError(f"IncorrectDiskStatus: {disk.id} is attached already; use delete_before_replace")
        path = f"/1.0/instances/{machine.id}"
        if _DEVICE in context.lxd.get(path)["devices"]:
            raise RehearsalError(f"a second data disk on {machine.name} is not rehearsed")
        device = {"type": "disk", "pool": POOL, "source": disk.id, "path": PATH}
        context.lxd.patch(path, {"devices": {_DEVICE: device}})
        context.say(f"{disk.name} is at {PATH}; that the machine formats and mounts /dev/vdb is not rehearsed")
        return {}

    def exists(self, context: Context, record: Record) -> bool:
        return self._holder(context, record) is not None

    def delete(self, context: Context, record: Record) -> None:
        machine = self._holder(context, record)
        if machine is None:
            return
        if machine["status"] == "Running":
            context.lxd.exec(machine["name"], ["python3", "-c", _RELEASE, PATH])
        devices = {name: device for name, device in machine["devices"].items() if name != _DEVICE}
        context.lxd.put(f"/1.0/instances/{machine['name']}", {**machine, "devices": devices})

    def _holder(self, context: Context, record: Record) -> Any | None:
        """The machine as LXD has it, None unless the disk is attached to it."""
        machine = context.lxd.find(f"/1.0/instances/{record.inputs['instanceId']}")
        if machine is None or machine["devices"].get(_DEVICE, {}).get("source") != record.inputs["diskId"]:
            return None
        return machine


def _remove(host: Lxd, name: str) -> None:
    settled(lambda: host.delete(f"{_VOLUMES}/{name}"))


def remove_all(host: Lxd, stack: str) -> None:
    """Delete every volume of the stack that is tagged, whatever the state knows. No machine may use one."""
    for volume in host.find(_VOLUMES, recursion="1") or []:
        if volume["config"].get(f"{pairs.TAG}stack") == stack:
            _remove(host, volume["name"])
