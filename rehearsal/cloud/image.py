"""Base images: operating systems that look to a program like Alibaba Cloud's, including root login by key.

    mmdebstrap ─▶ rootfs (packages, trust and clients of the host) ─▶ squashfs ┐
    metadata.yaml with templates that hand over user data and keys ───────────┴▶ image in LXD

Each image is built once per recipe and host configuration. A hash of both is in its alias, so checkouts of different
versions do not disturb each other. CACHE keeps what machines download.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from rehearsal.cloud import daemon, given_images, space, trust
from rehearsal.cloud.family import repository
from rehearsal.cloud.images import RECIPES, Recipe
from rehearsal.cloud.lock import host_lock
from rehearsal.cloud.lxd import Lxd
from rehearsal.cloud.store import project_of, projects
from rehearsal.engine.errors import RehearsalError, UserError

CACHE = Path("/var/cache/wsgi-ecs-rehearsal")
# Building takes several hundred MB, which /tmp may not have. tempfile makes the names in this folder.
_SCRATCH = Path("/var/tmp")  # noqa: S108
# Bytes for building: 250 MB of files, their packages and the image.
_BUILD = space.GIB // 2
# Bytes for building with a package repository: 1.5 GB of files and packages, of which 220 MB stay in the cache.
_FAMILY_BUILD = 2 * space.GIB
_ALIAS = "wsgi-ecs-rehearsal-"
# Days after which an unused image of another recipe, or an unused downloaded package, is deleted.
_KEEP = 14


@dataclass(frozen=True)
class BaseImage:
    """An image that LXD has. name: the operating system. os_name: as the cloud shows it. cache: see cache_folder.

    is_given: whether the user has taken it from an image server. replaced: texts of user data → what comes in their
    place on its machines.
    """

    name: str
    os_name: str
    alias: str
    cache: Path
    is_given: bool = False
    replaced: Mapping[str, str] = field(default_factory=dict)


def recipe_hash(recipe: Recipe, host: Mapping[str, str], packages: trust.Packages) -> str:
    """A hash of everything that the image is made from, 16 hex digits. Another hash makes another image."""
    parts = [asdict(recipe), dict(host), packages.sources, packages.options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def archives_folder() -> Path:
    """The host's folder of source archives."""
    return _readable(CACHE / "archives")


def cache_folder(name: str) -> Path:
    """The host's folder that the machines of an operating system see read-only as /var/cache/rehearsal."""
    folder = _readable(CACHE / name)
    for part in ("apt", "wheels"):
        _readable(folder / part)
    return folder


def _readable(folder: Path) -> Path:
    """Make a folder of the cache that everybody may read, because a machine's root has no privileges on the host."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (CACHE, folder):
        path.chmod(0o755)
    return folder


def ensure(name: str, say: Callable[[str], None]) -> BaseImage:
    """The image of an operating system that has a recipe, made unless LXD has it. Raises RehearsalError."""
    recipe = RECIPES[name]
    if given_images.origin(name):
        return BaseImage(name, recipe.os_name, f"{given_images.ALIAS}{name}", cache_folder(name), is_given=True)
    packages = trust.packages(recipe.suite)
    family = recipe.family
    host = trust.host_files(packages, direct=(family.mirror,) if family else ())
    version = recipe_hash(recipe, host, packages)
    alias = f"{_ALIAS}{name}-{version}"
    folder = cache_folder(name) / repository.FOLDER / version

    def is_there() -> bool:
        return bool(Lxd().find(f"/1.0/images/aliases/{alias}")) and (not family or repository.is_complete(folder))

    if not is_there():
        with host_lock("image"):
            if not is_there():
                _make(recipe, alias, folder, host, packages, say)
    if family is None:
        return BaseImage(name, recipe.os_name, alias, cache_folder(name))
    # Its age is that of its last use.
    os.utime(folder)
    return BaseImage(name, recipe.os_name, alias, cache_folder(name), replaced=family.replaced(folder))


def _make(
    recipe: Recipe,
    alias: str,
    folder: Path,
    host: Mapping[str, str],
    packages: trust.Packages,
    say: Callable[[str], None],
) -> None:
    needs, minutes = {_SCRATCH: _BUILD}, "about a minute"
    if recipe.family:
        needs, minutes = {_SCRATCH: _FAMILY_BUILD, CACHE: space.GIB // 4}, "about 2 minutes"
    space.check({**needs, daemon.current().folder / "images": _BUILD // 4})
    say(f"building the base image {recipe.name} (once, {minutes})")
    started = time.monotonic()
    # Remove what an interrupted build left; no other build runs, because this one holds the lock.
    for left in _SCRATCH.glob("wsgi-ecs-image-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="wsgi-ecs-image-", dir=_SCRATCH) as scratch:
        _build(recipe, Path(scratch), host, packages)
        if recipe.family:
            repository.finish(recipe.family, Path(scratch) / "rootfs", folder)
            # An older one was there, perhaps, that no image had any more.
            os.utime(folder)
        _pack(Path(scratch))
        _forget(alias)
        _import(recipe, Path(scratch), alias)
    _forget_old(alias)
    say(f"base image {recipe.name} is ready ({time.monotonic() - started:.0f} s)")


def _forget(alias: str) -> None:
    """Delete the image of a repository that is not there any more."""
    found = Lxd().find(f"/1.0/images/aliases/{alias}")
    if found:
        Lxd().delete(f"/1.0/images/{found['target']}")


def _forget_old(alias: str) -> None:
    oldest = time.time() - _KEEP * 86400
    lxd = Lxd()
    for image in lxd.get("/1.0/images", recursion="1"):
        names = [item["name"] for item in image["aliases"]]
        used = max(image["last_used_at"], image["uploaded_at"])
        stale = datetime.fromisoformat(used.split(".")[0].rstrip("Z") + "+00:00").timestamp() < oldest
        ours = [name for name in names if name.startswith(_ALIAS) and name != alias]
        if stale and ours and not any(name.startswith(given_images.ALIAS) for name in names):
            lxd.delete(f"/1.0/images/{image['fingerprint']}")
    for file in CACHE.rglob("*"):
        # A repository goes as a whole.
        if file.is_file() and repository.FOLDER not in file.parts and file.stat().st_mtime < oldest:
            file.unlink()
    used = _caches_of_machines()
    for folder in CACHE.glob(f"*/{repository.FOLDER}/*"):
        # A machine that is up may still install packages.
        if folder.stat().st_mtime < oldest and folder.parents[1] not in used:
            shutil.rmtree(folder)


def _caches_of_machines() -> set[Path]:
    """The folders of the cache that a machine of a rehearsal has."""
    found = set()
    for stack in projects():
        for instance in Lxd(project_of(stack)).get("/1.0/instances", recursion="1"):
            found.add(Path(instance["devices"].get("cache", {}).get("source", "")))
    return found


def _build(recipe: Recipe, scratch: Path, host: Mapping[str, str], packages: trust.Packages) -> None:
    overlay = scratch / "overlay"
    for path, text in {**recipe.files, **host}.items():
        target = overlay / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for folder in (overlay, *(path for path in overlay.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    rootfs = scratch / "rootfs"
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(recipe.include)}", "--quiet"]
    command += [f"--aptopt={option}" for option in packages.options]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.exclude]
    command += [f"--customize-hook=copy-in {overlay}/{name.name} /" for name in sorted(overlay.iterdir())]
    command += [f"--customize-hook=chroot \"$1\" sh -euc '{recipe.setup}'"]
    if recipe.family:
        # What the repository's packages are made of comes by these lists.
        command.append("--skip=cleanup/apt/lists")
    command += [recipe.suite, str(rootfs)]
    if packages.sources:
        sources = scratch / "host.list"
        sources.write_text(packages.sources)
        command.append(str(sources))
    try:
        _run(command, "mmdebstrap")
    except RehearsalError as error:
        raise UserError(f"no base image: mmdebstrap fails: {trust.reason(str(error))}; {trust.SOURCES}") from None


def _pack(scratch: Path) -> None:
    root = scratch / "rootfs"
    pack = ["mksquashfs", str(root), f"{root}.squashfs", "-noappend", "-quiet", "-no-progress"]
    _run([*pack, "-comp", "zstd", "-Xcompression-level", "3"], "mksquashfs")


def _import(recipe: Recipe, scratch: Path, alias: str) -> None:
    content = scratch / "metadata"
    (content / "templates").mkdir(parents=True)
    (content / "metadata.yaml").write_text(_metadata(recipe))
    for name, text in recipe.templates.items():
        (content / "templates" / name).write_text(text)
    archive = scratch / "metadata.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(content.iterdir()):
            tar.add(path, path.name)
    client = daemon.current().client
    command = [client, "image", "import", str(archive), str(scratch / "rootfs.squashfs"), "--alias", alias]
    _run(command, f"{client} image import")


def _metadata(recipe: Recipe) -> str:
    values = {
        "@created@": str(int(time.time())),
        "@architecture@": platform.machine(),
        "@suite@": recipe.suite,
        "@description@": f"{recipe.name} for rehearsals",
    }
    text = recipe.metadata
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
