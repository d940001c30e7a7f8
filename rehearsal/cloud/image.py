"""The base image: a Debian 12 that looks to a program like Alibaba Cloud's, including root login by key.

    mmdebstrap ─▶ rootfs (packages, trust and clients of the host) ─▶ squashfs ┐
    metadata.yaml with templates that hand over user data and keys ───────────┴▶ image in LXD

It is built once per recipe and host configuration. A hash of both is in its alias, so checkouts of different versions
do not disturb each other. CACHE keeps what machines download.
"""

import hashlib
import json
import platform
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from rehearsal.cloud import space, trust
from rehearsal.cloud.image_files import EXCLUDE, INCLUDE, METADATA, ROOT_FILES, SETUP, TEMPLATES
from rehearsal.cloud.lock import host_lock
from rehearsal.cloud.lxd import CLI, Lxd, data_folder
from rehearsal.engine.errors import RehearsalError, UserError

CACHE = Path("/var/cache/wsgi-ecs-rehearsal/debian12")
# Building takes several hundred MB, which /tmp may not have. tempfile makes the names in this folder.
_SCRATCH = Path("/var/tmp")  # noqa: S108
# Bytes for building: 250 MB of files, their packages and the image.
_BUILD = space.GIB // 2
_ALIAS = "wsgi-ecs-rehearsal-debian12-"
# Days after which an unused image of another recipe, or an unused downloaded package, is deleted.
_KEEP = 14
SUITE = "bookworm"


def recipe_hash(host: Mapping[str, str], packages: trust.Packages) -> str:
    """A hash of everything that the image is made from, 16 hex digits. Another hash makes another image."""
    parts = [
        SUITE,
        INCLUDE,
        EXCLUDE,
        ROOT_FILES,
        SETUP,
        METADATA,
        TEMPLATES,
        dict(host),
        packages.sources,
        packages.options,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """The host's folder that machines see read-only as /var/cache/rehearsal."""
    for part in ("apt", "wheels", "archives"):
        (CACHE / part).mkdir(parents=True, exist_ok=True)
    for folder in (CACHE.parent, CACHE, *CACHE.iterdir()):
        # Let everybody read, because a machine's root has no privileges on the host.
        folder.chmod(0o755)
    return CACHE


def ensure(say: Callable[[str], None]) -> str:
    """Make the image unless LXD has it. Returns its alias. Raises RehearsalError."""
    packages = trust.packages(SUITE)
    host = trust.host_files(packages)
    alias = _ALIAS + recipe_hash(host, packages)
    lxd = Lxd()
    if lxd.find(f"/1.0/images/aliases/{alias}"):
        return alias
    with host_lock("image"):
        if not lxd.find(f"/1.0/images/aliases/{alias}"):
            _make(alias, host, packages, say)
    return alias


def _make(alias: str, host: Mapping[str, str], packages: trust.Packages, say: Callable[[str], None]) -> None:
    space.check({_SCRATCH: _BUILD, data_folder() / "images": _BUILD // 4})
    say("building the base image debian12 (once, about a minute)")
    started = time.monotonic()
    # Remove what an interrupted build left; no other build runs, because this one holds the lock.
    for left in _SCRATCH.glob("wsgi-ecs-image-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="wsgi-ecs-image-", dir=_SCRATCH) as scratch:
        _build(Path(scratch), host, packages)
        _import(Path(scratch), alias)
    _forget_old(alias)
    say(f"base image debian12 is ready ({time.monotonic() - started:.0f} s)")


def _forget_old(alias: str) -> None:
    oldest = time.time() - _KEEP * 86400
    lxd = Lxd()
    for image in lxd.get("/1.0/images", recursion="1"):
        names = [item["name"] for item in image["aliases"]]
        used = max(image["last_used_at"], image["uploaded_at"])
        stale = datetime.fromisoformat(used.split(".")[0].rstrip("Z") + "+00:00").timestamp() < oldest
        if stale and any(name.startswith(_ALIAS) and name != alias for name in names):
            lxd.delete(f"/1.0/images/{image['fingerprint']}")
    for file in cache_folder().glob("*/*"):
        if file.stat().st_mtime < oldest:
            file.unlink()


def _build(scratch: Path, host: Mapping[str, str], packages: trust.Packages) -> None:
    overlay = scratch / "overlay"
    for path, text in {**ROOT_FILES, **host}.items():
        target = overlay / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for folder in (overlay, *(path for path in overlay.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    rootfs = scratch / "rootfs"
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(INCLUDE)}", "--quiet"]
    command += [f"--aptopt={option}" for option in packages.options]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDE]
    command += [f"--customize-hook=copy-in {overlay}/{name.name} /" for name in sorted(overlay.iterdir())]
    command += [f"--customize-hook=chroot \"$1\" sh -euc '{SETUP}'"]
    command += [SUITE, str(rootfs)]
    if packages.sources:
        sources = scratch / "host.list"
        sources.write_text(packages.sources)
        command.append(str(sources))
    try:
        _run(command, "mmdebstrap")
    except RehearsalError as error:
        raise UserError(f"no base image: mmdebstrap fails: {trust.reason(str(error))}; {trust.SOURCES}") from None
    pack = ["mksquashfs", str(rootfs), str(scratch / "rootfs.squashfs"), "-noappend", "-quiet", "-no-progress"]
    _run([*pack, "-comp", "zstd", "-Xcompression-level", "3"], "mksquashfs")


def _import(scratch: Path, alias: str) -> None:
    content = scratch / "metadata"
    (content / "templates").mkdir(parents=True)
    (content / "metadata.yaml").write_text(_metadata())
    for name, text in TEMPLATES.items():
        (content / "templates" / name).write_text(text)
    archive = scratch / "metadata.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(content.iterdir()):
            tar.add(path, path.name)
    command = [CLI, "image", "import", str(archive), str(scratch / "rootfs.squashfs"), "--alias", alias]
    _run(command, f"{CLI} image import")


def _metadata() -> str:
    values = {"@created@": str(int(time.time())), "@architecture@": platform.machine()}
    text = METADATA
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise RehearsalError(f"{what} took more than 15 minutes") from None
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise RehearsalError(f"{what} exited {done.returncode} while building the base image:\n{last}")
