"""`restore`: read a dump back into a stack's database."""

import subprocess

from operations.dump import check_dump, database_command, database_machine, finish, send, size_text
from operations.local_files import local_path
from operations.machines import Stack


def restore(stack: Stack, file: str) -> int:
    """Replace tables by those of the same name in the dump. Returns the exit code.

    Raises UserError or OperationError.
    """
    path = local_path(file)
    check_dump(path, file)
    machine = database_machine(stack)
    command = database_command(machine, "load")
    with path.open("rb") as dump:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        size = send(dump, process)
    finish(process, "restore", machine)
    print(f"{file}: {size_text(size)} restored into the database of stack {stack.name}")
    return 0


def restore_nightly(stack: Stack, nightly: str) -> int:
    """Do the same with a dump that the machine has, by its name. Returns the exit code."""
    machine = database_machine(stack)
    process = subprocess.Popen(
        database_command(machine, "load", nightly),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    finish(process, "restore", machine)
    print(f"nightly dump {nightly} restored into the database of stack {stack.name}")
    return 0
