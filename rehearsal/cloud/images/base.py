"""What a base image is made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from rehearsal.cloud.family.repository import Family


@dataclass(frozen=True)
class Recipe:
    """Texts from which one base image is made. The image is made anew when a text changes.

    name: the operating system, as server.os has it. os_name: as the cloud shows it. suite: of Debian, from which
    mmdebstrap makes the root. include: packages of the suite. exclude: patterns of paths that are not unpacked.
    files: path → text. setup: shell script that runs in the root at the end; it must not contain single quotes.
    metadata, templates: of LXD; the metadata has the placeholders @architecture@, @created@, @suite@ and @description@.
    """

    name: str
    os_name: str
    suite: str
    include: list[str]
    exclude: list[str]
    files: Mapping[str, str]
    setup: str
    metadata: str
    templates: Mapping[str, str]
    family: Family | None = None
