"""`backup --site` and `restore --site`: a site's data folder as a local file."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from contract import paths
from contract.resources import (
    DATABASE_MACHINE,
    REDIS_MACHINE,
    data_name,
    disk_resource,
    instance_resource,
    machine_of,
    server_of_disk,
    server_of_instance,
)
from rehearsal.cloud import tokens
from rehearsal.commands.dump import amount_text, copy, finish, local_path, pipe, send, size_text
from rehearsal.commands.foresee import Preview
from rehearsal.commands.machines import ssh_command
from rehearsal.commands.owner import give_to_user
from rehearsal.engine.compare import Op
from rehearsal.engine.errors import RehearsalError, UserError


def _process(
    root: Path, stack: str, machine: str | None, verb: str, site: str, stdin: int, stdout: int
) -> "subprocess.Popen[bytes]":
    """The process of ssh that runs the release tool's module. Raises UserError."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", site):
        raise UserError(f"--site {site!r}: allowed: the name of a site, such as app")
    tool = f"/usr/bin/python3 -B {paths.host_root()}/current/tool/data_archive.py {verb} {site}"
    command = [*ssh_command(root, stack, machine), "--", tool]
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True)


# Site, number of files and bytes of each data folder, a line each.
_AMOUNTS = (
    f"cd {paths.sites()} && for site in *; do [ ! -d $site/data ] || "
    "find $site/data/ -type f -printf '%s\\n' | awk -v site=$site '{sum += $1} END {print site, NR, sum + 0}'; done"
)


def lost(root: Path, stack: str, preview: Preview) -> Iterator[str]:
    """A line for each server whose sites lose their data by the update, or have their data moved."""
    servers: dict[str, dict[str, Op]] = {}
    for change in preview.changes:
        if change.record.type == tokens.INSTANCE:
            servers.setdefault(server_of_instance(change.record.name), {})[change.record.type] = change.op
        elif change.record.type == tokens.DISK and (server := server_of_disk(change.record.name)):
            servers.setdefault(server, {})[change.record.type] = change.op
    deployment = next((change.record.urn.split("::")[1] + f"-{stack}" for change in preview.changes), "")
    for server, ops in servers.items():
        machine = machine_of(deployment, server)
        fate = _fate(server, ops.get(tokens.INSTANCE), ops.get(tokens.DISK), stack)
        if not fate or machine in (DATABASE_MACHINE, REDIS_MACHINE):
            continue
        if amounts := _amounts(root, stack, machine or None):
            yield fate.format(f"the data of its sites ({amounts})")


def _fate(server: str, instance: Op | None, disk: Op | None, stack: str) -> str:
    """What becomes of the data of a server's sites, with {} in place of them; "" if they stay where they are.

    disk: of its data disk, None without one.
    """
    stays, still = instance in (Op.SAME, Op.UPDATE), "each site stands still while its data are copied"
    if stays and disk is Op.CREATE:
        return f"{server} moves {{}} to its new data disk; {still}"
    if stays and disk is Op.DELETE:
        return f"{server} moves {{}} to its own disk before its data disk is deleted; {still}"
    if disk in (Op.REPLACE, Op.DELETE):
        gone = disk_resource(data_name(server))
    elif instance in (Op.REPLACE, Op.DELETE) and disk in (None, Op.CREATE):
        gone = instance_resource(server)
    else:
        return ""
    return f"{gone} takes {{}} with it; ./rehearse backup --stack {stack} --site SITE FILE copies it"


def _amounts(root: Path, stack: str, machine: str | None) -> str:
    """What each site has on a machine, in words; "" for nothing."""
    try:
        command = [*ssh_command(root, stack, machine), "--", _AMOUNTS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        rows = [line.split() for line in done.stdout.splitlines()] if done.returncode == 0 else None
    except (OSError, UserError, RehearsalError, subprocess.TimeoutExpired):
        rows = None
    if rows is None:
        return "how much cannot be seen from here"
    return ", ".join(f"{site}: {amount_text(size, number)}" for site, number, size in rows if number != "0")


def backup(root: Path, stack: str, site: str, machine: str | None, file: str) -> int:
    """Write an archive that only its owner can read. Returns the exit code. Raises UserError or RehearsalError."""
    path = local_path(file)
    if path.exists():
        raise UserError(f"{file}: the file is there already; allowed: a new file, such as {site}-2.tar.gz")
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            give_to_user(draft)
            process = _process(root, stack, machine, "save", site, subprocess.DEVNULL, subprocess.PIPE)
            size = copy(pipe(process.stdout), out, "saved")
        finish(process, "backup")
        draft.rename(path)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; allowed: a file in a folder that can be written") from None
    finally:
        draft.unlink(missing_ok=True)
    print(f"{file}: {size_text(size)}, the data of site {site} of stack {stack}")
    return 0


def restore(root: Path, stack: str, site: str, machine: str | None, file: str) -> int:
    """Replace a site's data. Returns the exit code. Raises UserError or RehearsalError."""
    try:
        archive: IO[bytes] = local_path(file).open("rb")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; allowed: what ./rehearse backup --site wrote") from None
    with archive:
        process = _process(root, stack, machine, "load", site, subprocess.PIPE, subprocess.DEVNULL)
        size = send(archive, process)
    finish(process, "restore")
    print(f"{file}: {size_text(size)} restored into the data of site {site} of stack {stack}")
    return 0
