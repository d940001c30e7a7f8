"""What a preview says of the data of Redis: which update deletes them, and which one leaves them behind."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contract import paths
from contract.documents import HOST_FILE
from contract.resources import REDIS_MACHINE, machine_of
from operations.dump import amount_text
from rehearsal.cloud import tokens
from rehearsal.commands.foresee import Preview
from rehearsal.commands.machines import ssh_command
from rehearsal.commands.rendered_files import has_redis
from rehearsal.engine.compare import Op
from rehearsal.engine.errors import RehearsalError, UserError

# Number of files and bytes of the data, nothing where there is no Redis.
_AMOUNT = (
    f"[ ! -e {paths.REDIS_CONFIG} ] || "
    f"find {paths.REDIS_DATA} -type f -printf '%s\\n' | awk '{{sum += $1}} END {{print NR, sum + 0}}'"
)


def lost(root: Path, stack: str, preview: Preview) -> Iterator[str]:
    """A line for each server whose replacement or deletion deletes data of Redis, and for each that loses its Redis."""
    replaced = False
    for change in preview.changes:
        if change.record.type == tokens.INSTANCE and change.op in (Op.REPLACE, Op.DELETE):
            machine = machine_of(change.record.urn.split("::")[1] + f"-{stack}", change.record.name)
            replaced = replaced or not machine
            found = _amount(root, stack, machine or None)
            if found is None and machine == REDIS_MACHINE:
                found = "how much cannot be seen from here"
            if found:
                yield f"{change.record.name} takes the data of Redis with it ({found})"
    for rendered in preview.files:
        old, new = (_host(texts) for texts in (rendered.old, rendered.new))
        if not replaced and has_redis(old) and new and not has_redis(new):
            yield f"{rendered.title.split()[0]}: Redis goes when no site uses it; its data stay in {paths.REDIS_DATA}"


def _host(texts: Mapping[str, str] | None) -> dict[str, Any]:
    """host.json among the files of a server; empty where it is not."""
    return dict(json.loads(texts[HOST_FILE])) if texts and HOST_FILE in texts else {}


def _amount(root: Path, stack: str, machine: str | None) -> str | None:
    """What Redis has on a machine, in words; "" for no Redis, None for what cannot be seen."""
    try:
        command = [*ssh_command(root, stack, machine), "--", _AMOUNT]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, UserError, RehearsalError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    number, _, size = done.stdout.strip().partition(" ")
    return amount_text(size, number) if number not in ("", "0") else ""
