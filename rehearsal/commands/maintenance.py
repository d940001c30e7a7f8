"""Which sites of a rehearsed stack are in maintenance."""

from pathlib import Path

from operations import status
from rehearsal.commands.machines import rehearsed
from rehearsal.engine.errors import UserError


def closed_sites(root: Path, stack: str) -> dict[str, str]:
    """Site → since when it is in maintenance; without the sites that are open. root: the project."""
    try:
        front = rehearsed(root, stack).machines[0]
    except UserError:
        # There is no machine, or no key, which another line says.
        return {}
    return {site["name"]: status.since(site) for site in status.sites(front) if site["maintenance"]}


def closes(closed: dict[str, str], outputs: dict[str, object]) -> bool:
    """Whether the site of the stack's URL is closed. closed: as closed_sites() returns it."""
    urls = outputs.get("urls")
    if not isinstance(urls, dict):
        return bool(closed)
    return any(urls.get(name) == outputs["url"] for name in closed)
