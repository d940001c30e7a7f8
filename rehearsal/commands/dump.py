"""Dumps of a stack's database: local .sql.gz files that travel by SSH through the machine with the public address.

For a stack in the cloud the README has the same in one line of ssh, because the command is the machine's own.
"""

import gzip
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import IO

from contract.paths import DATABASE_COMMAND
from contract.resources import DATABASE_MACHINE
from kinds.databases import DATABASES
from rehearsal.commands.machines import ssh_command
from rehearsal.engine.errors import RehearsalError, UserError

_CHUNK = 1 << 16
# Bytes at the end of a dump that contain its last line.
_LAST = 200
# The folder that the user's shell was in when ./rehearse changed to the project's.
FROM = "REHEARSE_FROM"


def local_path(file: str) -> Path:
    """A file as the user named it, relative to the folder of the user's shell."""
    return Path(os.environ.get(FROM, "."), Path(file).expanduser())


def database_command(root: Path, stack: str, verb: str) -> list[str]:
    """The command line that runs the database machine's own command. Raises UserError."""
    return [*ssh_command(root, stack, DATABASE_MACHINE), "--", f"{DATABASE_COMMAND} {verb}"]


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RehearsalError("no pipe to ssh")
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


def finish(process: subprocess.Popen[bytes], what: str) -> None:
    """Wait for ssh, and print what the machine has printed. Raises RehearsalError with that text."""
    printed = pipe(process.stderr).read().decode(errors="replace").strip()
    if process.wait():
        raise RehearsalError(f"{what} failed: {printed or f'ssh exited {process.returncode}'}")
    if printed:
        print(printed, file=sys.stderr)


def check_dump(path: Path, file: str) -> None:
    """Refuse a file that is not a complete dump. file: how the user named it. Raises UserError."""
    last = b""
    try:
        with gzip.open(path) as text:
            while chunk := text.read(_CHUNK):
                last = (last + chunk)[-_LAST:]
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; allowed: what ./rehearse backup wrote") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: {error}; allowed: a whole file that ./rehearse backup wrote") from None
    if not any(kind.dump_end.encode() in last for kind in DATABASES.values()):
        raise UserError(f"{file}: not a complete dump of a database; allowed: what ./rehearse backup wrote")


def amount_text(size: str, files: str) -> str:
    """Bytes and a number of files, in words."""
    return f"{size_text(int(size))} in {files} {'file' if files == '1' else 'files'}"


def size_text(size: int) -> str:
    return f"{size / 1024:.1f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"
