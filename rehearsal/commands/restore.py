"""`restore`: read a dump back into a stack's database."""

import subprocess
from pathlib import Path

from rehearsal.commands.dump import check_dump, database_command, finish, local_path, send, size_text


def restore(root: Path, name: str, file: str) -> int:
    """Replace tables by those of the same name in the dump. Returns the exit code.

    Raises UserError or RehearsalError.
    """
    path = local_path(file)
    check_dump(path, file)
    command = database_command(root, name, "load")
    with path.open("rb") as dump:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        size = send(dump, process)
    finish(process, "restore")
    print(f"{file}: {size_text(size)} restored into the database of stack {name}")
    return 0
