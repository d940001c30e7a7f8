"""A volume of LXD that is mounted on paths.DATA of a machine: a data disk, or a file system that machines share.

On ECS the machine mounts it, which a container may not do. Its size is recorded and limits nothing.
The folder of a file system that holds the store of a scaling group is a volume of its own.
"""

from typing import Any

from contract import paths
from rehearsal.cloud import machine, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.daemon import POOL
from rehearsal.cloud.lxd import STACK_TAG, Lxd, retry_busy
from rehearsal.engine.errors import RehearsalError

VOLUMES = f"/1.0/storage-pools/{POOL}/volumes/custom"
_DEVICE = "data"

# Unmount the volume on the machine and kill the processes that use it: as in the cloud, a detached disk is gone for
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


def make(context: CloudContext, name: str) -> None:
    """Make a volume in LXD's default project, tagged with the stack."""
    body = {"name": name, "content_type": "filesystem", "config": {STACK_TAG: context.stack}}
    context.host.post(VOLUMES, body)


def exists(context: CloudContext, name: str) -> bool:
    return context.host.find(f"{VOLUMES}/{name}") is not None


def is_used(context: CloudContext, name: str) -> bool:
    """Whether a machine has a volume."""
    return bool(context.host.get(f"{VOLUMES}/{name}")["used_by"])


def remove(host: Lxd, name: str) -> None:
    retry_busy(lambda: host.delete(f"{VOLUMES}/{name}"))


def remove_all(host: Lxd, stack: str) -> None:
    """Delete every volume that is tagged with the stack, whatever the state knows. No machine may use one of them."""
    for volume in host.find(VOLUMES, recursion="1") or []:
        if volume["config"].get(STACK_TAG) == stack:
            remove(host, volume["name"])


def store_of(file_system: str) -> str:
    """Name of the volume that is the folder /store of a file system."""
    return f"{file_system}-store"


def devices(context: CloudContext, user_data: str) -> dict[str, Any]:
    """Devices of LXD for the file system whose mount target the user data name; none if they name none.

    As in the cloud, only a machine that mounts the file system has it.
    """
    text = machine.unpacked(user_data)
    for target in context.state.records(tokens.NAS_MOUNT_TARGET):
        domain = target.outputs.get("mountTargetDomain")
        if target.status != "doomed" and domain and domain in text:
            file_system = target.inputs["fileSystemId"]
            with context.network_lock:
                # Several machines start at the same time.
                if not exists(context, store_of(file_system)):
                    make(context, store_of(file_system))
            places = {_DEVICE: (file_system, paths.DATA), "store": (store_of(file_system), paths.STORE)}
            return {
                name: {"type": "disk", "pool": POOL, "source": source, "path": path}
                for name, (source, path) in places.items()
            }
    return {}


def attach(context: CloudContext, name: str, machine: str) -> None:
    """Mount a volume on a machine. Raises RehearsalError if the machine has one already."""
    path = f"/1.0/instances/{machine}"
    if _DEVICE in context.lxd.get(path)["devices"]:
        raise RehearsalError(f"a second place for data on {machine} is not rehearsed")
    device = {"type": "disk", "pool": POOL, "source": name, "path": paths.DATA}
    context.lxd.patch(path, {"devices": {_DEVICE: device}})


def is_attached(context: CloudContext, name: str, machine: str) -> bool:
    return _holder(context, name, machine) is not None


def detach(context: CloudContext, name: str, machine: str) -> None:
    """Take a volume from a machine, unless that does not have it."""
    found = _holder(context, name, machine)
    if found is None:
        return
    if found["status"] == "Running":
        context.lxd.exec(found["name"], ["python3", "-c", _UNMOUNT, paths.DATA])
    devices = {key: device for key, device in found["devices"].items() if key != _DEVICE}
    context.lxd.put(f"/1.0/instances/{found['name']}", {**found, "devices": devices})


def _holder(context: CloudContext, name: str, machine: str) -> Any | None:
    """The machine as LXD has it, None unless it has the volume."""
    found = context.lxd.find(f"/1.0/instances/{machine}")
    if found is None or found["devices"].get(_DEVICE, {}).get("source") != name:
        return None
    return found
