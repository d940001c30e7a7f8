"""`setup`: make this host ready for rehearsals."""

from collections.abc import Callable, Sequence

from rehearsal.cloud import given_images, host, image
from rehearsal.cloud.images import RECIPES
from rehearsal.cloud.images.debian12 import DEBIAN12
from rehearsal.engine.errors import UserError


def setup(say: Callable[[str], None], systems: Sequence[str] = (), images: Sequence[str] = ()) -> None:
    """Install what is missing, start LXD, build base images. Raises UserError or RehearsalError.

    systems: operating systems whose base images are built; none: Debian 12. images: SYSTEM=REMOTE:NAME each, which
    machines of that operating system boot from now on.
    """
    for system in systems:
        if system not in RECIPES:
            raise UserError(f"setup: there is no base image of {system}; allowed: {', '.join(RECIPES)}")
    taken = [given_images.parsed(text) for text in images]
    host.prepare(say)
    for system, source in taken:
        given_images.take(system, source, say)
    for system in systems or ([] if taken else [DEBIAN12.name]):
        image.ensure(system, say)
