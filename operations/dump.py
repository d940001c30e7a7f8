"""Dumps of a stack's database and copies of its data: local files that travel by SSH.

The commands that write and read them are the machine's own.
"""

import gzip
import re
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import IO

from contract.paths import DATABASE_COMMAND
from contract.resources import DATABASE_MACHINE
from kinds.databases import DATABASES
from operations.connection import advice
from operations.errors import OperationError, UserError
from operations.log_view import harmless
from operations.machines import Machine, Stack
from schema.base import printable

_CHUNK = 1 << 16
# Lines of a machine that an error shows.
_SHOWN = 10
# What ssh says of a key that is new to it, which is no problem.
_OF_SSH = "Warning: Permanently added "
# Exit code of ssh's own failures.
_OF_CONNECTION = 255
# The shell's exit code and Python's words for a program that an earlier version has not brought.
_NO_PROGRAM, _NO_FILE = 127, "can't open file"
# Bytes at the end of a dump that contain its last line.
_LAST = 200


def database_machine(stack: Stack) -> Machine:
    """The machine of a stack's database, or the first one with the application for RDS. Raises UserError."""
    if DATABASE_MACHINE in (machine.name for machine in stack.machines):
        return stack.machine(DATABASE_MACHINE)
    if "database" not in stack.outputs:
        raise UserError(f"stack {stack.name} has no database; allowed: --site NAME for the data of a site")
    return stack.machine(next((each.name for each in stack.machines if each.runs_application), None))


def database_command(machine: Machine, verb: str, nightly: str | None = None) -> list[str]:
    """The command line that runs the database machine's own command.

    nightly: name of a nightly dump of that machine, or `latest`; None for none. Raises UserError.
    """
    if nightly is not None and not re.fullmatch(r"latest|[A-Za-z0-9_-]+\.sql\.gz", nightly):
        raise UserError(f"--nightly {printable(nightly)}: allowed: latest, or a name that status lists")
    return [*machine.way.command(), "--", " ".join(filter(None, (DATABASE_COMMAND, verb, nightly)))]


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise OperationError("no pipe to ssh")
    return stream


def copy(source: IO[bytes], target: IO[bytes], verb: str) -> int:
    """Copy all bytes, with a line of progress on a terminal. Returns how many."""
    size, shown = 0, time.monotonic()
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        size += len(chunk)
        if sys.stderr.isatty() and time.monotonic() - shown > 0.5:
            shown = time.monotonic()
            print(f"\r\x1b[K{size_text(size)} {verb}", end="", file=sys.stderr, flush=True)
    target.flush()
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return size


def send(source: IO[bytes], process: subprocess.Popen[bytes]) -> int:
    """Copy all bytes into a process. Returns how many; 0 for a process that has ended, whose output says why."""
    stdin = pipe(process.stdin)
    try:
        size = copy(source, stdin, "sent")
        stdin.close()
    except BrokenPipeError:
        return 0
    return size


def finish(process: subprocess.Popen[bytes], what: str, machine: Machine) -> None:
    """Wait for ssh, and print what the machine has printed.

    Raises OperationError with the last lines of that text, and what to do next.
    """
    printed = pipe(process.stderr).read().decode(errors="replace")
    lines = [line for line in map(harmless, printed.splitlines()) if line.strip() and not line.startswith(_OF_SSH)]
    if process.wait():
        shown = lines[-_SHOWN:] or [f"ssh ended with {process.returncode}"]
        advice = _advice(process.returncode, printed, machine)
        raise OperationError("\n  ".join([f"{what} on {machine.name} failed:", *shown]) + f"\nnext: {advice}")
    for line in lines:
        print(line, file=sys.stderr)


def _advice(code: int, printed: str, machine: Machine) -> str:
    """What to do about a command that failed on a machine."""
    if code == _OF_CONNECTION:
        return advice(machine.way, printed) or "check that SSH gets through (ssh -- true), and run the same again"
    if code == _NO_PROGRAM or _NO_FILE in printed:
        return "run up, which brings this command to the server, and then the same again"
    return "correct on the server what these lines say, and run the same again"


def check_dump(path: Path, file: str) -> None:
    """Refuse a file that is not a complete dump. file: how the user named it. Raises UserError."""
    last = b""
    try:
        with gzip.open(path) as text:
            while chunk := text.read(_CHUNK):
                last = (last + chunk)[-_LAST:]
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; allowed: what backup wrote") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: {error}; allowed: a whole file that backup wrote") from None
    if not any(kind.dump_end.encode() in last for kind in DATABASES.values()):
        raise UserError(f"{file}: not a complete dump of a database; allowed: what backup wrote")


def amount_text(size: str, files: str) -> str:
    """Bytes and a number of files, in words."""
    return f"{size_text(int(size))} in {files} {'file' if files == '1' else 'files'}"


def size_text(size: int) -> str:
    return f"{size / 1024:.1f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"
