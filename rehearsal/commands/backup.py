"""`backup`: write a dump of a stack's database into a local file."""

import os
import subprocess
from pathlib import Path

from rehearsal.commands.dump import check_dump, copy, database_command, finish, local_path, pipe, size_text
from rehearsal.commands.owner import give_to_user
from rehearsal.engine.errors import UserError


def backup(root: Path, name: str, file: str) -> int:
    """Write a dump that only its owner can read. Returns the exit code. Raises UserError or RehearsalError."""
    path = local_path(file)
    if path.exists():
        raise UserError(f"{file}: the file is there already; allowed: a new file, such as {name}-2.sql.gz")
    command = database_command(root, name, "dump")
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            give_to_user(draft)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            size = copy(pipe(process.stdout), out, "dumped")
        finish(process, "dump")
        check_dump(draft, file)
        draft.rename(path)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; allowed: a file in a folder that can be written") from None
    finally:
        draft.unlink(missing_ok=True)
    print(f"{file}: {size_text(size)}, the database of stack {name}")
    return 0
