"""Archives of programs that are built from source, taken from this host's package registries where they have them."""

from pathlib import Path

from rehearsal.cloud import source_archives
from rehearsal.commands import overlay
from rehearsal.engine.stack import Stack


def replace_urls(stack: Stack, cache: Path, download: bool = True) -> tuple[Stack, list[str]]:
    """Replace URLs of archives by files of `cache` with the stack's checksum. Returns the stack, and a line for each.

    download: ask the registries for archives that the cache does not have.
    """
    notes = []
    for archive in overlay.source_archives(stack):
        program, registry = archive.program, source_archives.registry_of(archive.program)
        where = source_archives.find(cache, program, archive.version, archive.sha256, download)
        if where:
            stack = overlay.with_archive(stack, archive, cache / archive.sha256)
            notes.append(f"{program}.archive: taken from {where}, the same checksum")
        elif download:
            notes.append(f"{program}.archive: not in {registry}, so the machine downloads it")
        else:
            notes.append(f"{program}.archive: not in the rehearsal's cache, so up looks for it in {registry}")
    return stack, notes
