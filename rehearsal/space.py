"""Room on this host's disks, held against what a run takes, before anything is made."""

import os
from collections.abc import Mapping
from pathlib import Path

from rehearsal.errors import UserError

GIB = 2**30
# Measured: a machine with its site takes 0.75 GB, what is built from source or a database some more.
MACHINE = GIB
# A machine's packages and wheels, some 100 MB a stack.
CACHE = GIB // 4
# Releases, keys and the program's own files.
CHECKOUT = GIB // 16


def check(needs: Mapping[Path, int]) -> None:
    """Refuse folders on whose file system too little is free. needs: folder → bytes. Raises UserError."""
    wanted: dict[int, tuple[Path, int]] = {}
    for folder, size in needs.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        shown, sum_ = wanted.get(there.stat().st_dev, (there, 0))
        wanted[there.stat().st_dev] = shown, sum_ + size
    for folder, size in wanted.values():
        found = os.statvfs(folder)
        free = found.f_bavail * found.f_frsize
        # One without any blocks has no limit, or does not tell it.
        if found.f_blocks and free < size:
            raise UserError(
                f"{folder}: {free / GIB:.2f} GiB free, and this takes {size / GIB:.2f} GiB there; "
                "make room and run the same again"
            )
