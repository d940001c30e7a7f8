"""`setup`: make this host ready for rehearsals."""

from collections.abc import Callable

from rehearsal.cloud import host, image


def setup(say: Callable[[str], None]) -> None:
    """Install what is missing, start LXD, build the base image. Raises UserError or RehearsalError."""
    host.prepare(say)
    image.ensure(say)
