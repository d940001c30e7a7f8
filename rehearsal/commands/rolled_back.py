"""What an update means for a site on which a rolled-back release serves, or a pinned one."""

from collections.abc import Iterator
from pathlib import Path

from contract.resources import site_of
from operations import status
from operations.machines import Machine
from rehearsal.cloud import tokens
from rehearsal.cloud.lxd import reachable
from rehearsal.commands.foresee import Preview
from rehearsal.commands.machines import rehearsed
from rehearsal.engine.compare import Op
from rehearsal.engine.errors import UserError
from rehearsal.engine.state import State


def notes(root: Path, state: State, preview: Preview) -> Iterator[str]:
    """A line for each site on which a rolled-back release serves. root: the project."""
    try:
        front = rehearsed(root, state.stack).machines[0] if state.exists and reachable() else None
    except UserError:
        return
    if front is None:
        return
    changed = {site_of(change.record.name) for change in preview.changes if _is_applied(change.op, change.record.type)}
    for site, release, applied in _rolled_back(front):
        if site in changed:
            yield f"site {site}: the update takes the place of release {release}, to which it was rolled back"
        else:
            yield (
                f"site {site}: release {release} goes on serving, to which it was rolled back from {applied}, because "
                "nothing of the site has changed; a greater release.generation releases it again"
            )


def _is_applied(op: Op, type_: str) -> bool:
    return type_ == tokens.COMMAND and op not in (Op.SAME, Op.DELETE)


def _rolled_back(machine: Machine) -> list[tuple[str, str, str]]:
    """Site, release and the release that was applied last, of each site that was rolled back."""
    found = status.sites(machine)
    return [(site["name"], site["release"], site["rolled_back"]) for site in found if site.get("rolled_back")]
