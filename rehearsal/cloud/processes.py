"""Long-running commands, whose output is streamed and which an interrupt ends; and daemons."""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# Variables of the environment that a daemon gets. Others may contain the stack's passphrase or the keys of an account,
# and the daemon would pass them on to its own processes, even those of other users, as long as this host runs.
_KEPT = ("PATH", "HOME", "LANG", "LXD_DIR", "INCUS_DIR")
_running: set[int] = set()
_lock = threading.Lock()


@dataclass(frozen=True)
class Done:
    """A finished command. tail: the last lines of stdout and stderr, in the order in which they were printed."""

    code: int
    stdout: str
    stderr: str
    tail: tuple[str, ...]


def run(
    command: Sequence[str],
    stdin: str,
    say: Callable[[str, str], None],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Done:
    """Run a command to its end. say(stream, line): called for each printed line; stream is stdout or stderr."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd=cwd,
        env=dict(env) if env is not None else None,
    )
    with _lock:
        _running.add(process.pid)
    tail: deque[str] = deque(maxlen=30)
    texts: dict[str, list[str]] = {"stdout": [], "stderr": []}

    def read(name: str, stream: IO[bytes]) -> None:
        for raw in stream:
            line = raw.decode(errors="replace")
            texts[name].append(line)
            tail.append(line.rstrip())
            say(name, line.rstrip())

    readers = [
        threading.Thread(target=read, args=(name, stream), daemon=True)
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
        if stream is not None
    ]
    for reader in readers:
        reader.start()
    with suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.write(stdin.encode())
            process.stdin.close()
    code = process.wait()
    for reader in readers:
        # Do not wait for ever, because a background process of the command may keep its output open.
        reader.join(timeout=2)
    with _lock:
        _running.discard(process.pid)
    return Done(code, "".join(texts["stdout"]), "".join(texts["stderr"]), tuple(tail))


def stop_all() -> None:
    """End the running commands, with all processes that they have started."""
    with _lock:
        for pid in _running:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)


def detach(command: Sequence[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a daemon that outlives this process and prints to the log. environment: additional variables."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**kept, **environment},
        )


def running(matches: Callable[[list[str]], bool]) -> list[int]:
    """Ids of the processes of this host whose command matches. matches: is given its words."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if matches(words):
                found.append(int(folder.name))
    return found


def end(find: Callable[[], list[int]]) -> None:
    """Kill the processes that `find` finds, until it finds none."""
    while pids := find():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            # Reap the process if this process has started it.
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        time.sleep(0.02)
