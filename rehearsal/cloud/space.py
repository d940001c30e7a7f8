"""Free space on this host's disks, which is checked before anything is made."""

import os
from collections.abc import Mapping
from pathlib import Path

from rehearsal.engine.errors import UserError

GIB = 2**30
# Measured: a machine with its site needs 0.75 GB; a program built from source, or a database, needs some more.
MACHINE = GIB
# Packages and wheels of machines, about 100 MB for each stack.
CACHE = GIB // 4
# Releases, keys and the program's own files.
CHECKOUT = GIB // 16


def check(needs: Mapping[Path, int]) -> None:
    """Refuse a file system with too little free space. needs: folder → bytes. Raises UserError."""
    sums: dict[int, tuple[Path, int]] = {}
    for folder, size in needs.items():
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        device = existing.stat().st_dev
        shown, bytes_ = sums.get(device, (existing, 0))
        sums[device] = shown, bytes_ + size
    for folder, size in sums.values():
        found = os.statvfs(folder)
        free = found.f_bavail * found.f_frsize
        # A file system without blocks has no limit, or does not report one.
        if found.f_blocks and free < size:
            raise UserError(
                f"{folder}: {free / GIB:.2f} GiB free, and this takes {size / GIB:.2f} GiB there; "
                "make room and run the same again"
            )
