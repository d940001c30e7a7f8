"""Runs the release tool against fake roots, in a process of its own each time. For Python 3.6 and later.

In: lines of JSON [root, verb, folder]. Out: a line with the process id, and one with its wait status.
Standard input of the tool is ROOT/stdin, its output goes to ROOT/output. ROOT/faults.json may
name what goes wrong: disk (full), pip (killed there), before-3 and after-3 (killed at the third rename, by which the
tool replaces files and links), before-state.json-2 (at the second one of this name), or full-state.json-2 (no space for
it). ROOT/renames has the number of renames of a run that has ended. Commands are asked of
ROOT/ask, a unix socket: a line of JSON there, then status and output come back; hundreds of them run, and a process for
each would take most of the time.
"""

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROJECT = Path(__file__).parents[3]
sys.path[:0] = [str(PROJECT / "machine"), str(PROJECT)]
names = (
    "builds",
    "commands",
    "data",
    "disk",
    "drop_ins",
    "files",
    "hardening",
    "host",
    "lock",
    "nginx",
    "release",
    "traffic",
    "venvs",
    "contract.paths",
)
modules: Any = [importlib.import_module(name) for name in names]
builds, commands, data, disk, drop_ins, files, hardening, host, lock, nginx, release, traffic, venvs, paths = modules
shared_data: Any = importlib.import_module("shared_data")
log_rotation: Any = importlib.import_module("log_rotation")
updates: Any = importlib.import_module("updates")
release_commands: Any = importlib.import_module("release_commands")
sleep, listdir, rename = time.sleep, os.listdir, os.rename


class Fake:
    """What stands in for the machine below `root`. faults: what goes wrong."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.renames: Any = []
        self.faults = json.loads(Path(root, "faults.json").read_text())

    def note_owner(self, path: str, owner: str) -> None:
        mode = Path(path).stat().st_mode & 0o777
        with Path(self.root, "owned").open("a", encoding="utf-8", errors="surrogateescape") as log:
            log.write(f"{owner} {mode:o} {path}\n")

    def account(self, kind: str, name: str) -> Any:
        known = json.loads(Path(self.root, "accounts.json").read_text())[kind]
        if name not in known:
            raise KeyError(name)
        return SimpleNamespace(pw_uid=name, pw_gid=name, gr_gid=name, gr_mem=known[name] if kind == "groups" else ())

    def own(self, path: str, group: str, mode: int) -> None:
        if group != "root":
            self.account("groups", group)
        Path(path).chmod(mode)
        self.note_owner(path, group)

    def take_back(self, folder: str, group: str) -> Any:
        self.note_owner(folder, group)
        return []

    def chown(self, path: str, user: str, group: str, dir_fd: Any = None, **_: object) -> None:
        folder = Path() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
        self.note_owner(str(folder / path), user)

    def ask(self, command: Any, **options: object) -> Any:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(self.root + "/ask")
            asked.sendall((json.dumps(command) + "\n").encode())
            with asked.makefile("rb") as answer:
                status = int(answer.readline())
                return subprocess.CompletedProcess(command, status, answer.read())

    def listed(self, path: str) -> Any:
        # To look at every process of a machine, again and again, would take most of the time.
        master = Path(self.root, "nginx.pid").read_text().strip()
        children = Path("/proc", master, "task", master, "children").read_text().split()
        return ["1", master, str(os.getpid()), "self", *children] if path == "/proc" else listdir(path)

    def rename(self, source: str, target: str) -> None:
        name = Path(target).name
        self.renames.append(name)
        at, named = len(self.renames), f"{name}-{self.renames.count(name)}"
        if f"full-{named}" in self.faults:
            raise OSError(28, "No space left on device", target)
        if f"before-{at}" in self.faults or f"before-{named}" in self.faults:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if f"after-{at}" in self.faults:
            os.kill(os.getpid(), signal.SIGKILL)

    def sync(self) -> None:
        if "disk" in self.faults:
            raise OSError(28, "No space left on device", self.root)


class Builder:
    """What the build user would run."""

    faults: Any = ()
    user: Any = None

    def own(self, path: str) -> None:
        pass

    def take(self, folder: str) -> None:
        pass

    def end_leftovers(self) -> None:
        pass

    def run(self, *command: str, **options: object) -> str:
        if command[1:3] == ("-m", "venv"):
            Path(command[3], "bin").mkdir()
        if "--target" in command:
            Path(command[command.index("--target") + 1]).mkdir()
        if command[-2] == "-r":
            if "pip" in self.faults:
                os.kill(os.getpid(), signal.SIGKILL)
            if "no-such-package" in Path(command[-1]).read_text():
                lines = "ERROR: No matching distribution found for no-such-package"
                raise commands.ReleaseError("pip ended with 1", lines)
        return "flask==3.0.0\n" if command[1] == "freeze" else ""


def move(root: str) -> None:
    """Have the tool find below `root` what it finds elsewhere on a machine."""
    paths.ROOT, paths.ETC, paths.RUN, paths.LOG = (f"{root}/{name}" for name in ("srv", "etc", "run", "log"))
    paths.CACHE, paths.STATUS_COMMAND = root + "/cache", root + "/status"
    paths.MAINTENANCE_COMMAND = root + "/maintenance"
    paths.RELEASE_COMMAND, paths.MYSQL_CA = root + "/release", root + "/etc/mysql-ca.pem"
    paths.DATA, paths.DATABASE_COMMAND = root + "/disk", root + "/database"
    paths.EMPEROR_STATS = root + "/emperor.sock"
    files.LOCK, files.TMPFILES = root + "/lock", root + "/tmpfiles"
    nginx.NGINX_PID, nginx.NGINX_UNIT = root + "/nginx.pid", root + "/nginx.service"
    nginx.NGINX_LOG = host.NGINX_LOG = root + "/log/nginx.log"
    # Not this machine's own /usr/local, where a release would remove what none of its sites needs.
    paths.BUILD_FOLDERS = (root + "/local",)
    host.NGINX_CONF = root + "/etc/nginx.conf"
    log_rotation.CONFIG, log_rotation.FORMER = root + "/etc/logrotate.conf", root + "/logrotate"
    updates.APT, updates.KNOWN = root + "/etc/apt.conf", root + "/etc/updates.json"
    updates.STATE, updates.POLICY = root + "/updates.json", root + "/policy-rc.d"
    host.HOSTS = root + "/etc/hosts"
    drop_ins.UNITS = root + "/units"
    hardening.SSHD_CONFIG, hardening.JOURNALD_DROP_IN = root + "/etc/sshd_config", root + "/journald/wsgi-ecs.conf"
    hardening.CONTAINER = root
    disk.mount, disk.unmount = (lambda say: Path(paths.DATA).mkdir(exist_ok=True)), (lambda say: None)
    disk.FSTAB, shared_data.UNITS = root + "/fstab", root + "/units"
    shared_data.is_mounted = lambda: Path(paths.DATA).is_dir()
    shared_data.answers = lambda *_: "away" not in Path(root, "faults.json").read_text()


def hasten() -> None:
    """What the tool waits for comes at once here."""
    traffic.Site.start_seconds, traffic.SETTLE_SECONDS, traffic.LOG_SECONDS = 1.0, 0.05, 0.01
    release.LOCK_SECONDS = lock.LOCK_SECONDS = 0.5
    release_commands.GRACE = 0.5
    vars(time)["sleep"] = lambda seconds: sleep(seconds / 20)


def run(root: str, verb: str, folder: str) -> int:
    fake = Fake(root)
    move(root)
    hasten()
    Path(root, "build").mkdir(exist_ok=True)
    Builder.faults, Builder.user = fake.faults, SimpleNamespace(pw_dir=root + "/build")
    files.own, venvs.Builder = fake.own, Builder
    data.run_as = lambda name, act: act()
    # The application's log is its own; here there is no such user.
    os.geteuid = lambda: 0
    files.pwd.getpwnam = lambda name: fake.account("users", name)
    files.grp.getgrnam = lambda name: fake.account("groups", name)
    files.grp.getgrgid = lambda name: SimpleNamespace(gr_name=name)
    vars(os)["chown"] = fake.chown
    os.sync = fake.sync
    vars(os)["rename"] = fake.rename
    # The site's user is this one, whose files the application's folder has already.
    release_commands.become, release_commands.owner_of = lambda account: os.setsid(), lambda user: os.getuid()
    # Another test's commands are this user's too.
    release_commands.MARK += re.sub("[^A-Za-z0-9]", "_", root)
    release_commands.handover.give = fake.note_owner
    release_commands.handover.take_back = fake.take_back
    vars(subprocess)["run"], vars(os)["listdir"] = fake.ask, fake.listed
    status = int(release.main(verb.split() if verb.split()[0] in ("status", "kept") else [verb, folder]))
    Path(root, "renames").write_text(str(len(fake.renames)))
    return status


def main() -> None:
    for line in sys.stdin:
        root, verb, folder = json.loads(line)
        child = os.fork()
        if not child:
            output = os.open(root + "/output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for source, target in ((os.open(root + "/stdin", os.O_RDONLY), 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            status = run(root, verb, folder)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
