"""The data disk: a file system made once, mounted by its UUID at each boot. Python 3.6, standard library only."""

import os
import subprocess
import time
from typing import Dict, List, Optional

import files
from commands import ReleaseError, Say, run
from contract import paths

FSTAB = "/etc/fstab"
# Programs start only after the mount was tried. Without the disk the machine still boots.
ORDER = "/etc/systemd/system/local-fs.target.d/wsgi-ecs-data.conf"
# The first disk beside the system's, as virtio and as NVMe name it.
DEVICES = ("/dev/vdb", "/dev/nvme1n1")
_AFTER = "[Unit]\nAfter=srv-data.mount\n"
# Seconds until a disk that was just attached is seen.
_PATIENCE = 60


def mount(say: Say) -> None:
    """Mount the data disk on paths.DATA, now and at each boot. Its content is kept.

    Without such a device, whatever is mounted there already is the disk, as in a rehearsal. Raises ReleaseError.
    """
    # mountpoint reads the kernel's list; os.path.ismount does not see a folder that is mounted on another folder.
    is_mounted = subprocess.call(["mountpoint", "-q", paths.DATA]) == 0
    device = find(0 if is_mounted else _PATIENCE)
    if is_mounted and device is None:
        return
    if device is None:
        raise ReleaseError(
            "no data disk: none of {} is there".format(", ".join(DEVICES)),
            then="check that the disk is attached to this server, and run up again",
        )
    line = "UUID={} {} ext4 defaults,nofail 0 2".format(file_system(device, say), paths.DATA)
    with open(FSTAB, encoding="utf-8") as file:
        lines = file.read().splitlines()
    kept = _without(lines)
    if kept + [line] != lines or files.text(ORDER) != _AFTER:
        os.makedirs(os.path.dirname(ORDER), exist_ok=True)
        files.write(ORDER, _AFTER, 0o644)
        files.write(FSTAB, "\n".join(kept + [line]) + "\n", 0o644)
        run("systemctl", "daemon-reload")
    if not is_mounted:
        os.makedirs(paths.DATA, exist_ok=True)
        run("mount", paths.DATA)
        say("the data disk {} is mounted on {}".format(device, paths.DATA))
    # The disk may have grown; otherwise resize2fs does nothing.
    run("resize2fs", device)


def is_set() -> bool:
    """Whether this machine mounts a data disk. In a rehearsal LXD mounts it."""
    lines = (files.text(FSTAB) or "").splitlines()
    return _without(lines) != lines


def unmount(say: Say) -> None:
    """Leave the data disk, which the cloud takes from this machine after this run. Raises ReleaseError or OSError."""
    with open(FSTAB, encoding="utf-8") as file:
        lines = file.read().splitlines()
    kept = _without(lines)
    # In a rehearsal LXD mounts the disk and takes it away.
    if kept == lines:
        return
    files.write(FSTAB, "\n".join(kept) + "\n", 0o644)
    files.remove(ORDER)
    run("systemctl", "daemon-reload")
    # Somebody may stand in it; the programs of the sites do not.
    run("umount", "-l", paths.DATA)
    say("the data disk is no longer mounted")


def _without(lines: List[str]) -> List[str]:
    """Lines of fstab but that of the data disk."""
    return [line for line in lines if line.split()[1:2] != [paths.DATA]]


def find(seconds: float) -> Optional[str]:
    """The device of the data disk, None when none has come within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        for device in DEVICES:
            if os.path.exists(device):
                return device
        if time.monotonic() >= deadline:
            return None
        time.sleep(1)


def file_system(device: str, say: Say) -> str:
    """UUID of the device's ext4, which is made on a blank device. Raises ReleaseError for any other content."""
    found = _probed(device)
    if not found:
        say("making a file system on {}".format(device))
        run("mkfs.ext4", "-q", device)
        found = _probed(device)
    if found.get("TYPE") != "ext4":
        raise ReleaseError("{} holds {}, and only ext4 is mounted".format(device, found))
    return found["UUID"]


def _probed(device: str) -> Dict[str, str]:
    """What blkid finds on the device itself, without its cache; an empty dict for a blank device."""
    done = subprocess.run(["blkid", "-p", "-o", "export", device], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode not in (0, 2):
        raise ReleaseError("blkid {} ended with {}".format(device, done.returncode), done.stderr.decode())
    return dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)
