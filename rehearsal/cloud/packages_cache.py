"""Packages that a machine has downloaded or built are kept on the host for the next machines: .deb files and wheels."""

import io
import re
import tarfile
from pathlib import Path, PurePosixPath

from rehearsal.cloud.lxd import Lxd, LxdError

# List regular files only: links lead to packages that come from the cache. A wheel with native code, but for uWSGI's,
# may need libraries that the next machine lacks, and the cloud's server would have to build it.
_LIST = (
    "cd / && find var/cache/apt/archives -maxdepth 1 -type f -name '*.deb' 2>/dev/null;"
    " find var/lib/wsgi-build/.cache/pip/wheels root/.cache/pip/wheels -type f"
    " '(' -name '*-none-any.whl' -o -iname 'uwsgi-*.whl' ')' 2>/dev/null; true"
)

_KEPT = re.compile(r"(?i:uwsgi)-.*\.whl|.*-none-any\.whl")


def collect(lxd: Lxd, machine: str, cache: Path) -> int:
    """Copy what the cache lacks from a machine. Returns the number of files; 0 for a machine that does not answer."""
    try:
        paths = [PurePosixPath(line) for line in lxd.exec(machine, ["sh", "-c", _LIST]).splitlines() if line]
    except LxdError:
        return 0
    for wheel in (cache / "wheels").glob("*.whl"):
        # Earlier versions kept these.
        if not _KEPT.fullmatch(wheel.name):
            wheel.unlink(missing_ok=True)
    missing = [path for path in paths if not (cache / _folder(path) / path.name).exists()]
    if not missing:
        return 0
    content = lxd.exec_bytes(machine, ["tar", "-C", "/", "-cf", "-", *map(str, missing)])
    if content is None:
        return 0
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            data = archive.extractfile(member) if member.isfile() else None
            if data is None:
                continue
            path = PurePosixPath(member.name)
            target = cache / _folder(path) / path.name
            scratch = target.with_name(f".{target.name}.new")
            scratch.write_bytes(data.read())
            scratch.chmod(0o644)
            scratch.replace(target)
    return len(missing)


def _folder(path: PurePosixPath) -> str:
    return "apt" if path.suffix == ".deb" else "wheels"
