"""The file system that the machines of a stack share: NFS 4.0, mounted on paths.DATA.

srv-data.mount          at each boot: the sites' programs start when it is mounted, or could not be for a minute
wsgi-ecs-data.service   tries again until it is mounted

A mount is hard: what reads or writes waits until the file system answers again, and loses nothing. What this tool does
of itself looks first whether it answers. Python 3.6, standard library only.
"""

import os
import subprocess
import time
from typing import List, Optional

import files
from commands import ReleaseError, Say, run
from contract import paths
from contract.documents import Shared
from contract.nfs import OPTIONS

UNITS = "/etc/systemd/system"
MOUNT, RETRY = "srv-data.mount", "wsgi-ecs-data.service"
_MOUNT = """# Written by wsgi-ecs.
[Unit]
Description=Data that the machines share
Wants=network-online.target
After=network-online.target
Before={before}
OnFailure={retry}

[Mount]
What={address}:/
Where={folder}
Type=nfs
Options={options}
TimeoutSec=60

[Install]
WantedBy=multi-user.target
"""
_RETRY = """# Written by wsgi-ecs.
[Unit]
Description=Mounts the data that the machines share when they answer again

[Service]
Type=oneshot
TimeoutStartSec=0
ExecStart=/bin/sh -c 'until mountpoint -q {folder}; do sleep 10; systemctl start {mount}; done'
"""
# Version 4 needs no port mapper, which the client's packages start.
_NOT_NEEDED = ("rpcbind.socket", "rpcbind.service")
# Seconds until a new mount target and its rules are known everywhere, and until one answers that is.
_PATIENCE = 180
_ANSWER = 20
_NEXT = "see in the console that the file system, its mount target and its access rules are there, and run up again"


def mount(shared: Shared, address: str, say: Say) -> List[str]:
    """Mount the file system on paths.DATA, now and at each boot. Returns the paths of the units.

    address: of its mount target, "" for the one in place. Raises ReleaseError.
    """
    before = files.text(_path(MOUNT)) or ""
    if not address:
        address = _address() or ""
    if not address:
        raise ReleaseError("nothing says where the shared data are", then="run up again")
    texts = {_path(MOUNT): mount_unit(shared, address), _path(RETRY): retry_unit()}
    if any(files.text(path) != text for path, text in texts.items()):
        for path, text in texts.items():
            files.write(path, text, 0o644)
        run("systemctl", "daemon-reload")
    if not before:
        run("systemctl", "mask", "--now", *_NOT_NEEDED, check=False)
    # It may have been written by a run that was killed then.
    run("systemctl", "enable", MOUNT)
    if before and _what(before) != _what(texts[_path(MOUNT)]) and is_mounted():
        # The programs find the files under the same paths.
        run("umount", "-l", paths.DATA)
    if not is_mounted():
        os.makedirs(paths.DATA, exist_ok=True)
        _start(address)
        say("the shared data of {} are mounted on {}".format(address, paths.DATA))
    check()
    return sorted(texts)


def mount_unit(shared: Shared, address: str) -> str:
    return _MOUNT.format(
        before=" ".join(shared.units), retry=RETRY, address=address, folder=paths.DATA, options=OPTIONS
    )


def retry_unit() -> str:
    return _RETRY.format(folder=paths.DATA, mount=MOUNT)


def _start(address: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        output = run("systemctl", "start", MOUNT, check=False)
        if is_mounted():
            return
        if time.monotonic() >= deadline:
            lines = run("journalctl", "-u", MOUNT, "-n", "10", "-o", "cat", "--no-pager", check=False)
            raise ReleaseError("the shared data of {} cannot be mounted".format(address), output + lines, _NEXT)
        time.sleep(5)


def unmount(say: Say) -> None:
    """Leave the file system, unless this machine has none. Raises ReleaseError or OSError."""
    if not is_set():
        return
    run("systemctl", "disable", MOUNT, check=False)
    run("systemctl", "stop", RETRY, check=False)
    for unit in (RETRY, MOUNT):
        files.remove(_path(unit))
    run("systemctl", "daemon-reload")
    if is_mounted():
        # Somebody may stand in it; the programs of the sites do not.
        run("umount", "-l", paths.DATA)
    say("the shared data are no longer mounted")


def is_set() -> bool:
    """Whether this machine has its data there, even if they do not answer."""
    return os.path.exists(_path(MOUNT))


def is_in_place(shared: Optional[Shared], address: str) -> bool:
    """Whether the units are those of the settings."""
    if shared is None:
        return not is_set()
    address = address or _address() or ""
    return files.text(_path(MOUNT)) == mount_unit(shared, address) and files.text(_path(RETRY)) == retry_unit()


def is_mounted() -> bool:
    """Whether something is mounted there: mountpoint reads the kernel's list, and asks no server."""
    return subprocess.call(["mountpoint", "-q", paths.DATA]) == 0


def answers(seconds: int = _ANSWER) -> bool:
    """Whether the file system answers within some seconds. What waits for it is not this process."""
    ask = ["timeout", "-s", "KILL", str(seconds), "stat", "-f", paths.DATA]
    return subprocess.call(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def check() -> None:
    """Refuse to go on while the shared data do not answer: a run would wait for them. Raises ReleaseError."""
    if not is_set():
        return
    if not is_mounted():
        raise ReleaseError("the shared data of {} are not mounted".format(_address()), then=_NEXT)
    if not answers():
        raise ReleaseError("the shared data of {} do not answer within {} s".format(_address(), _ANSWER), then=_NEXT)


def state() -> Optional[str]:
    """What the status says of the shared data, None without them."""
    if not is_set():
        return None
    if not is_mounted():
        return "not mounted (journalctl -u {})".format(MOUNT)
    return "mounted" if answers(5) else "mounted, and they do not answer"


def _address() -> Optional[str]:
    """Of the mount target in place."""
    return _what(files.text(_path(MOUNT)) or "")


def _what(unit: str) -> Optional[str]:
    found = [line[len("What=") :] for line in unit.splitlines() if line.startswith("What=")]
    return found[0].partition(":")[0] if found else None


def _path(unit: str) -> str:
    return os.path.join(UNITS, unit)
