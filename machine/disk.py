"""The data disk: a file system made once, mounted by its UUID at each boot. Python 3.6, standard library only."""

import os
import subprocess
import time

import files
from servers import ReleaseError, run

FOLDER = "/srv/data"
FSTAB = "/etc/fstab"
# The first disk beside the system's, as virtio and as NVMe name it.
DEVICES = ("/dev/vdb", "/dev/nvme1n1")
# Seconds until a disk that was just attached is seen.
_PATIENCE = 60


def mount(say):
    """Have the data disk mounted on FOLDER, now and at each boot. What it holds is kept.

    Where no such device is and something is mounted already, as in a rehearsal, that is the disk.
    Raises ReleaseError.
    """
    # By the kernel's list: os.path.ismount does not see one folder of a file system mounted on another.
    is_mounted = subprocess.call(["mountpoint", "-q", FOLDER]) == 0
    device = find(0 if is_mounted else _PATIENCE)
    if is_mounted and device is None:
        return
    if device is None:
        raise ReleaseError("no data disk: none of {} is there".format(", ".join(DEVICES)))
    line = "UUID={} {} ext4 defaults,nofail 0 2".format(file_system(device, say), FOLDER)
    with open(FSTAB, encoding="utf-8") as file:
        lines = file.read().splitlines()
    kept = [other for other in lines if other.split()[1:2] != [FOLDER]]
    if kept + [line] != lines:
        files.write(FSTAB, "\n".join(kept + [line]) + "\n", 0o644)
        run("systemctl", "daemon-reload")
    if not is_mounted:
        os.makedirs(FOLDER, exist_ok=True)
        run("mount", FOLDER)
        say("the data disk {} is mounted on {}".format(device, FOLDER))
    # A disk that has grown; otherwise it does nothing.
    run("resize2fs", device)


def find(seconds):
    """The device of the data disk, waited for; None when there is none."""
    deadline = time.monotonic() + seconds
    while True:
        for device in DEVICES:
            if os.path.exists(device):
                return device
        if time.monotonic() >= deadline:
            return None
        time.sleep(1)


def file_system(device, say):
    """UUID of the device's ext4, made when the device is blank. Raises ReleaseError for anything else on it."""
    found = _probed(device)
    if not found:
        say("making a file system on {}".format(device))
        run("mkfs.ext4", "-q", device)
        found = _probed(device)
    if found.get("TYPE") != "ext4":
        raise ReleaseError("{} holds {}, and only ext4 is mounted".format(device, found))
    return found["UUID"]


def _probed(device):
    """What blkid finds on the device itself, whatever its cache says; an empty dict for a blank one."""
    done = subprocess.run(["blkid", "-p", "-o", "export", device], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode not in (0, 2):
        raise ReleaseError("blkid {} ended with {}".format(device, done.returncode), done.stderr.decode())
    return dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)
