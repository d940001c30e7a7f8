"""`backup --site` and `restore --site`: a site's data folder as a local file."""

import re
import subprocess
from typing import IO

from contract import paths
from contract.resources import SHARED_DATA
from operations.dump import copy, finish, pipe, send, size_text
from operations.errors import UserError
from operations.local_files import check_new, local_path, new_file
from operations.machines import Machine, Stack
from schema.base import printable


def _machine(stack: Stack, site: str, name: str | None) -> Machine:
    """The machine whose data are meant: each app server has its own, or all have the same. Raises UserError."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", site):
        raise UserError(f"--site {printable(site)}: allowed: the name of a site, such as app")
    stack.check_site(site)
    names = [machine.name for machine in stack.machines if machine.runs_application]
    if name is None and len(names) > 1 and not stack.outputs.get(SHARED_DATA):
        raise UserError(f"each app server has data of its own; allowed: --machine with one of {', '.join(names)}")
    return stack.machine(name or next(iter(names), None))


def _process(machine: Machine, verb: str, site: str, stdin: int, stdout: int) -> "subprocess.Popen[bytes]":
    """The process of ssh that runs the release tool's module."""
    tool = f"/usr/bin/python3 -B {paths.host_root()}/current/tool/data_archive.py {verb} {site}"
    command = [*machine.way.command(), "--", tool]
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True)


def backup(stack: Stack, site: str, machine: str | None, file: str) -> int:
    """Write an archive that only its owner can read. Returns the exit code. Raises UserError or OperationError."""
    found = _machine(stack, site, machine)
    check_new(file, f"{site}-2.tar.gz")
    with new_file(file) as (_, out):
        process = _process(found, "save", site, subprocess.DEVNULL, subprocess.PIPE)
        size = copy(pipe(process.stdout), out, "saved")
        finish(process, "backup", found)
    print(f"{file}: {size_text(size)}, the data of site {site} of stack {stack.name}")
    return 0


def restore(stack: Stack, site: str, machine: str | None, file: str) -> int:
    """Replace a site's data. Returns the exit code. Raises UserError or OperationError."""
    found = _machine(stack, site, machine)
    try:
        archive: IO[bytes] = local_path(file).open("rb")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; allowed: what backup --site wrote") from None
    with archive:
        process = _process(found, "load", site, subprocess.PIPE, subprocess.DEVNULL)
        size = send(archive, process)
    finish(process, "restore", found)
    print(f"{file}: {size_text(size)} restored into the data of site {site} of stack {stack.name}")
    return 0
