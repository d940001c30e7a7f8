"""`backup`: write a dump of a stack's database into a local file."""

import subprocess

from operations.dump import check_dump, copy, database_command, database_machine, finish, pipe, size_text
from operations.local_files import check_new, new_file
from operations.machines import Stack


def backup(stack: Stack, file: str, nightly: str | None = None) -> int:
    """Write a dump that only its owner can read. Returns the exit code.

    nightly: name of a dump that the machine has, in place of a new one. Raises UserError or OperationError.
    """
    check_new(file, f"{stack.name}-2.sql.gz")
    machine = database_machine(stack)
    command = database_command(machine, "dump", nightly)
    with new_file(file) as (draft, out):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        size = copy(pipe(process.stdout), out, "dumped")
        finish(process, "backup", machine)
        check_dump(draft, file)
    print(f"{file}: {size_text(size)}, the database of stack {stack.name}")
    return 0
