"""Copies of a site's data folder, as a gzipped tar archive.

    data_archive.py save SITE >FILE.tar.gz    SQLite files are copied whole while the application writes
    data_archive.py load SITE <FILE.tar.gz    replaces the data; the site's program is stopped meanwhile

The archive is read and written as the site's user, because the application may have put anything into its folder. Run
as root. Python 3.6, standard library only.
"""

import gzip
import os
import shutil
import sqlite3
import stat
import sys
import tarfile
import tempfile
import zlib
from typing import BinaryIO, List

import audit
import data
import files
from commands import ReleaseError, describe, say
from contract import paths
from contract.documents import RELEASE_FILE, Release
from data import GONE, LEAVING, OLD, SCRATCH, undo_restore
from lock import acquire_lock
from pause import paused

_SQLITE = b"SQLite format 3\0"
# What SQLite keeps beside a file; a copy that SQLite made is whole without it.
_BESIDE = ("-wal", "-shm", "-journal")


def owner(site: str) -> str:
    """Name of the user of a site's data. Raises ReleaseError when there is no such site."""
    try:
        return data.owner(site)
    except FileNotFoundError:
        known = ", ".join(files.site_names())
        raise ReleaseError("no site {} has data on this server; allowed: {}".format(site, known)) from None


def save(site: str, out: BinaryIO) -> None:
    """Write the archive of a site's data. Raises OSError or ReleaseError."""
    folder = paths.data(site)
    data.run_as(owner(site), lambda: _save(folder, out))


def _save(folder: str, out: BinaryIO) -> None:
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
        with tarfile.open(fileobj=out, mode="w|gz") as archive:
            for here, names, others in os.walk(folder):
                names[:] = sorted(name for name in names if not name.startswith(SCRATCH))
                links = [name for name in names if os.path.islink(os.path.join(here, name))]
                for name in sorted([*names, *others]):
                    _add(archive, folder, os.path.join(here, name), scratch)
                names[:] = [name for name in names if name not in links]
    out.flush()


def _add(archive: tarfile.TarFile, folder: str, path: str, scratch: str) -> None:
    name = os.path.relpath(path, folder)
    try:
        kind = os.lstat(path).st_mode
        if stat.S_ISDIR(kind) or stat.S_ISLNK(kind):
            archive.add(path, name, recursive=False)
        elif stat.S_ISREG(kind) and _is_sqlite(path):
            copy = os.path.join(scratch, "copy")
            files.remove(copy)
            _copy_sqlite(path, copy)
            shutil.copymode(path, copy)
            archive.add(copy, name)
        elif stat.S_ISREG(kind) and not _is_beside(path):
            archive.add(path, name)
    except FileNotFoundError:
        # The application has just removed the file.
        pass


def _is_sqlite(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _is_beside(path: str) -> bool:
    whole = [path[: -len(end)] for end in _BESIDE if path.endswith(end)]
    return any(os.path.isfile(name) and _is_sqlite(name) for name in whole)


def _copy_sqlite(path: str, copy: str) -> None:
    """Copy a database as it is at one moment. Raises OSError."""
    try:
        source = sqlite3.connect(path, timeout=60, isolation_level=None)
        try:
            # Nobody else writes while the transaction is open; readers go on.
            source.execute("BEGIN IMMEDIATE")
            shutil.copyfile(path, copy)
            if os.path.exists(path + "-wal"):
                shutil.copyfile(path + "-wal", copy + "-wal")
            source.execute("ROLLBACK")
        finally:
            source.close()
        target = sqlite3.connect(copy)
        try:
            # Merge the log into the copy, and leave a file that stands alone.
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            target.execute("PRAGMA journal_mode=DELETE")
        finally:
            target.close()
    except sqlite3.Error as error:
        raise OSError(5, str(error), path) from error


def load(site: str, archive: BinaryIO) -> None:
    """Replace a site's data by that of an archive. Raises OSError or ReleaseError with the old data in place."""
    folder, user = paths.data(site), owner(site)
    new = os.path.join(folder, SCRATCH + "new")

    def clean() -> None:
        undo_restore(folder)
        files.remove(new)
        files.remove(os.path.join(folder, GONE))

    data.run_as(user, clean)
    try:
        # All of the archive is here before anything is changed, whatever becomes of the connection.
        data.run_as(user, lambda: _unpack(archive, new))
        with paused(site) as state:
            # The site starts again with its old data if the new ones cannot be put in place.
            try:
                data.run_as(user, lambda: _exchange(folder, new))
            except OSError:
                data.run_as(user, lambda: undo_restore(folder))
                raise
            if state and state.release:
                # nginx reads the folders that it serves by their group.
                where = os.path.join(paths.site_root(site), "releases", state.release, RELEASE_FILE)
                data.serve(files.document(Release, where))
    finally:
        data.run_as(user, clean)


def _unpack(archive: BinaryIO, folder: str) -> None:
    os.mkdir(folder, 0o700)
    try:
        # tarfile itself takes an archive that ends between two files for a whole one; gzip knows length and checksum.
        with gzip.GzipFile(fileobj=archive) as plain, tarfile.open(fileobj=plain, mode="r|") as found:
            # Python 3.12 and 3.13 warn of a missing filter; what a member may be is checked here.
            found.extraction_filter = lambda member, folder: member
            links: List[tarfile.TarInfo] = []
            for member in found:
                path = os.path.normpath(member.name)
                if (
                    path.startswith(("/", "../"))
                    or path == ".."
                    or not (member.isdir() or member.isreg() or member.issym())
                ):
                    raise OSError(22, "not an archive of a data folder", member.name)
                if member.issym():
                    links.append(member)
                else:
                    found.extract(member, folder, set_attrs=False)
                    os.chmod(os.path.join(folder, path), member.mode & 0o2770 | (0o700 if member.isdir() else 0o600))
            # A link is made last, so that no file is written through it.
            for member in links:
                os.symlink(member.linkname, os.path.join(folder, os.path.normpath(member.name)))
            while plain.read(1 << 16):
                pass
    except (tarfile.TarError, EOFError, ValueError, zlib.error, OSError) as error:
        # An error of the disk has a number; gzip's own have none.
        if getattr(error, "errno", None):
            raise
        raise OSError(22, "not a whole archive of a data folder: {}".format(error)) from error


def _exchange(folder: str, new: str) -> None:
    """Put the new entries in place of the old ones. data.undo_restore undoes it until its end. Raises OSError."""
    leaving, old = os.path.join(folder, LEAVING), os.path.join(folder, OLD)
    os.mkdir(leaving, 0o700)
    for name in os.listdir(folder):
        if not name.startswith(SCRATCH):
            os.rename(os.path.join(folder, name), os.path.join(leaving, name))
    os.rename(leaving, old)
    for name in os.listdir(new):
        os.rename(os.path.join(new, name), os.path.join(folder, name))
    os.rename(old, os.path.join(folder, GONE))


def main(arguments: List[str]) -> int:
    """Returns the exit status."""
    if len(arguments) != 2 or arguments[0] not in ("save", "load"):
        print(__doc__, file=sys.stderr)
        return 2
    verb, site = arguments
    try:
        if verb == "save":
            save(site, sys.stdout.buffer)
            files.write(paths.backup(site), "", 0o644)
        else:
            with acquire_lock(what="restore of site {}".format(site)), audit.logged("restore") as entry:
                entry.site = site
                load(site, sys.stdin.buffer)
    except (OSError, ReleaseError) as error:
        say("{} of the data of site {} failed: {}".format(verb, site, describe(error)), sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
