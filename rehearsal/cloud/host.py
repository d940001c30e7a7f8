"""Preparing this host: install missing packages, start LXD, make the storage pool."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rehearsal.cloud import lxd, processes, trust
from rehearsal.cloud.lock import host_lock
from rehearsal.engine.errors import RehearsalError, UserError

# Package → a program that it contains.
_PACKAGES = {
    "lxd": "lxd",
    "lxd-client": "lxc",
    "lxcfs": "lxcfs",
    "mmdebstrap": "mmdebstrap",
    "squashfs-tools": "mksquashfs",
    "nftables": "nft",
    "dnsmasq-base": "dnsmasq",
    "openssh-client": "ssh",
    "iproute2": "ip",
}
# The keyring that signs Debian's packages. Ubuntu needs it to build a Debian image.
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Many hosts have a limit of 128, which about fifteen machines use up.
_INOTIFY, _INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances"), 1024
_LOG = Path("/var/log/lxd-rehearsal.log")
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def prepare(say: Callable[[str], None]) -> None:
    """Make this host ready: packages, LXD, storage pool. Raises UserError or RehearsalError."""
    if os.geteuid() != 0:
        raise UserError("LXD's socket is root's; run this with sudo")
    _get(missing(), say)
    _start(say)
    _raise_limit(say)
    host = lxd.Lxd()
    _check_filter(host.get("/1.0")["environment"]["firewall"])
    if host.find(f"/1.0/storage-pools/{lxd.POOL}") is None:
        say(f"making the storage pool {lxd.POOL}")
        host.post("/1.0/storage-pools", {"name": lxd.POOL, "driver": "dir", "description": "Machines of rehearsals"})


def _check_filter(driver: str) -> None:
    """Refuse a packet filter that does not enforce security groups. driver: LXD's name of it. Raises UserError.

    With xtables, LXD 5.0.2 accepts what leaves one bridge before it checks the ACL of the other bridge, unless the
    other bridge was made later (measured).
    """
    if driver != "nftables":
        raise UserError(
            f"LXD filters with {driver}, by which security groups do not hold between machines; allowed: nftables: "
            "install nft (package nftables), unload the rules of iptables-legacy if there are any, "
            "restart LXD (systemctl restart lxd, or snap restart lxd.daemon) and run the same again"
        )


def missing() -> list[str]:
    """Packages that this host lacks. A running LXD, such as a snap's, brings its own programs."""
    packages = _PACKAGES if not lxd.reachable() else {"mmdebstrap": "mmdebstrap", "squashfs-tools": "mksquashfs"}
    found = [package for package, program in packages.items() if not shutil.which(program, path=_PATH)]
    return found if _KEYRING.is_file() else [*found, "debian-archive-keyring"]


def install(packages: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Install packages whose program is missing. packages: package → a program in it. Raises as prepare does."""
    _get([package for package, program in packages.items() if not shutil.which(program, path=_PATH)], say)


def _get(packages: Sequence[str], say: Callable[[str], None]) -> None:
    if not packages:
        return
    with host_lock("packages"):
        _apt(packages, say)


def _apt(packages: Sequence[str], say: Callable[[str], None]) -> None:
    if not shutil.which("apt-get"):
        raise UserError(f"not Debian or Ubuntu; install these and run again: {' '.join(packages)}")
    say(f"installing {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-q"], install):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise UserError(
                f"{' '.join(command[:2])} fails: {trust.reason(done.stdout + done.stderr)}; {trust.SOURCES}"
            )


def _start(say: Callable[[str], None]) -> None:
    if lxd.reachable():
        return
    say("starting LXD")
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "lxd"], capture_output=True)
        daemon = None
    else:
        daemon = _start_alone()
    deadline = time.monotonic() + 60
    while not lxd.reachable():
        if time.monotonic() > deadline or (daemon is not None and daemon.poll() is not None):
            raise RehearsalError(
                f"LXD does not start; its log's last lines:\n{_log(daemon is None)}\n"
                "put right what it says there, then run the same again"
            )
        time.sleep(0.2)


def _raise_limit(say: Callable[[str], None]) -> None:
    """Machines share few users, and each user may have few inotify instances: https://documentation.ubuntu.com/lxd/latest/reference/server_settings/"""
    if int(_INOTIFY.read_text()) < _INSTANCES:
        say(f"raising fs.inotify.max_user_instances to {_INSTANCES} until this host restarts, for several machines")
        # In a container the limit may be read-only; then it is enough for one stack.
        with suppress(OSError):
            _INOTIFY.write_text(str(_INSTANCES))


def _log(systemd: bool) -> str:
    if systemd:
        command = ["journalctl", "-u", "lxd", "-n", "12", "--no-pager"]
        return subprocess.run(command, capture_output=True, text=True).stdout.rstrip()
    return "\n".join(_LOG.read_text(errors="replace").splitlines()[-12:])


def _start_alone() -> subprocess.Popen[bytes]:
    """Start LXD without systemd, and lxcfs before it, because otherwise machines see the host's CPUs and memory."""
    fuse = Path("/var/lib/lxcfs")
    try:
        fuse.mkdir(parents=True, exist_ok=True)
    except OSError:
        # Remove the mount of a killed lxcfs, which no longer answers.
        subprocess.run(["umount", "--lazy", str(fuse)], capture_output=True)
    if not (fuse / "proc").exists():
        processes.detach(["lxcfs", str(fuse)], _LOG, PATH=_PATH)
        deadline = time.monotonic() + 5
        while not (fuse / "proc").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    groups = {line.split(":")[0] for line in Path("/etc/group").read_text().splitlines()}
    return processes.detach(["lxd", "--group", "lxd" if "lxd" in groups else "root"], _LOG, PATH=_PATH)
