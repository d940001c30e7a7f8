"""A rehearsed stack as ./stack sees a deployed one: by its outputs, over SSH alone."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from rehearsal.cloud.keys import keys_of
from rehearsal.cloud.store import load_state
from tests.rehearsal.builders.stack import Done, Stack, until

_NAME = "deployed"


@dataclass
class Deployed:
    """home: a home folder of its own, in which no host key is known."""

    stack: Stack
    home: Path

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)
        (self.home / "outputs.json").write_text(json.dumps(load_state(self.stack.name).outputs))
        key = str(keys_of(self.stack.folder, self.stack.name).private)
        file = self.stack.folder / "stacks" / f"Pulumi.{_NAME}.yaml"
        file.write_text(yaml.safe_dump({"config": {"wsgi-ecs:access": {"private_key_file": key}}}))

    def command(self, name: str, *arguments: str) -> list[str]:
        place = ["--stack", _NAME, "--outputs", str(self.home / "outputs.json")]
        return [sys.executable, "-m", "operations", name, *place, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.home), "TERM": "vt100"}

    def run(self, *arguments: str) -> Done:
        command = self.command(*arguments)
        done = subprocess.run(
            command,
            cwd=self.stack.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        print(f"$ ./stack {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return Done(done.returncode, done.stdout, done.stderr)

    def typed(self, *arguments: str, after: str, keys: str, size: tuple[int, int]) -> tuple[int, str]:
        """Exit code and output of a command on a terminal. keys: typed when it has printed a text, at another size."""
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(self.stack.folder)
            os.execvpe(sys.executable, self.command(*arguments), self.environment)  # noqa: S606
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
        printed, deadline, has_typed = "", time.monotonic() + 120, False
        while time.monotonic() < deadline:
            try:
                printed += os.read(terminal, 4096).decode(errors="replace")
            except OSError:
                break
            if after in printed and not has_typed:
                has_typed = True
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
                time.sleep(1)
                os.write(terminal, keys.encode())
        print(printed)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed


@dataclass
class Following:
    """`logs -f` in the background, which writes into a file."""

    process: "subprocess.Popen[bytes]"
    file: Path

    def until(self, text: str) -> None:
        until(lambda: text in self.file.read_text(), 60)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


def following(deployed: Deployed, *arguments: str) -> Following:
    file = deployed.home / "followed.log"
    with file.open("wb") as out:
        process = subprocess.Popen(
            deployed.command("logs", "--follow", *arguments),
            cwd=deployed.stack.folder,
            env=deployed.environment,
            stdout=out,
            # Whoever starts tests in the background may have told them to ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    return Following(process, file)
