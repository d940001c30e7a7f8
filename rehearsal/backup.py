"""`backup` and `restore`: the stack's database as a local .sql.gz, by SSH through the machine that the world reaches.

In the cloud the same is one line of ssh, which the README has: the command is the machine's own.
"""

import gzip
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import IO

from rehearsal.errors import RehearsalError, UserError
from rehearsal.inspect import line

_MACHINE = "db"
_COMMAND = "wsgi-ecs-database"
_CHUNK = 1 << 16
# mysqldump's last words: what ends otherwise is a part of a dump.
_END = b"-- Dump completed"
# The folder that the user's shell was in when ./rehearse went to the project's.
FROM = "REHEARSE_FROM"


def backup(root: Path, name: str, file: str) -> int:
    """Write a dump of the stack's database, readable by its owner alone. Raises UserError or RehearsalError."""
    path = _path(file)
    if path.exists():
        raise UserError(f"{file}: it is there already; allowed: a new file, such as {name}-2.sql.gz")
    command = [*line(root, name, _MACHINE), "--", f"{_COMMAND} dump"]
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            _hand_over(draft)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            size = _copied(_open(process.stdout), out, "dumped")
        _finish(process, "dump")
        _check(draft, file)
        draft.rename(path)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; allowed: a file in a folder that can be written") from None
    finally:
        draft.unlink(missing_ok=True)
    print(f"{file}: {_shown(size)}, the database of stack {name}")
    return 0


def restore(root: Path, name: str, file: str) -> int:
    """Read a dump back: its tables take the place of those of the same name. Raises UserError or RehearsalError."""
    path = _path(file)
    _check(path, file)
    command = [*line(root, name, _MACHINE), "--", f"{_COMMAND} load"]
    with path.open("rb") as dump:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        stdin = _open(process.stdin)
        try:
            size = _copied(dump, stdin, "sent")
            stdin.close()
        except BrokenPipeError:
            size = 0
    _finish(process, "restore")
    print(f"{file}: {_shown(size)} restored into the database of stack {name}")
    return 0


def _path(file: str) -> Path:
    return Path(os.environ.get(FROM, "."), Path(file).expanduser())


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RehearsalError("no pipe to ssh")
    return stream


def _copied(source: IO[bytes], target: IO[bytes], what: str) -> int:
    """Bytes copied, with a line of progress on a terminal."""
    size, told = 0, time.monotonic()
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        size += len(chunk)
        if sys.stderr.isatty() and time.monotonic() - told > 0.5:
            told = time.monotonic()
            print(f"\r\x1b[K{_shown(size)} {what}", end="", file=sys.stderr, flush=True)
    target.flush()
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return size


def _finish(process: subprocess.Popen[bytes], what: str) -> None:
    """Wait for ssh, and print what the machine said. Raises RehearsalError with it."""
    said = _open(process.stderr).read().decode(errors="replace").strip()
    if process.wait():
        raise RehearsalError(f"{what} failed: {said or f'ssh exited {process.returncode}'}")
    if said:
        print(said, file=sys.stderr)


def _check(path: Path, file: str) -> None:
    """Refuse what is not a whole dump, before anything is done with it. Raises UserError."""
    last = b""
    try:
        with gzip.open(path) as text:
            while chunk := text.read(_CHUNK):
                last = (last + chunk)[-200:]
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; allowed: what ./rehearse backup wrote") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: {error}; allowed: a whole file that ./rehearse backup wrote") from None
    if _END not in last:
        raise UserError(f"{file}: no whole dump of mysqldump; allowed: what ./rehearse backup wrote")


def _hand_over(path: Path) -> None:
    """What sudo made is the user's."""
    if "SUDO_UID" in os.environ:
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1")))


def _shown(size: int) -> str:
    return f"{size / 1024:.1f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"
