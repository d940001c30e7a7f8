"""A host that has nothing: a distribution's root in namespaces of its own, on a network behind this host's.

    mmdebstrap ─▶ tar (kept) ─▶ folder ─▶ mount, network, PID, UTS and IPC namespaces ─▶ commands of its user ada

Only what machines download is taken from this host's cache, because it takes a minute, and other tests show it.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from rehearsal.cloud import addressing, trust
from rehearsal.cloud.image import CACHE
from rehearsal.cloud.lock import host_lock
from tests.rehearsal.builders.stack import Done

# Beside Debian's smallest set: what a person has who has installed Debian and fetched the project.
INCLUDE = ("sudo", "ca-certificates", "curl")
PREPARE = """
update-ca-certificates >/dev/null
useradd --create-home --shell /bin/bash --groups sudo ada
echo "%sudo ALL=(ALL:ALL) NOPASSWD: ALL" >/etc/sudoers.d/nobody-types-a-password
echo fresh >/etc/hostname
echo "127.0.0.1 localhost fresh" >/etc/hosts
"""
# The first process of the namespaces: it moves into the root, and waits for every process whose parent has ended.
FIRST = """
set -e
hostname fresh
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
pivot_root . mnt
umount --lazy /mnt
exec chroot . bash -c 'echo ready; exec >/dev/null; while :; do sleep 1000 & wait; done'
"""
# Where the roots are, and how the names of this host's ends of their networks begin.
FOLDER, PREFIX, LINK = Path("/var/tmp"), "wsgi-ecs-host-", "wh"
# Links between this host and fresh hosts, of the addresses that are reserved for benchmarks.
LINKS = IPv4Network("198.18.254.0/24")


@dataclass(frozen=True)
class FreshHost:
    """root: its files. first: its first process, as this host counts. link: this host's end of its network."""

    root: Path
    first: int
    link: str

    def run(self, script: str, seconds: float = 900) -> Done:
        """What the user ada types in her folder."""
        command = ["nsenter", f"--target={self.first}", "--all", "su", "--login", "ada", "-c", script]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds, cwd="/", env={}
        )
        print(f"fresh $ {script}\n{done.stdout}{done.stderr}")
        return Done(done.returncode, done.stdout, done.stderr)


def archive(suite: str) -> Path:
    """The root of a Debian, as a tar file, which is made when there is none of the same content."""
    packages = trust.packages(suite)
    files = trust.host_files(packages)
    recipe = json.dumps([suite, INCLUDE, PREPARE, packages.sources, packages.options, files], sort_keys=True)
    folder = CACHE / "hosts"
    path = folder / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.tar"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{suite}-*.tar"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        overlay = Path(scratch, "overlay")
        for name, text in files.items():
            target = overlay / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for part in (overlay, *(part for part in overlay.rglob("*") if part.is_dir())):
            part.chmod(0o755)
        sources = Path(scratch, "host.list")
        sources.write_text(packages.sources)
        made = folder / ".new.tar"
        command = ["mmdebstrap", "--variant=minbase", "--quiet", f"--include={','.join(INCLUDE)}"]
        command += [f"--aptopt={option}" for option in packages.options]
        command += [f"--customize-hook=copy-in {part} /" for part in sorted(overlay.iterdir())]
        command += [f"--customize-hook=chroot \"$1\" sh -euc '{PREPARE}'", suite, str(made)]
        subprocess.run([*command, *([str(sources)] if packages.sources else [])], check=True)
        made.rename(path)
    return path


@contextmanager
def fresh_host(suite: str, project: Path) -> Iterator[FreshHost]:
    """A host of the Debian `suite`, with a copy of the project in ada's folder. In the end nothing is left of it."""
    with host_lock("fresh-host"), ExitStack() as undo:
        # Tests that were killed leave this.
        for left in FOLDER.glob(f"{PREFIX}*"):
            _remove(left)
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=FOLDER))
        undo.callback(_remove, root)
        root.chmod(0o755)
        subprocess.run(["tar", "-C", root, "-xf", archive(suite)], check=True)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        for file in CACHE.glob("debian12/*/[!.]*"):
            target = root / str(file).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            # Other tests may delete old packages meanwhile.
            with suppress(FileNotFoundError):
                shutil.copy2(file, target)
        home = root / "home/ada"
        shutil.copytree(project, home / "wsgi-ecs")
        owner = home.stat()
        subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", home], check=True)
        namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--propagation=private"]
        first = subprocess.Popen(
            # If the tests are killed, this ends, and so do the namespaces with all that is in them.
            ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "sh", "-c", FIRST, "sh", root],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        undo.callback(_end, first)
        assert first.stdout
        assert first.stdout.readline() == "ready\n"
        pid = int(Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text())
        link = _link(root)
        _connect(pid, link)
        yield FreshHost(root, pid, link)


def _end(first: subprocess.Popen[str]) -> None:
    """End the namespaces. unshare ends after the first process in them, and that one after all others."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    first.wait()


def _link(root: Path) -> str:
    return LINK + root.name.removeprefix(PREFIX)


def _remove(root: Path) -> None:
    """Delete what namespaces that have ended leave of a host."""
    subprocess.run(["nft", "delete", "table", "ip", _link(root)], capture_output=True)
    shutil.rmtree(root)


def _connect(pid: int, link: str) -> None:
    """Give a network namespace the way to package sources, by a link of this name."""
    part = addressing.free_part(LINKS, 30, [network for network, _ in addressing.routes()])
    assert part
    here, there = part.hosts()
    run = ["nsenter", f"--target={pid}", "--net", "ip"]
    for command in (
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)],
        ["ip", "address", "add", f"{here}/30", "dev", link],
        ["ip", "link", "set", link, "up"],
        [*run, "link", "set", "lo", "up"],
        [*run, "address", "add", f"{there}/30", "dev", "eth0"],
        [*run, "link", "set", "eth0", "up"],
        [*run, "route", "add", "default", "via", str(here)],
    ):
        subprocess.run(command, check=True)
    # It stays on: the bridges of tests that run beside this one need it, too.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    chain = f"chain out {{ type nat hook postrouting priority 100; ip saddr {part} oifname != {link} masquerade; }}"
    subprocess.run(["nft", "-f", "-"], input=f"table ip {link} {{\n{chain}\n}}\n", text=True, check=True)


def traces(host: FreshHost) -> list[str]:
    """What this host has of a fresh one that is gone: links, tables, mounts, files, processes."""
    texts = [Path("/proc/mounts").read_text()]
    for command in (["ip", "-br", "link"], ["nft", "list", "tables"]):
        texts.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    names = (host.link, host.root.name)
    found = [line for text in texts for line in text.splitlines() if any(name in line for name in names)]
    return [*found, *(str(path) for path in (host.root, Path(f"/proc/{host.first}")) if path.exists())]


def settled(host: FreshHost, seconds: float = 20) -> list[str]:
    """The traces that remain. The kernel takes namespaces down in the background."""
    deadline = time.monotonic() + seconds
    while (found := traces(host)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
