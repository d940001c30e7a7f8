"""A site's data folder: what its application writes, kept across releases, rollbacks and slots.

The application owns what is in the folder, so this tool follows no link there. Python 3.6, standard library only.
"""

import errno
import grp
import json
import os
import pwd
import re
import shutil
import stat
from typing import Callable

import files
from commands import Say, say
from contract import paths
from contract.documents import APP_FOLDER, HostSite, Release

# Folders that a restore makes in the data, and removes again.
SCRATCH = ".wsgi-ecs-"
# The old data on their way out; all of them, while the new ones come in; and what is of no use any more.
LEAVING, OLD, GONE = SCRATCH + "leaving", SCRATCH + "old", SCRATCH + "gone"


def undo_restore(folder: str) -> None:
    """Bring back what a restore that did not come to its end has taken out of a data folder. Raises OSError.

    It may be killed itself: until all new entries are away, the old ones stay together.
    """
    leaving, old = os.path.join(folder, LEAVING), os.path.join(folder, OLD)
    if os.path.isdir(old):
        for name in os.listdir(folder):
            if not name.startswith(SCRATCH):
                files.remove(os.path.join(folder, name))
        os.rename(old, leaving)
    if os.path.isdir(leaving):
        for name in os.listdir(leaving):
            os.rename(os.path.join(leaving, name), os.path.join(folder, name))
        os.rmdir(leaving)


def make(site: HostSite, has_disk: bool = False, recovers: bool = True) -> None:
    """Make a site's data folder, or give it the data that a removed site of this name has left.

    has_disk: whether the folder is on the data disk, where a link leads then, or in a file system that machines share.
    recovers: whether to undo a restore that did not come to its end.
    """
    path, removed = paths.data(site.name), paths.removed_data(site.name)
    folder = paths.disk_data(site.name) if has_disk else path
    if not os.path.isdir(folder):
        if os.path.isdir(removed):
            os.rename(removed, folder)
        else:
            os.mkdir(folder, 0o700)
        os.chmod(folder, 0o750)  # noqa: S103
    if has_disk and not os.path.islink(path):
        os.symlink(folder, path)
    if os.geteuid() == 0:
        user, group = pwd.getpwnam(site.user).pw_uid, grp.getgrnam(site.group).gr_gid
        if os.stat(folder).st_uid != user:
            # The site had another user before, on this server or on the one before it, to whom its files belong.
            _give(folder, user, group)
            os.chown(folder, user, group)
    if recovers and any(os.path.isdir(os.path.join(folder, name)) for name in (LEAVING, OLD)):
        run_as(site.user, lambda: undo_restore(folder))


def owner(site: str) -> str:
    """Name of the user that a site's data belongs to. Raises FileNotFoundError when the site has none."""
    return pwd.getpwuid(os.stat(paths.data(site)).st_uid).pw_name


def _give(folder: str, user: int, group: int) -> None:
    """Give all that is in a folder to a user, without following a link that is in it."""
    for _, names, others, here in os.fwalk(folder):
        for name in names + others:
            os.chown(name, user, group, dir_fd=here, follow_symlinks=False)


def keep(name: str, say: Say) -> None:
    """Move the data of a site that is being removed to where only root reads it; an empty folder is left behind."""
    # With a data disk a link leads to the folder.
    folder, removed = os.path.realpath(paths.data(name)), paths.removed_data(name)
    if not os.path.isdir(folder):
        return
    if not os.listdir(folder):
        os.rmdir(folder)
        return
    os.makedirs(os.path.dirname(removed), mode=0o700, exist_ok=True)
    os.rename(folder, removed)
    # The number of the site's user may be another user's one day.
    files.own(removed, "root", 0o700)
    say("the data of site {0} is kept in {1}, and a site named {0} gets it back".format(name, removed))


# What programs say of a place that they may not write to.
_NOT_WRITABLE = re.compile(
    r"Permission ?[Dd]enied|PermissionError|unable to open database file|readonly database|Read-only file system"
)


def advice(site: str, lines: str) -> str:
    """What to do when the lines of a program say that it could not write; "" when they do not."""
    if not _NOT_WRITABLE.search(lines):
        return ""
    return (
        "a release is read-only: have the application write to DATA_DIR ({}), or name what it writes in its own folder "
        "in app.persistent, such as [instance, media, db.sqlite3], and run up again".format(paths.data(site))
    )


def link(release: Release, target: str) -> None:
    """Have the persistent paths of the release in `target` lead into the data folder. Raises OSError.

    What the release has there becomes the first content of a path that the data folder does not have yet.
    """
    for entry in release.persistent:
        path = entry.rstrip("/")
        here, there = os.path.join(target, APP_FOLDER, path), os.path.join(paths.data(release.site), path)
        is_folder = entry.endswith("/") or not os.path.splitext(path)[1]
        # The application may have put links into its data folder, so root writes nothing there.
        run_as(release.user, lambda: _begin(here, there, is_folder))  # noqa: B023
        if os.path.islink(here):
            continue
        files.remove(here)
        folder = target
        for name in os.path.dirname(os.path.join(APP_FOLDER, path)).split("/"):
            folder = os.path.join(folder, name)
            if not os.path.isdir(folder):
                os.mkdir(folder)
                files.own(folder, release.web_group, 0o750)
        os.symlink(there, here)


def serve(release: Release) -> None:
    """Let nginx read the folders of a site's data that it serves, and no others. Raises OSError."""
    if not release.served:
        return
    folder, group = paths.data(release.site), grp.getgrnam(release.web_group).gr_gid
    # nginx may pass through the folder, and does not see what is in it.
    os.chown(folder, pwd.getpwnam(release.user).pw_uid, group)
    os.chmod(folder, 0o710)  # noqa: S103
    for path in release.served:
        run_as(release.user, lambda: _open(folder, path, group))  # noqa: B023


def _open(folder: str, path: str, group: int) -> None:
    """Give a group a folder of the data to read; what comes into the folder later inherits the group."""
    for name in path.split("/"):
        folder = os.path.join(folder, name)
        if not os.path.isdir(folder):
            os.mkdir(folder)
        _permit(folder, group, 0o2010)
    for here, _, names in os.walk(folder):
        _permit(here, group, 0o2050)
        for name in names:
            _permit(os.path.join(here, name), group, 0o040)


def _permit(path: str, group: int, bits: int) -> None:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode) or (found.st_gid == group and found.st_mode & bits == bits):
        return
    try:
        os.chown(path, -1, group)
        os.chmod(path, stat.S_IMODE(found.st_mode) | bits)
    except PermissionError:
        # Such as a file that root has copied here.
        say("warning: {0} is not the site's own, and nginx may be unable to read it; chown it".format(path))


def close(release: Release) -> None:
    """Shut nginx out of the data of a site whose release does not have it served."""
    if not release.served and os.path.isdir(paths.data(release.site)):
        folder = paths.data(release.site)
        os.chown(folder, pwd.getpwnam(release.user).pw_uid, grp.getgrnam(release.group).gr_gid)
        os.chmod(folder, 0o750)  # noqa: S103


def _begin(here: str, there: str, is_folder: bool) -> None:
    """Copy what a release has, or make an empty folder, unless something is there. An absent file stays absent."""
    if os.path.lexists(there):
        return
    os.makedirs(os.path.dirname(there), exist_ok=True)
    draft = there + ".first"
    files.remove(draft)
    if os.path.isdir(here):
        shutil.copytree(here, draft)
    elif os.path.isfile(here):
        shutil.copy(here, draft)
    elif is_folder:
        os.mkdir(draft)
    else:
        return
    os.rename(draft, there)


def run_as(name: str, act: Callable[[], object]) -> None:
    """Call a function in a process of a user's own. Raises the OSError that it raised."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        wrong = [errno.ECANCELED, "the process of {} ended early".format(name), ""]
        try:
            account = pwd.getpwnam(name)
            os.initgroups(name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            os.umask(0o027)
            act()
            wrong = []
        except OSError as error:
            wrong = [error.errno or errno.EIO, error.strerror or str(error), str(error.filename or "")]
        except shutil.Error as error:
            wrong[1] = str(error)
        finally:
            os.write(write, json.dumps(wrong).encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    wrong = json.loads(found.decode() or '[5, "ended without an answer", ""]')
    if wrong:
        raise OSError(*wrong)
