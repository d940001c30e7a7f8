"""The application's folder of a release, given to the site's user for as long as its commands run, and taken back.

No link is followed on the way: the user may have made it. Python 3.6, standard library only.
"""

import grp
import os
import pwd
import stat
from typing import List

import files

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# A pipe must not keep root waiting.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK

# Folders in one another, each of which takes a descriptor and a call here and in what reads the folder later.
_DEEP = 200
# Bytes of a path. Linux follows none of 4096, and would not say where a link leads.
_LONG = 4000
# Characters of a path that are shown.
_SHOWN = 80


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
    """Give a folder to root and `group`, writable by nobody else.

    Returns what could not stay and is removed, a sentence each: links that led out, and folders that are too deep.
    """
    taking = _Taking(folder, grp.getgrnam(group).gr_gid)
    here = os.open(folder, _FOLDER)
    try:
        taking.take(here, [])
    finally:
        os.close(here)
    # Only now nobody changes any more where a link leads.
    for path in taking.links:
        taking.take_link(path)
    return taking.removed


class _Taking:
    """links: the paths below `root` of those that root does not own yet. removed: what take_back returns."""

    def __init__(self, root: str, group: int) -> None:
        self.root, self.group = root, group
        self.links = []  # type: List[str]
        self.removed = []  # type: List[str]

    def take(self, here: int, names: List[str]) -> None:
        """Take a folder, and what is in it. names: of the folders on the way from `root` to it."""
        # The folder comes first, so that nobody adds a file behind what is listed.
        os.fchown(here, 0, self.group)
        os.fchmod(here, 0o750)
        for entry in os.listdir(here):
            found = os.stat(entry, dir_fd=here, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                self._take_folder(here, [*names, entry])
            elif stat.S_ISLNK(found.st_mode):
                path = os.path.join(*names, entry)
                if len(os.fsencode(os.path.join(self.root, path))) > _LONG:
                    os.unlink(entry, dir_fd=here)
                    self.removed.append("{}… is too long".format(path[:_SHOWN]))
                elif found.st_uid != 0:
                    self.links.append(path)
            elif stat.S_ISREG(found.st_mode) and not _is_second_name(found):
                file = os.open(entry, _FILE, dir_fd=here)
                try:
                    os.fchown(file, 0, self.group)
                    os.fchmod(file, 0o750 if found.st_mode & 0o100 else 0o640)
                finally:
                    os.close(file)
            else:
                # A socket, a pipe, or a second name of a file of root's.
                os.unlink(entry, dir_fd=here)

    def _take_folder(self, here: int, names: List[str]) -> None:
        if len(names) > _DEEP:
            files.remove("/proc/{}/fd/{}/{}".format(os.getpid(), here, names[-1]))
            shown = os.path.join(*names)[:_SHOWN]
            self.removed.append("{}… has more than {} folders in one another".format(shown, _DEEP))
            return
        inner = os.open(names[-1], _FOLDER, dir_fd=here)
        try:
            self.take(inner, names)
        finally:
            os.close(inner)

    def take_link(self, path: str) -> None:
        """Keep a link that stays inside `root`: nginx, which follows it, may read files that the site may not."""
        link = os.path.join(self.root, path)
        if self._leads_out(link):
            os.unlink(link)
            self.removed.append("{} leads out of the application's folder".format(path))
        else:
            os.chown(link, 0, 0, follow_symlinks=False)

    def _leads_out(self, link: str) -> bool:
        try:
            return not os.path.realpath(link).startswith(os.path.realpath(self.root) + "/")
        except (OSError, RecursionError):
            # So many links in a row that Linux follows them nowhere.
            return True
