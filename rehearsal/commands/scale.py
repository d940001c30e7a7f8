"""`scale`: make or take machines of a stack's scaling group, as its rule would by the load."""

import time
from pathlib import Path

from rehearsal.cloud import scaling
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.keys import keys_of
from rehearsal.cloud.lock import stack_lock
from rehearsal.commands.machines import existing_state
from rehearsal.commands.owner import give_project_to_user
from rehearsal.commands.show import Show
from rehearsal.engine.errors import UserError


def scale(root: Path, name: str, count: int) -> int:
    """Let the stack's scaling group have so many machines. Returns the exit code. Raises as `up` does."""
    started, show = time.monotonic(), Show()
    existing_state(name)
    with stack_lock(name):
        context = CloudContext(root, existing_state(name), keys_of(root, name), {}, show.say)
        group = _group(context)
        fewest, most = group.limits
        if not fewest <= count <= most:
            raise UserError(
                f"scale {count}: stacks/Pulumi.{name}.yaml: topology.scaling has min {fewest} and max {most}; "
                f"allowed: {fewest} to {most}"
            )
        serves = group.serves()
        show.line(f"stack {name}: {len(group.members)} machines, {count} desired", "bold")
        group.want(count)
        new = group.settle()
        if serves:
            group.wait(new)
        elif new:
            show.line("no machine is healthy, so the new ones are not waited for; ./rehearse status shows the others")
        give_project_to_user(root)
    show.line(f"{count} machines, {time.monotonic() - started:.1f} s")
    return 0


def _group(context: CloudContext) -> scaling.Group:
    groups = [group for group in scaling.groups(context) if group.configurations]
    if not groups:
        raise UserError(f"stack {context.stack} has no scaling group; topology.scaling makes one at the next up")
    return groups[0]
