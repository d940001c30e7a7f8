"""Images that the user takes from an image server in place of the rehearsal's own base images.

An alias in LXD names the image, and the alias's description says where the image came from.
"""

import re
import subprocess
from collections.abc import Callable

from rehearsal.cloud import daemon
from rehearsal.cloud.images import RECIPES
from rehearsal.cloud.lxd import Lxd, LxdError, reachable
from rehearsal.engine.errors import UserError

ALIAS = "wsgi-ecs-given-"
_ALIASES = "/1.0/images/aliases"
# The property of an image that `take` has copied to this host. Any other image is the user's own.
_COPY = "wsgi-ecs.copy"


def origin(system: str) -> str | None:
    """REMOTE:NAME of the image that an operating system boots; None for the rehearsal's own, or without LXD."""
    try:
        found = Lxd().find(f"{_ALIASES}/{ALIAS}{system}")
    except (LxdError, OSError):
        return None
    return found["description"] if found else None


def is_known() -> bool:
    """Whether `origin` is certain: not where LXD keeps its images and does not answer this user."""
    return daemon.installed() is None or reachable()


def parsed(text: str) -> tuple[str, str]:
    """`SYSTEM=REMOTE:NAME` → system and REMOTE:NAME, which is empty for the rehearsal's own. Raises UserError."""
    system, _, source = text.partition("=")
    if system not in RECIPES or not re.fullmatch(r"[^=]+=([A-Za-z0-9][\w.-]*:[A-Za-z0-9][\w./-]*)?", text, re.ASCII):
        client = daemon.current().client
        raise UserError(
            f"--image {text!r}: allowed: SYSTEM=REMOTE:NAME, or SYSTEM= for the rehearsal's own image; SYSTEM is "
            f"{', '.join(RECIPES)}, and `{client} remote list` shows the remotes"
        )
    return system, source


def take(system: str, source: str, say: Callable[[str], None]) -> None:
    """Let machines of an operating system boot REMOTE:NAME; "" for the rehearsal's own. Raises UserError."""
    lxd, alias = Lxd(), f"{ALIAS}{system}"
    before = lxd.find(f"{_ALIASES}/{alias}")
    after = _copied(lxd, source) if source else ""
    if before:
        lxd.delete(f"{_ALIASES}/{alias}")
        if before["target"] != after:
            _forget(lxd, before["target"])
    if after:
        lxd.post(_ALIASES, {"name": alias, "target": after, "description": source})
    say(f"new machines of {system} boot {source or 'the base image of the rehearsal'}")


def _copied(lxd: Lxd, source: str) -> str:
    """Copy an image of a remote to this host. Returns its fingerprint. Raises UserError."""
    client = daemon.current().client
    text = _run([client, "image", "info", source], source)
    found = re.search(r"^Fingerprint: ([0-9a-f]{64})$", text, re.MULTILINE)
    if not found:
        raise UserError(f"--image {source}: `{client} image info {source}` names no fingerprint")
    # A copy has the fingerprint of its original, so an image of this host needs no copy.
    if lxd.find(f"/1.0/images/{found[1]}") is None:
        _run([client, "image", "copy", source, "local:"], source)
        # Its other properties stay.
        lxd.patch(f"/1.0/images/{found[1]}", {"properties": {_COPY: "true"}})
    return found[1]


def _forget(lxd: Lxd, fingerprint: str) -> None:
    """Delete an image that `take` has copied and that has no name any more."""
    image = lxd.get(f"/1.0/images/{fingerprint}")
    if _COPY in image["properties"] and not image["aliases"]:
        lxd.delete(f"/1.0/images/{fingerprint}")


def _run(command: list[str], source: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason"]
        shown = f"`{command[0]} remote list` shows the remotes, and `{command[0]} image list REMOTE:` their images"
        raise UserError(f"--image {source}: {lines[-1]}; {shown}")
    return done.stdout
