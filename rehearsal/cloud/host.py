"""Preparing this host: install missing packages, start LXD or Incus, make the storage pool."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rehearsal.cloud import daemon, lxd, processes, trust
from rehearsal.cloud.lock import host_lock
from rehearsal.engine.errors import RehearsalError, UserError

# Package → a program that it contains: for the base image, and for a daemon that is not installed or not running.
_IMAGE = {"mmdebstrap": "mmdebstrap", "squashfs-tools": "mksquashfs"}
_BESIDE = {
    "lxcfs": "lxcfs",
    "nftables": "nft",
    "dnsmasq-base": "dnsmasq",
    "openssh-client": "ssh",
    "iproute2": "ip",
}
# The keyring that signs Debian's packages. Ubuntu needs it to build a Debian image.
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Many hosts have a limit of 128, which about fifteen machines use up.
_INOTIFY, _INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances"), 1024
_LOG = Path("/var/log/wsgi-ecs-rehearsal.log")


def prepare(say: Callable[[str], None]) -> None:
    """Make this host ready: packages, LXD or Incus, storage pool. Raises UserError or RehearsalError."""
    if os.geteuid() != 0:
        raise UserError(f"the socket of {daemon.name()} is root's; run this with sudo")
    try:
        _get(missing, say)
    except UserError as error:
        # apt may lack the daemon that this host's files, or the user's environment, have chosen.
        lacking = {package for package in missing() if not _packaged(package)}
        if daemon.installed() and lacking & set(_daemon_packages()):
            raise UserError(f"{error}; {daemon.other_choice()}") from None
        raise
    _start(say)
    _raise_limit(say)
    host = lxd.Lxd()
    _check_filter(host.get("/1.0")["environment"]["firewall"])
    if host.find(f"/1.0/storage-pools/{daemon.POOL}") is None:
        say(f"making the storage pool {daemon.POOL}")
        host.post("/1.0/storage-pools", {"name": daemon.POOL, "driver": "dir", "description": "Machines of rehearsals"})


def _check_filter(driver: str) -> None:
    """Refuse a packet filter that does not enforce security groups. driver: its name in the API. Raises UserError.

    With xtables, LXD 5.0.2 accepts what leaves one bridge before it checks the ACL of the other bridge, unless the
    other bridge was made later (measured).
    """
    if driver != "nftables":
        raise UserError(
            f"{daemon.name()} filters with {driver}, by which security groups do not hold between machines; "
            "allowed: nftables: "
            "install nft (package nftables), unload the rules of iptables-legacy if there are any, "
            f"restart {daemon.name()} ({daemon.current().restart}) and run the same again"
        )


def missing() -> list[str]:
    """Packages that this host lacks. A running daemon, such as a snap's, brings its own programs."""
    packages = _IMAGE if lxd.reachable() else {**_daemon_packages(), **_BESIDE, **_IMAGE}
    found = _without_program(packages)
    return found if _KEYRING.is_file() else [*found, "debian-archive-keyring"]


def _without_program(packages: Mapping[str, str]) -> list[str]:
    return [package for package, program in packages.items() if not shutil.which(program, path=daemon.PATH)]


def _daemon_packages() -> Mapping[str, str]:
    """Packages of the daemon. A host with neither gets Incus if apt has it, because distributions drop LXD."""
    found = daemon.installed()
    choices = found.packages if found else (*daemon.INCUS.packages, *daemon.LXD.packages)
    return next((packages for packages in choices if all(map(_packaged, packages))), choices[-1])


def _packaged(package: str) -> bool:
    """Whether apt's lists have a package."""
    command = ["apt-cache", "show", package]
    return bool(shutil.which("apt-cache")) and subprocess.run(command, capture_output=True).returncode == 0


def install(packages: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Install packages whose program is missing. packages: package → a program in it. Raises as prepare does."""
    _get(lambda: _without_program(packages), say)


def _get(missing: Callable[[], Sequence[str]], say: Callable[[str], None]) -> None:
    """Install what is missing, which is looked up again after apt has read its lists."""
    if not (packages := missing()):
        return
    if not shutil.which("apt-get"):
        raise UserError(f"not Debian or Ubuntu; install these and run again: {' '.join(packages)}")
    with host_lock("packages"):
        _apt("update")
        if packages := missing():
            say(f"installing {' '.join(packages)}")
            _apt("install", "-y", "--no-install-recommends", *packages)


def _apt(*words: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-q", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise UserError(f"apt-get {words[0]} fails: {trust.reason(done.stdout + done.stderr)}; {trust.SOURCES}")


def _start(say: Callable[[str], None]) -> None:
    if lxd.reachable():
        return
    used = daemon.current()
    say(f"starting {used.name}")
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", used.service], capture_output=True)
        process = None
    else:
        process = _start_alone(used)
    deadline = time.monotonic() + 60
    while not lxd.reachable():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            raise RehearsalError(
                f"{used.name} does not start; its log's last lines:\n{_log(used, process is None)}\n"
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


def _log(used: daemon.Daemon, systemd: bool) -> str:
    if systemd:
        command = ["journalctl", "-u", used.service, "-n", "12", "--no-pager"]
        return subprocess.run(command, capture_output=True, text=True).stdout.rstrip()
    return "\n".join(_LOG.read_text(errors="replace").splitlines()[-12:])


def _start_alone(used: daemon.Daemon) -> subprocess.Popen[bytes]:
    """Start the daemon without systemd, and lxcfs before it, by which machines see their own CPUs and memory."""
    fuse = Path("/var/lib/lxcfs")
    try:
        fuse.mkdir(parents=True, exist_ok=True)
    except OSError:
        # Remove the mount of a killed lxcfs, which no longer answers.
        subprocess.run(["umount", "--lazy", str(fuse)], capture_output=True)
    if not (fuse / "proc").exists():
        processes.detach(["lxcfs", str(fuse)], _LOG, PATH=daemon.PATH)
        deadline = time.monotonic() + 5
        while not (fuse / "proc").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    groups = {line.split(":")[0] for line in Path("/etc/group").read_text().splitlines()}
    return processes.detach(
        [used.program, "--group", used.group if used.group in groups else "root"], _LOG, PATH=daemon.PATH
    )
