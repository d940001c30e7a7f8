"""The application's folder of a release, given to the site's user for as long as its commands run, and taken back.

No link is followed on the way: the user may have made it. Python 3.6, standard library only.
"""

import grp
import os
import pwd
import stat
from typing import List

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# A pipe must not keep root waiting.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def give(folder: str, user: str) -> None:
    """Give a folder and its files to a user. Its links stay root's, by which they are known as this tool's own."""
    here = os.open(folder, _FOLDER)
    try:
        _give(here, pwd.getpwnam(user).pw_uid)
    finally:
        os.close(here)


def _give(here: int, owner: int) -> None:
    """Give a folder, and what is in it."""
    for entry in os.listdir(here):
        found = os.stat(entry, dir_fd=here, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            inner = os.open(entry, _FOLDER, dir_fd=here)
            try:
                _give(inner, owner)
            finally:
                os.close(inner)
        elif stat.S_ISREG(found.st_mode) and not _is_second_name(found):
            os.chown(entry, owner, -1, dir_fd=here, follow_symlinks=False)
    # The folder goes last: who owns it may put anything in the place of what is in it.
    os.fchown(here, owner, -1)


def _is_second_name(found: os.stat_result) -> bool:
    """Whether a file of root's has another name, which may stand anywhere."""
    return found.st_uid == 0 and found.st_nlink > 1


def take_back(folder: str, group: str) -> List[str]:
    """Give a folder to root and `group`, writable by nobody else. Returns the links that led out, which are removed."""
    outside = []  # type: List[str]
    here = os.open(folder, _FOLDER)
    try:
        _take(here, folder, "", grp.getgrnam(group).gr_gid, outside)
    finally:
        os.close(here)
    return outside


def _take(here: int, root: str, name: str, group: int, outside: List[str]) -> None:
    """Take a folder, and what is in it. name: of the folder below `root`, "" for `root` itself."""
    # The folder comes first, so that nobody adds a file behind what is listed.
    os.fchown(here, 0, group)
    os.fchmod(here, 0o750)
    for entry in os.listdir(here):
        found = os.stat(entry, dir_fd=here, follow_symlinks=False)
        path = os.path.join(name, entry)
        if stat.S_ISDIR(found.st_mode):
            inner = os.open(entry, _FOLDER, dir_fd=here)
            try:
                _take(inner, root, path, group, outside)
            finally:
                os.close(inner)
        elif stat.S_ISLNK(found.st_mode):
            _take_link(here, entry, root, path, found.st_uid, outside)
        elif stat.S_ISREG(found.st_mode) and not _is_second_name(found):
            file = os.open(entry, _FILE, dir_fd=here)
            try:
                os.fchown(file, 0, group)
                os.fchmod(file, 0o750 if found.st_mode & 0o100 else 0o640)
            finally:
                os.close(file)
        else:
            # A socket, a pipe, or a second name of a file of root's.
            os.unlink(entry, dir_fd=here)


def _take_link(here: int, entry: str, root: str, path: str, owner: int, outside: List[str]) -> None:
    """Keep a link that stays inside `root`: nginx, which follows it, may read files that the site may not."""
    whole = os.path.realpath(root)
    if owner != 0 and not os.path.realpath(os.path.join(root, path)).startswith(whole + "/"):
        os.unlink(entry, dir_fd=here)
        outside.append(path)
    else:
        os.chown(entry, 0, 0, dir_fd=here, follow_symlinks=False)
