"""A release as it arrived: checked against its manifest, then installed. Python 3.6, standard library only."""

import hashlib
import json
import os
from typing import List

import files
from commands import ReleaseError
from contract.documents import MANIFEST_FILE, SOURCE_FOLDER, TOOL_FOLDER, Manifest, Release

SEND_AGAIN = "raise release.generation, which sends a new archive, and run up again"


class Unpacked:
    """An unpacked archive. `id` is the release's id; its manifest decides what belongs to it."""

    is_kept = False

    def __init__(self, folder: str) -> None:
        self.folder = os.path.realpath(folder)
        try:
            manifest = files.document(Manifest, os.path.join(folder, MANIFEST_FILE))
            found = hashlib.sha256(json.dumps(manifest.files).encode()).hexdigest()[:12]
        except (OSError, ValueError, TypeError) as error:
            raise ReleaseError("the release is damaged: manifest.json: {}".format(error), then=SEND_AGAIN) from error
        if manifest.id != found:
            raise ReleaseError("the release is damaged: manifest.json is not what was sent", then=SEND_AGAIN)
        self.id = manifest.id
        self.files = manifest.files

    def read(self, name: str) -> bytes:
        """Content of a file of the release. Raises ReleaseError when it is not what was sent."""
        path = os.path.join(self.folder, local(name))
        if os.path.realpath(path) != path:
            raise ReleaseError("the release is damaged: {} leads out of its place".format(name), then=SEND_AGAIN)
        try:
            with open(path, "rb") as file:
                data = file.read()
            if hashlib.sha256(data).hexdigest() == self.files[name][1]:
                return data
        except (FileNotFoundError, IsADirectoryError, KeyError):
            raise ReleaseError("the release is damaged: {} is missing".format(name), then=SEND_AGAIN) from None
        raise ReleaseError("the release is damaged: {} is not what was sent".format(name), then=SEND_AGAIN)

    def text(self, name: str) -> str:
        """Text of a file of the release. Raises ReleaseError when it is not what was sent."""
        return self.read(name).decode()

    def install(self, releases: str, group: str) -> str:
        """Copy the release into the folder `releases`, or find it there. Returns its path.

        The copy is readable by `group` and writable by nobody but root; files that the
        manifest does not name are not copied.
        """
        target = os.path.join(releases, self.id)
        if os.path.isdir(target):
            return target
        draft = target + ".new"
        files.remove(draft)
        # builds.py reads the sources in the unpacked archive, once.
        sent = {name: entry for name, entry in self.files.items() if not name.startswith(SOURCE_FOLDER)}
        try:
            for name, (mode, _) in sent.items():
                path = os.path.join(draft, local(name))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(self.read(name))
                files.own(path, group, 0o750 if int(mode, 8) & 0o100 else 0o640)
            # drift.py compares the installed files with it.
            files.write(os.path.join(draft, MANIFEST_FILE), json.dumps(sent), 0o640, group)
            for folder, _, _ in os.walk(draft):
                files.own(folder, group, 0o750)
            # After a power failure a folder under its final name must not hold empty files.
            os.sync()
            os.rename(draft, target)
        finally:
            files.remove(draft)
        return target

    def place_tool(self, folder: str) -> List[str]:
        """Write this tool into folder/tool, which may be there already. Returns the paths of its files."""
        names = sorted(name for name in self.files if name.startswith(TOOL_FOLDER))
        for path in sorted({os.path.join(folder, os.path.dirname(name)) for name in names}):
            if not os.path.isdir(path):
                os.mkdir(path)
            files.own(path, "root", 0o755)
        for name in names:
            files.write(os.path.join(folder, name), self.text(name), 0o644)
        written = [os.path.join(folder, name) for name in names]
        # Remove the modules that only an older tool had.
        for here, _, present in os.walk(os.path.join(folder, TOOL_FOLDER)):
            for path in (os.path.join(here, name) for name in present):
                if path not in written:
                    files.remove(path)
        return written


class KeptRelease(Unpacked):
    """A release in its site's folder of releases, from where it serves again."""

    is_kept = True

    def __init__(self, folder: str) -> None:
        self.folder = os.path.realpath(folder)
        self.id = os.path.basename(self.folder)
        try:
            with open(os.path.join(folder, MANIFEST_FILE), encoding="utf-8") as file:
                self.files = json.load(file)
        except (OSError, ValueError) as error:
            raise ReleaseError("the release is damaged: manifest.json: {}".format(error), then=SEND_AGAIN) from error

    def install(self, releases: str, group: str) -> str:
        return self.folder


def own_seconds(release: Release) -> int:
    """Seconds that a release may take beside what every run may take."""
    before, after = len(release.before) * release.before_seconds, len(release.after) * release.after_seconds
    return before + after + sum(build.seconds for build in release.builds)


def local(name: str) -> str:
    """A name of the manifest as this system's functions take it, whatever the locale is."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))
