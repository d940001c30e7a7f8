"""The attachment of a data disk to a machine: a disk device of LXD."""

from collections.abc import Mapping
from typing import Any

from contract import paths
from rehearsal.cloud import tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.daemon import POOL
from rehearsal.cloud.resources.disk import VOLUMES
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record

_DEVICE = "data"

# Unmount the disk on the machine and kill the processes that use it: as in the cloud, a detached disk is gone for
# them. LXD alone would let them write on while another machine has the disk.
_UNMOUNT = """
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
            pass  # The process is a kernel thread, or has ended.
    # Ask the kernel, because os.path.ismount does not notice a folder that is mounted on the same file system.
    mounted = subprocess.call(["mountpoint", "-q", sys.argv[1]]) == 0
    if not mounted or subprocess.call(["umount", sys.argv[1]]) == 0:
        sys.exit()
    time.sleep(0.1)
sys.exit("processes that start again and again keep " + sys.argv[1])
"""


class DiskAttachment(Resource[CloudContext]):
    """The volume, mounted at paths.DATA on the machine."""

    schema = Schema(
        words={"instanceId": "a new server", "diskId": "a new disk"},
        replaces=frozenset({"diskId", "instanceId", "deleteWithInstance", "bootable"}),
        away=tokens.DATABASE,
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['diskId']}:{inputs['instanceId']}"

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "bootable", False)
        only(inputs, "deleteWithInstance", False)

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        disk = context.state.by_id(tokens.DISK, inputs["diskId"])
        if disk is None:
            raise RehearsalError(f"disk_id {inputs['diskId']} is no disk of this stack")
        machine = context.state.by_id(tokens.INSTANCE, inputs["instanceId"])
        if machine is None:
            raise RehearsalError(f"instance_id {inputs['instanceId']} is no instance of this stack")
        switch = context.state.by_id(tokens.SWITCH, machine.inputs["vswitchId"])
        if switch is None or switch.inputs["zoneId"] != disk.inputs["zoneId"]:
            raise RehearsalError(f"disk {disk.name} is in {disk.inputs['zoneId']}, {machine.name} in another zone")
        if context.host.get(f"{VOLUMES}/{disk.id}")["used_by"]:
            raise RehearsalError(f"IncorrectDiskStatus: {disk.id} is attached already; use delete_before_replace")
        path = f"/1.0/instances/{machine.id}"
        if _DEVICE in context.lxd.get(path)["devices"]:
            raise RehearsalError(f"a second data disk on {machine.name} is not rehearsed")
        device = {"type": "disk", "pool": POOL, "source": disk.id, "path": paths.DATA}
        context.lxd.patch(path, {"devices": {_DEVICE: device}})
        context.say(f"{disk.name} is mounted at {paths.DATA}; formatting and mounting /dev/vdb is not rehearsed")
        return {}

    def exists(self, context: CloudContext, record: Record) -> bool:
        return self._holder(context, record) is not None

    def delete(self, context: CloudContext, record: Record) -> None:
        machine = self._holder(context, record)
        if machine is None:
            return
        if machine["status"] == "Running":
            context.lxd.exec(machine["name"], ["python3", "-c", _UNMOUNT, paths.DATA])
        devices = {name: device for name, device in machine["devices"].items() if name != _DEVICE}
        context.lxd.put(f"/1.0/instances/{machine['name']}", {**machine, "devices": devices})

    def _holder(self, context: CloudContext, record: Record) -> Any | None:
        """The machine as LXD has it, None unless the disk is attached to it."""
        machine = context.lxd.find(f"/1.0/instances/{record.inputs['instanceId']}")
        if machine is None or machine["devices"].get(_DEVICE, {}).get("source") != record.inputs["diskId"]:
            return None
        return machine
