"""The readers of the logs of several machines, and what they send."""

import heapq
import json
import queue
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from operations.connection import advice
from operations.log_view import Entry, entry_of
from operations.machines import Machine

_FOLDER = Path(__file__).with_name("on-server")
_MODULES = ("log_lines", "log_files", "log_reader")
# The reader goes with each connection, so it is never older than this client, and runs before any release.
_START = (
    "import json,sys,types\n"
    "sent=json.loads(sys.stdin.buffer.readline().decode())\n"
    "for name,text in sent['modules']:\n"
    "    module=sys.modules[name]=types.ModuleType(name)\n"
    "    exec(compile(text,name,'exec'),module.__dict__)\n"
    "sys.modules['log_reader'].main(sent['request'])\n"
)
_COMMAND = shlex.join(["/usr/bin/python3", "-B", "-c", _START])
# An sshd drops connections if more than ten are about to log in, and all go through one machine.
_AT_ONCE = 5
# Entries of a machine that wait for the other machines' older ones.
_WAITING = 2000
# Seconds for which a new entry waits for older ones of other machines.
_LATE = 0.8


class Reader:
    """The reader on one machine. problem: why its entries are not complete. has_sources: whether it found a log."""

    _logins = threading.Semaphore(_AT_ONCE)

    def __init__(self, machine: Machine, request: dict[str, Any], live: "queue.Queue[Entry | Reader]") -> None:
        self.machine, self.problem, self.has_sources = machine, machine.missing, True
        self._entries: queue.Queue[Entry | None] = queue.Queue(_WAITING)
        self._live, self._ended = live, False
        self._process: subprocess.Popen[bytes] | None = None
        modules = [(name, (_FOLDER / f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES]
        self._sent = json.dumps({"modules": modules, "request": request}).encode() + b"\n"
        threading.Thread(target=self._run, daemon=True).start()

    def history(self) -> Iterator[Entry]:
        """The entries that are there, by time."""
        while (entry := self._entries.get()) is not None:
            yield entry

    def end(self) -> None:
        """End ssh; the reader on the machine ends with its input."""
        self._ended = True
        if self._process is not None:
            self._process.terminate()

    def _run(self) -> None:
        try:
            if self.machine.missing is None:
                self._read()
        except Exception as error:  # The main thread waits for the end of each reader.
            self.problem = self.problem or f"{type(error).__name__}: {error}"
        finally:
            self._entries.put(None)
            self._live.put(self)

    def _read(self) -> None:
        with self._logins:
            if self._ended:
                return
            command = [*self.machine.way.command(), "--", _COMMAND]
            pipe = subprocess.PIPE
            # A session of its own: Ctrl-C is this process's, which then ends ssh.
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
            stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
            assert stdin and stdout and stderr  # noqa: S101  They are pipes.
            said: list[str] = []
            listener = threading.Thread(target=lambda: said.extend(line.decode(errors="replace") for line in stderr))
            listener.start()
            try:
                stdin.write(self._sent)
                stdin.flush()
            except BrokenPipeError:
                pass
            first = stdout.readline()
        is_history = True
        if first:
            self.has_sources = bool(json.loads(first).get("processes"))
        for line in stdout:
            message = json.loads(line)
            if not message:
                is_history = False
                self._entries.put(None)
            elif is_history:
                self._entries.put(entry_of(self.machine.name, message))
            else:
                self._live.put(entry_of(self.machine.name, message))
        code = self._process.wait()
        listener.join(2)
        if (code or is_history) and not self._ended:
            text = "".join(said)
            last = text.strip().splitlines()[-1:] or [f"ssh exited {code}"]
            self.problem = advice(self.machine.way, text) or last[0]


class Streams:
    """The entries of all machines by time."""

    def __init__(self, machines: list[Machine], request: dict[str, Any]) -> None:
        self._live: queue.Queue[Entry | Reader] = queue.Queue()
        self.readers = [Reader(machine, request, self._live) for machine in machines]

    def history(self) -> Iterator[Entry]:
        """The entries that are there."""
        yield from heapq.merge(*(reader.history() for reader in self.readers), key=lambda entry: entry.time)

    def live(self) -> Iterator[Entry | Reader]:
        """The entries that are added, and each reader that ends."""
        # Time, number and arrival of each entry that waits for older ones.
        waiting: list[tuple[float, int, float, Entry]] = []
        running, number = len(self.readers), 0
        while running or waiting:
            try:
                found = self._live.get(timeout=0.1)
            except queue.Empty:
                pass
            else:
                if isinstance(found, Reader):
                    running -= 1
                    yield found
                else:
                    number += 1
                    heapq.heappush(waiting, (found.time, number, time.monotonic(), found))
            while waiting and (not running or time.monotonic() - waiting[0][2] > _LATE):
                yield heapq.heappop(waiting)[3]

    def end(self) -> None:
        """End all readers."""
        for reader in self.readers:
            reader.end()
