"""Where the sites' data folders are: on the server's own disk, or in a store that outlives the server.

    /srv/wsgi-ecs/sites/<site>/data → /srv/data/sites/<site>      with a store: links of root's
    /srv/wsgi-ecs/removed           → /srv/data/removed

A store is a data disk, or a file system that machines share. A stack that gets a store, or gives it up, has its data
moved: copied first, exchanged then, while the site stands
still. A run that is killed in between leaves the old data in place. Python 3.6, standard library only.
"""

import contextlib
import errno
import os
import pwd
import subprocess
from typing import ContextManager, Iterator, List, NamedTuple

import data
import disk
import files
import shared_data
import space
from commands import ReleaseError, Say
from contract import paths
from contract.documents import Host
from pause import paused


class _Store(NamedTuple):
    """What has the data. name, where: in messages. setting: that asks for it, and that makes it larger."""

    name: str
    where: str
    setting: str


_DISK = _Store("the data disk", "on the data disk", "data.disk_gib")
_SHARED = _Store("the shared data", "in the file system that machines share", "data.shared")
# Ends of the names of a copy that is not whole yet, and of a folder that its copy has replaced.
_DRAFT, _OLD = ".moving", ".moved"
# Bytes that stay free on the disk to which data are moved.
_RESERVE = 64 << 20


def place(host: Host, say: Say, address: str = "") -> List[str]:
    """Have the data of all sites where the settings say. Raises ReleaseError or OSError with the data as they were.

    address: of the file system that machines share. Returns the paths of what was written for it.
    """
    written: List[str] = []
    if host.disk_gib or host.shared:
        _check_store(host)
        if host.shared:
            written = shared_data.mount(host.shared, address, say)
        else:
            disk.mount(say)
        store = _SHARED if host.shared else _DISK
        for folder, mode in ((paths.disk_sites(), 0o755), (paths.disk_removed(), 0o700)):
            if not os.path.isdir(folder):
                os.mkdir(folder)
            files.own(folder, "root", mode)
        for name in files.site_names():
            _to_store(_Move(name), store, say)
        _to_store(_Removed(), store, say)
        if not os.path.lexists(paths.removed()):
            os.symlink(paths.disk_removed(), paths.removed())
        if not (host.shared and host.shared.is_several):
            # Another machine may have a site that this one has not.
            _keep_unnamed(host)
        return written
    store = _SHARED if shared_data.is_set() else _DISK
    moves = [move for move in [*map(_Move, files.site_names()), _Removed()] if move.is_in_store]
    if moves:
        # Without any, the file system may never have been mounted, and is given up.
        shared_data.check()
    for move in moves:
        _to_server(move, store, say)
    if store is _SHARED:
        shared_data.unmount(say)
    elif moves:
        disk.unmount(say)
    return written


def _check_store(host: Host) -> None:
    """Refuse to take one store for the other: both are mounted on the same folder."""
    old = _DISK if host.shared else _SHARED
    if disk.is_set() if host.shared else shared_data.is_set():
        raise ReleaseError(
            "the data are {}, which leaves this machine after this run".format(old.where),
            then="run up without data.disk_gib and data.shared first, which moves the data to the server's own disk",
        )


class _Move:
    """The data of a site. here: where they are looked for. there: where they are in a store."""

    def __init__(self, site: str) -> None:
        self.site, self.what = site, "the data of site {}".format(site)
        self.here, self.there = paths.data(site), paths.disk_data(site)

    @property
    def is_in_store(self) -> bool:
        """Whether the data are in a store, even if a killed run has removed the link to them."""
        return os.path.islink(self.here) or (not os.path.lexists(self.here) and os.path.isdir(self.there))

    def standstill(self) -> ContextManager[object]:
        return paused(self.site)


class _Removed(_Move):
    """The data of removed sites, which only root can reach."""

    def __init__(self) -> None:
        self.what = "the data of removed sites"
        self.here, self.there = paths.removed(), paths.disk_removed()

    def standstill(self) -> ContextManager[object]:
        return _nothing()


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield


def _to_store(move: _Move, store: _Store, say: Say) -> None:
    """Move data to a store, and have a link lead there."""
    here, there, old = move.here, move.there, move.here + _OLD
    _recover(here, there)
    if os.path.islink(here) or not os.path.isdir(here):
        return
    if not os.listdir(here):
        os.rmdir(here)
        return
    if os.path.isdir(there) and os.listdir(there):
        raise ReleaseError(
            "{} are in {} and in {}".format(move.what, here, there),
            then="move on the server the folder that is not needed to another place, and run up again",
        )
    with move.standstill():
        draft = _copied(move, here, there, store.setting)
        try:
            if os.path.isdir(there):
                os.rmdir(there)
            os.rename(here, old)
            os.symlink(there, here)
            os.rename(draft, there)
            # The two are on different file systems: after a power failure one of them must have the data.
            os.sync()
        except BaseException:
            _recover(here, there)
            raise
    files.remove(old)
    say("{} are {} now".format(move.what, store.where))


def _recover(here: str, there: str) -> None:
    """Finish or undo a move to a store that was killed."""
    old, draft = here + _OLD, there + _DRAFT
    if os.path.islink(here) and not os.path.lexists(there) and not os.path.isdir(old) and os.path.isdir(draft):
        # A copy gets its own name before what it was copied from goes.
        os.rename(draft, there)
    files.remove(draft)
    if not os.path.isdir(old):
        return
    if os.path.islink(here) and os.path.isdir(there):
        files.remove(old)
        return
    if os.path.islink(here):
        os.unlink(here)
    os.rename(old, here)


def _to_server(move: _Move, store: _Store, say: Say) -> None:
    """Move data back to the server's own disk, in place of the link."""
    here, there = move.here, move.there
    if not os.path.isdir(there):
        raise ReleaseError(
            "{} are {}, which is not at {}".format(move.what, store.where, paths.DATA),
            then="set {} again and run up; or remove the link {} on the server if nobody needs the data, and run up "
            "again".format(store.setting, here),
        )
    if not os.listdir(there):
        files.remove(here)
        os.rmdir(there)
        return
    with move.standstill():
        draft = _copied(move, there, here, "server.disk_gib")
        if os.path.islink(here):
            os.unlink(here)
        os.rename(draft, here)
        os.sync()
    files.remove(there)
    say("{} are on the server's own disk now".format(move.what))


def _copied(move: _Move, source: str, target: str, setting: str) -> str:
    """Copy data beside their new place, and wait until they are on the disk. Returns the path of the copy."""
    draft, room = target + _DRAFT, os.path.dirname(target)
    needed, left = space.used(source) + _RESERVE, space.free(room)
    if needed > left:
        raise ReleaseError(
            "{} take {}, and the disk of {} has {} left".format(
                move.what, space.size_text(needed - _RESERVE), room, space.size_text(left)
            ),
            then="raise {}, or remove data that nobody needs, and run up again".format(setting),
        )
    files.remove(draft)
    os.mkdir(draft, 0o700)
    # Their owner copies them: root must not follow what an application puts into its folder.
    owner = os.stat(source).st_uid
    if os.geteuid() == 0:
        os.chown(draft, owner, -1)
    try:
        data.run_as(pwd.getpwuid(owner).pw_name, lambda: _copy(source, draft))
        os.sync()
    except BaseException as error:
        files.remove(draft)
        if isinstance(error, OSError) and "Permission denied" in str(error):
            # Such as a file that root has put there.
            advice = "give the file on the server to the owner of the folder (chown), and run up again"
            raise ReleaseError("{} cannot be copied: {}".format(move.what, error.strerror), then=advice) from error
        raise
    return draft


def _copy(source: str, target: str) -> None:
    """Copy a folder's content with modes, groups and links. Raises OSError."""
    command = ["cp", "-a", source + "/.", target]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # Its words decide what the user is told.
        env=dict(os.environ, LC_ALL="C"),
    )  # fmt: skip
    if done.returncode:
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        text = lines[0] if lines else "ended with {}".format(done.returncode)
        raise OSError(errno.ENOSPC if "No space left" in text else errno.EIO, text, source)


def _keep_unnamed(host: Host) -> None:
    """Keep the data of a site that was removed while the server was replaced as those of a removed site."""
    named = {site.name for site in host.sites} | set(files.site_names())
    for name in os.listdir(paths.disk_sites()):
        kept = paths.removed_data(name)
        if name not in named and "." not in name and not os.path.lexists(kept):
            os.rename(paths.disk_data(name), kept)
            files.own(kept, "root", 0o700)
