"""Brings a release to the members of a scaling group: release.py roll FOLDER, on the release host.

what `up` sends ─▶ the tool into the store ─▶ a delivery ─▶ rolled out (release_host.py) ─▶ what nobody needs is removed

    <store>/<version>/           the store of the members that are made of the same (serving/store.py)
    <store>/<version>/tools/<id> a release tool, by which members take deliveries; whole as soon as it has this name
    <store>/<version>/tool       link to the newest of them

Python 3.6, standard library only.
"""

import hashlib
import json
import os
import subprocess
import tarfile
import time
from typing import Any, Dict, Type, TypeVar

import audit
import files
import lock
import release_host
import versions
from commands import ReleaseError, Say
from contract import paths
from contract.codec import decode
from contract.documents import HOST_FILE, RELEASE_FILE, TOOL_FOLDER, Host, Release
from contract.resources import HOST_PART, site_part
from contract.store_documents import ARCHIVE, SECRETS
from rollout import prune_archives
from store import Store, Unreadable, flush_folder
from unpacked import SEND_AGAIN, Unpacked, local, own_seconds

# An NFS client may follow a link as it was a minute ago, so the tools before the newest one stay for a while.
_TOOLS = 3
_MOUNT_SECONDS = 300.0

T = TypeVar("T")


def roll(folder: str, parts: Dict[str, Any], say: Say) -> None:
    """Bring a release to all members. folder: of the unpacked archive of what a member's sites share.

    parts: of standard input (inputs.py). Raises ReleaseError or OSError with the release before on the members.
    """
    if not parts:
        raise ReleaseError("nothing on standard input", then="run up again, which sends it")
    with audit.logged("roll"):
        try:
            _wait_for_mount(say)
            _roll(folder, parts, say)
        except Unreadable as error:
            raise ReleaseError(str(error), then="run up again when the shared file system answers") from error


def is_mounted(folder: str) -> bool:
    """Whether a file system is mounted there."""
    return subprocess.call(["mountpoint", "-q", folder]) == 0


def _wait_for_mount(say: Say) -> None:
    """Wait until the store is there: a release host that has just started may mount it still. Raises ReleaseError."""
    end, has_said = time.monotonic() + _MOUNT_SECONDS, False
    while not is_mounted(paths.STORE):
        if time.monotonic() > end:
            what = "the store is not mounted at {} after {:.0f} s".format(paths.STORE, _MOUNT_SECONDS)
            raise ReleaseError(what, then="systemctl status {} on the release host says why".format(paths.STORE_UNIT))
        if not has_said:
            say("waiting until the store is mounted at {}".format(paths.STORE))
            has_said = True
        time.sleep(1)


def _roll(folder: str, parts: Dict[str, Any], say: Say) -> None:
    root = os.path.join(paths.STORE, parts["version"])
    archives = {HOST_PART: folder.rstrip("/") + ARCHIVE}
    sent = {HOST_PART: parts["prepare"]}
    for site, identifier in parts["archives"].items():
        archives[site_part(site)] = os.path.join(os.path.dirname(folder), identifier + ARCHIVE)
        sent[site_part(site)] = parts["apply"][site]
    releases = {site: _document(Release, archives[site_part(site)], RELEASE_FILE) for site in parts["archives"]}
    host = _document(Host, archives[HOST_PART], HOST_FILE)
    seconds = lock.LOCK_SECONDS + sum(build.seconds for build in host.builds)
    seconds += sum(lock.LOCK_SECONDS + own_seconds(release) for release in releases.values())
    watched = versions.Watched(paths.STORE, parts["version"])
    with lock.acquire_lock(what="the release tool's way to the members"):
        place_tool(Unpacked(folder), Store(root))
    store = Store(root)
    release_host.release(
        store,
        # A pinned release serves in place of its archive.
        {site: parts["apply"][site].get("pin", identifier) for site, identifier in parts["archives"].items()},
        seconds,
        {part + ARCHIVE: path for part, path in archives.items()},
        # The same secrets are the same text.
        {part + SECRETS: json.dumps(secrets, sort_keys=True).encode() for part, secrets in sent.items()},
        parts["at_once"],
        max([release.keep for release in releases.values()] or [1]),
        say,
    )
    with lock.acquire_lock(what="tidying up the store"):
        prune_archives(os.path.basename(folder), *map(os.path.basename, archives.values()))
        watched.prune(say)


def _document(kind: Type[T], archive: str, name: str) -> T:
    """A document in an archive on this machine. Raises ReleaseError."""
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile(name)
            return decode(kind, member.read().decode() if member else "")
    except (OSError, ValueError, KeyError, tarfile.TarError) as error:
        raise ReleaseError("{} of {} cannot be read: {}".format(name, archive, error), then=SEND_AGAIN) from error


def place_tool(unpacked: Unpacked, store: Store) -> None:
    """Put the release tool into a store, at once for whoever starts it. Raises ReleaseError or OSError."""
    names = sorted(name for name in unpacked.files if name.startswith(TOOL_FOLDER))
    listed = [[name, unpacked.files[name][1]] for name in names]
    identifier = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]
    tools = os.path.join(store.folder, "tools")
    # All of the store is root's alone.
    os.makedirs(tools, mode=0o700, exist_ok=True)
    target = os.path.join(tools, identifier)
    if not os.path.isdir(target):
        draft = target + ".new"
        files.remove(draft)
        for name in names:
            path = os.path.join(draft, local(name[len(TOOL_FOLDER) :]))
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            store.place(path, unpacked.read(name))
        for folder, _, _ in os.walk(draft):
            flush_folder(folder)
        store.rename(draft, target)
    else:
        # The tools that were newest last stay.
        os.utime(target)
    link = os.path.join(store.folder, "tool")
    if not os.path.islink(link) or os.readlink(link) != os.path.join("tools", identifier):
        files.link(os.path.join("tools", identifier), link)
        flush_folder(store.folder)
    found = [os.path.join(tools, name) for name in os.listdir(tools)]
    for path in sorted(found, key=os.path.getmtime, reverse=True)[_TOOLS:]:
        files.remove(path)
