"""What takes the place on a disk that is full. Python 3.6, standard library only.

space.py      prints what takes the place on the disk that has the least left
"""

import errno
import glob
import os
import re
import sys
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple

import shared_data
from contract import paths

# Programs say so in their output: pip, tar, cp, SQLite.
_FULL = re.compile(r"No space left on device|Disk quota exceeded|database or disk is full")
# Only what is as large is worth a line.
_LARGE = 1 << 20
_LINES = 8


class Place(NamedTuple):
    """A disk that is mounted. name: as messages call it. path: a folder on it. setting: that makes it larger."""

    name: str
    path: str
    setting: str


def is_full(error: BaseException) -> bool:
    """Whether an error, or what the failed command printed, says that a disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    texts = (str(error), getattr(error, "lines", ""), getattr(error, "output", ""))
    return any(_FULL.search(text) for text in texts)


def advice(error: BaseException) -> Tuple[str, str]:
    """What takes the place on the disk that an error says is full, a line each; and what to do next."""
    place = _of_path(getattr(error, "filename", None) or "")
    return report(place), "free space on {}, or raise {}, and run up again".format(place.name, place.setting)


def report(place: Place) -> str:
    """The largest folders of this program's on a disk, a line each."""
    disk = measure(place)
    total, left = disk["size"], disk["free"]
    taken = [(used(path), what, path) for what, path in _folders() if _device(path) == _device(place.path)]
    first = "{} has {}, of which {} are left; the largest folders on it:"
    lines = [first.format(place.name, size_text(total), size_text(left))]
    for size, what, path in sorted(taken, reverse=True)[:_LINES]:
        if size >= _LARGE:
            lines.append("  {:>9}  {} ({})".format(size_text(size), what, path))
    return "\n".join(lines)


def measure(place: Place) -> Dict[str, Any]:
    """Name, size and free bytes of a disk, and a folder on it."""
    found = os.statvfs(place.path)
    size, left = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    return {"name": place.name, "path": place.path, "size": size, "free": left}


def places() -> List[Place]:
    """The disks of this machine that releases and data are on."""
    places = [Place("the server's disk", paths.ROOT, "server.disk_gib")]
    # A file system that machines share grows by itself, and who asks it may have to wait.
    if not shared_data.is_set() and os.path.isdir(paths.DATA) and _device(paths.DATA) != _device(paths.ROOT):
        # The sites' folder is only on their own disk.
        is_sites = os.path.isdir(paths.disk_sites())
        places.append(Place("the data disk", paths.DATA, "data.disk_gib" if is_sites else "mysql.disk_gib"))
    return places


def _of_path(path: str) -> Place:
    """The disk that a path is on, or the one with the least left if the path says nothing."""
    found = places()
    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    named = [place for place in found if path and _device(place.path) == _device(path)]
    return (named or sorted(found, key=lambda place: free(place.path)))[0]


def _folders() -> Iterator[Tuple[str, str]]:
    """Words and path of each folder that grows."""
    for site in sorted(os.listdir(paths.sites())) if os.path.isdir(paths.sites()) else []:
        if not shared_data.is_set():
            yield "data of site {}".format(site), os.path.realpath(paths.data(site))
        yield "releases of site {}".format(site), os.path.join(paths.site_root(site), "releases")
        yield "logs of site {}".format(site), paths.logs(site)
    if not shared_data.is_set():
        yield "data of removed sites", os.path.realpath(paths.removed())
    yield "virtual environments", paths.venvs()
    for folder in paths.BUILD_FOLDERS:
        for marker in glob.glob(os.path.join(folder, "*", "built.json")):
            yield "built from source", os.path.dirname(marker)
    yield "archives of releases", paths.incoming()
    yield "caches of builds", paths.BUILD_HOME
    yield "data of Redis", paths.REDIS_DATA


def _device(path: str) -> int:
    try:
        return os.stat(path).st_dev
    except OSError:
        return -1


def free(path: str) -> int:
    """Bytes that are left for users other than root on the disk of a path."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def used(folder: str) -> int:
    """Bytes that a folder takes on its disk; a file with several names counts once, and no link is followed."""
    total = 0
    seen: Set[Tuple[int, int]] = set()
    for here, names, others in os.walk(folder):
        for name in names + others:
            try:
                found = os.lstat(os.path.join(here, name))
            except OSError:
                continue
            if found.st_nlink == 1 or (found.st_dev, found.st_ino) not in seen:
                total += found.st_blocks * 512
                seen.add((found.st_dev, found.st_ino))
    return total


def size_text(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= factor:
            return "{:.1f} {}".format(size / factor, unit)
    return "{} KiB".format(size >> 10)


if __name__ == "__main__":
    tightest = _of_path("")
    print(report(tightest))
    sys.exit(0)
