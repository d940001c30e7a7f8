"""`destroy`: remove a stack's machines and everything that belongs to them."""

import time
from pathlib import Path

from rehearsal.cloud import daemon, group_bridge, keeper, machine, volume
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.keys import keys_of
from rehearsal.cloud.lock import stack_lock
from rehearsal.cloud.lxd import Lxd, reachable
from rehearsal.cloud.pebble import Pebble
from rehearsal.cloud.registry import PROVIDER
from rehearsal.cloud.store import load_state
from rehearsal.commands.show import Show
from rehearsal.engine.engine import Engine
from rehearsal.engine.errors import UserError


def destroy(root: Path, name: str, force: bool = False) -> int:
    """Remove a stack, whatever is left of it. force: delete protected resources, too. Returns the exit code."""
    started = time.monotonic()
    if not reachable():
        raise UserError(f"{daemon.name()} is not running, so no rehearsal is; ./rehearse setup starts it")
    show = Show()
    with stack_lock(name):
        state = load_state(name)
        # Another checkout may have made the stack.
        folders = {root, Path(state.folder or root)}
        keys = keys_of(root, name)
        keeper.stop(name)
        context = CloudContext(root, state, keys, {}, show.say)
        with show:
            Engine(context, PROVIDER, show).delete(state.records(), force)
            existed = state.exists
            _remove_unrecorded(context)
            state.delete()
            Pebble(name).close()
        for folder in folders:
            keys_of(folder, name).remove()
        show.line(show.summary() if existed else f"stack {name}: nothing to destroy")
        show.line(f"{time.monotonic() - started:.1f} s")
    return 0


def _remove_unrecorded(context: CloudContext) -> None:
    """Remove what no record knows of, such as the rest of a killed run."""
    for name in machine.names(context):
        machine.remove(context, name)
    group_bridge.remove_all(Lxd(), context.stack)
    volume.remove_all(Lxd(), context.stack)
