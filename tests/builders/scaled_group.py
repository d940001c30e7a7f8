"""A scaling group of real processes on one machine: a release host, members, and archives whose run.sh only says it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.archive import build
from serving import host_files, make_plan, release_files
from settings.loader import parse
from tests.unit.machine import PROJECT, module, python36

FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Servers have a Python as old as this.
PYTHON = python36() or sys.executable
RUN_QUICK = [PYTHON, "-B", str(PROJECT / "tests/unit/machine/quick.py")]
VERSION = "0123456789ab"
# What stands for the release tool: it notes each run, and waits or refuses as files of the member or archive say.
RUN = r"""
set -eu
part=$(basename "$2" .tar.gz)
says() { tar -xzOf "$2" "$1" 2>/dev/null || true; }
echo "$1 $part $(says text "$2")" >> "$MEMBER/runs"
cat > "$MEMBER/$part.stdin"
while [ -e "$MEMBER/hold" ]; do sleep 0.05; done
[ -z "$(says bad "$2")" ] || { echo "wsgi-ecs: release refused: $(says bad "$2")" >&2; exit 1; }
echo "$(says text "$2")" > "$MEMBER/$part.serves"
"""


class Member:
    """A member's process. folder: of what stands for its machine."""

    def __init__(self, group: "Group", name: str, holds: bool) -> None:
        self.group, self.name, self.folder = group, name, group.folder / name
        self.folder.mkdir()
        if holds:
            self.hold()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the member's program with the tool that the store has now."""
        arguments = [str(self.group.store), str(self.folder / "own"), str(self.folder / "log")]
        arguments += [str(self.folder / "lease"), self.name]
        with (self.folder / "said").open("ab") as said:
            self.process = subprocess.Popen(
                [*RUN_QUICK, str(self.group.store / "tool"), str(self.group.folder), "member", *arguments],
                env={**os.environ, "MEMBER": str(self.folder)},
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """Kill the member's program, and nothing that it has started."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def kill_task(self) -> None:
        """Kill the process that takes a delivery."""
        os.kill(self.group.pid_of("take.py", self.folder), signal.SIGKILL)

    def hold(self, holds: bool = True) -> None:
        """Let runs of this member's release tool wait, or go on."""
        (self.folder / "hold").touch() if holds else (self.folder / "hold").unlink()

    def runs(self) -> list[str]:
        """What its release tool was asked to do."""
        path = self.folder / "runs"
        return path.read_text().splitlines() if path.exists() else []

    def serves(self) -> dict[str, str]:
        """What serves: part → text."""
        return {path.stem: path.read_text().strip() for path in sorted(self.folder.glob("*.serves"))}

    def said(self) -> Any:
        """What its file in the store says."""
        return module("store").Store(str(self.group.store)).member(self.name)

    def has_lease(self, seconds: float = 10) -> bool:
        """Whether a command that runs on one member at a time would run on this one, as a site's user finds out."""
        program = [PYTHON, "-B", str(self.group.store / "tool/has_lease.py")]
        return subprocess.run([*program, str(self.folder / "lease"), str(seconds)]).returncode == 0

    def is_idle(self) -> bool:
        """Whether no process of it takes a delivery."""
        machine = module("own_machine").OwnMachine("", str(self.folder / "own"), "")
        return machine.outcome() is not None

    def text(self) -> str:
        """What the member's program has printed."""
        return (self.folder / "said").read_text()


class Group:
    """A group of one site, or of those that `sites` names."""

    def __init__(self, *sites: str) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=FAST))
        self.sites = sites or ("app",)
        self.store = self.folder / "store" / VERSION
        self.members: dict[str, Member] = {}
        for name in ("incoming", "log", "sites", "store"):
            (self.folder / name).mkdir()
        stack = parse({}, "test")
        self.plan = replace(make_plan(stack), store_units=("wsgi-ecs-store",))
        self.rolls: list[subprocess.Popen[bytes]] = []

    def archive(self, part: str, text: str, bad: str, tool: str = "") -> str:
        """Make an archive in incoming/, with `tool` at the end of a module of its tool. Returns its id."""
        texts = host_files(self.plan) if part == "host" else release_files(self.plan.sites[0])
        texts = {**texts, "tool/run.sh": RUN, "text": text, **({"bad": bad} if bad else {})}
        texts["tool/release.py"] += tool
        return build(texts, {}, self.folder / "incoming").id

    def roll(
        self,
        text: str,
        bad: Mapping[str, str] | None = None,
        word: str = "s",
        at_once: int = 2,
        version: str = VERSION,
        tool: str = "",
    ) -> subprocess.Popen[bytes]:
        """Begin what `up` does. bad: part → why it is refused. word: a secret. tool: as in archive()."""
        bad = bad or {}
        host = self.archive("host", "h" + text, bad.get("host", ""), tool)
        sites = {site: self.archive(site, f"{site}-{text}", bad.get(site, "")) for site in self.sites}
        unpacked = self.folder / "incoming" / host
        shutil.rmtree(unpacked, ignore_errors=True)
        with tarfile.open(f"{unpacked}.tar.gz") as tar:
            # Debian 12's Python 3.11.2 has no filter for what is unpacked.
            tar.extractall(unpacked)  # noqa: S202  The test has packed it.
        parts = {
            "prepare": {"hosts": {}, "tls": {}},
            "apply": {site: {"env": {"SECRET": word}, "files": {}, "address": "192.0.2.1"} for site in sites},
            "archives": sites,
            "version": version,
            "at_once": at_once,
        }
        return self._begin(unpacked / "tool", ["roll", str(unpacked)], json.dumps(parts).encode())

    def joined(self, least: int, seconds: int) -> "subprocess.Popen[bytes]":
        """Begin to wait for members."""
        return self._begin(self.store / "tool", ["joined", str(least), str(seconds)], b"")

    def _begin(self, tool: Path, arguments: list[str], stdin: bytes) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [*RUN_QUICK, str(tool), str(self.folder), "release", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.rolls.append(process)
        assert process.stdin
        process.stdin.write(stdin)
        process.stdin.close()
        return process

    def until_printed(self, process: "subprocess.Popen[bytes]", line: str) -> None:
        """Wait until a process prints a line."""
        assert process.stdout
        printed = []
        for found in iter(process.stdout.readline, b""):
            printed.append(found.decode().rstrip())
            if line in printed[-1]:
                return
        raise AssertionError("\n".join(printed))

    def rolled(self, text: str, status: int = 0, **more: Any) -> str:
        """Do what `up` does. Returns what it prints."""
        return self.ended(self.roll(text, **more), status)

    def ended(self, process: "subprocess.Popen[bytes]", status: int = 0) -> str:
        """What a roll-out has printed when it has ended."""
        assert process.stdout
        printed = process.stdout.read().decode()
        assert process.wait() == status, printed
        return printed

    def join(self, *names: str, holds: bool = False) -> list[Member]:
        """Start members. holds: whether their runs wait."""
        for name in names:
            self.members[name] = Member(self, name, holds)
        return [self.members[name] for name in names]

    def pid_of(self, program: str, folder: Path) -> int:
        """The process that runs a program for a member."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if any(word.endswith(program) for word in words) and f"{folder}/own" in words:
                return int(path.name)
        raise AssertionError(f"no process of {program}")

    def end(self) -> None:
        """End all processes of the group that still run."""
        for process in [*(member.process for member in self.members.values()), *self.rolls]:
            if process and process.poll() is None:
                process.kill()
                process.wait()
        for member in self.members.values():
            (member.folder / "hold").unlink(missing_ok=True)
        until(
            lambda: all(
                module("own_machine").OwnMachine("", str(m.folder / "own"), "").outcome() for m in self.members.values()
            )
        )
        shutil.rmtree(self.folder)


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it has not come to hold"
        time.sleep(0.05)
