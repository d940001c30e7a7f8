"""What a preview says of the data of sites: which update deletes or moves them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

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
    server_rule,
)
from operations.dump import amount_text
from rehearsal.cloud import tokens
from rehearsal.commands.foresee import Preview
from rehearsal.commands.machines import ssh_command
from rehearsal.engine.compare import Op
from rehearsal.engine.errors import RehearsalError, UserError

# Site, number of files and bytes of each data folder, a line each.
_AMOUNTS = (
    f"cd {paths.sites()} && for site in *; do [ ! -d $site/data ] || "
    "find $site/data/ -type f -printf '%s\\n' | awk -v site=$site '{sum += $1} END {print site, NR, sum + 0}'; done"
)


def lost(root: Path, stack: str, preview: Preview) -> Iterator[str]:
    """A line for each server whose sites lose their data by the update, or have their data moved."""
    store = next((each.op for each in preview.changes if each.record.type == tokens.NAS_FILE_SYSTEM), None)
    rules = [each.record.name for each in preview.changes if each.record.type == tokens.NAS_ACCESS_RULE]
    servers: dict[str, dict[str, Op]] = {}
    for change in preview.changes:
        if change.record.type == tokens.INSTANCE:
            servers.setdefault(server_of_instance(change.record.name), {})[change.record.type] = change.op
        elif change.record.type == tokens.DISK and (server := server_of_disk(change.record.name)):
            servers.setdefault(server, {})[change.record.type] = change.op
    deployment = next((change.record.urn.split("::")[1] + f"-{stack}" for change in preview.changes), "")
    for server, ops in servers.items():
        machine = machine_of(deployment, server)
        if store and server_rule(server) in rules:
            fate = _fate_of_shared(server, ops.get(tokens.INSTANCE), store, stack)
        else:
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


def _fate_of_shared(server: str, instance: Op | None, store: Op, stack: str) -> str:
    """The same where the data are in a file system that machines share, or are to be. store: of the file system."""
    stays, still = instance in (Op.SAME, Op.UPDATE), "each site stands still while its data are copied"
    if stays and store is Op.CREATE:
        return f"{server} moves {{}} to the file system that machines share; {still}"
    if stays and store is Op.DELETE:
        return f"{server} moves {{}} to its own disk before the shared file system is deleted; {still}"
    is_gone = instance in (Op.REPLACE, Op.DELETE) and store is Op.CREATE
    if not is_gone and store in (Op.SAME, Op.UPDATE, Op.CREATE):
        return ""
    gone = instance_resource(server) if is_gone else "the shared file system"
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
