"""A release as it arrived: held against its manifest, then installed. Python 3.6, standard library only."""

import hashlib
import json
import os

import files
from servers import ReleaseError

SEND_AGAIN = "raise release.generation, which sends a new archive, and run up again"


class Unpacked:
    """An unpacked archive. `id` is the release's id; its manifest decides what belongs to it."""

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        try:
            manifest = files.read_json(os.path.join(folder, "manifest.json"))
            self.id, self.files = manifest["id"], manifest["files"]
            found = hashlib.sha256(json.dumps(self.files).encode()).hexdigest()[:12]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReleaseError("the release is damaged: manifest.json: {}".format(error), then=SEND_AGAIN) from error
        if self.id != found:
            raise ReleaseError("the release is damaged: manifest.json is not what was sent", then=SEND_AGAIN)

    def read(self, name):
        """Content (bytes) of a file of the release. Raises ReleaseError when it is not what was sent."""
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

    def install(self, releases, group):
        """Copy the release into the folder `releases`, or find it there. Returns its path.

        The copy is readable by `group` and writable by nobody but root; what the
        manifest does not name stays behind.
        """
        target = os.path.join(releases, self.id)
        if os.path.isdir(target):
            return target
        draft = target + ".new"
        files.remove(draft)
        try:
            for name, (mode, _) in self.files.items():
                if name.startswith("source/"):
                    # machine/builds.py reads it where it lies, once.
                    continue
                path = os.path.join(draft, local(name))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(self.read(name))
                files.own(path, group, 0o750 if int(mode, 8) & 0o100 else 0o640)
            # For drift.py.
            sent = {name: entry for name, entry in self.files.items() if not name.startswith("source/")}
            files.write(os.path.join(draft, "manifest.json"), json.dumps(sent), 0o640, group)
            for folder, _, _ in os.walk(draft):
                files.own(folder, group, 0o750)
            # A machine that loses its power must not keep a whole folder of empty files.
            os.sync()
            os.rename(draft, target)
        finally:
            files.remove(draft)
        return target

    def place_tool(self, folder):
        """Write this tool into folder/tool, which may be there. Returns the paths."""
        names = sorted(name for name in self.files if name.startswith("tool/"))
        for path in sorted({os.path.join(folder, os.path.dirname(name)) for name in names}):
            if not os.path.isdir(path):
                os.mkdir(path)
            files.own(path, "root", 0o755)
        for name in names:
            files.write(os.path.join(folder, name), self.read(name).decode(), 0o644)
        return [os.path.join(folder, name) for name in names]


def local(name):
    """A name of the manifest as this system's functions take it, whatever the locale is."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))
