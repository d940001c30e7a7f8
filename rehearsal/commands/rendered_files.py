"""Files that come onto machines with a change, and how they differ from the files before."""

import difflib
import json
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from contract.codec import decode
from contract.documents import (
    APP_FOLDER,
    HOST_FILE,
    MANIFEST_FILE,
    RELEASE_FILE,
    SOURCE_FOLDER,
    TOOL_FOLDER,
    Manifest,
    Release,
)
from rehearsal.engine.registration import Registration
from rehearsal.engine.state import Record

# Folders of an archive whose files are named and not shown: the application's own code, the release tool, and archives
# of sources.
CODE = (APP_FOLDER, TOOL_FOLDER, SOURCE_FOLDER)


# A damaged manifest may be any JSON, so the types of its values are checked, too.
_MANIFEST = TypeAdapter(Manifest)
# What reading an archive raises when it is missing, damaged or of another version.
_UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, KeyError)


@dataclass(frozen=True)
class Rendered:
    """Files of one place. old, new: name → text.

    old is None when there were no files, or when they are not known any more (`lost`).
    """

    title: str
    old: Mapping[str, str] | None
    new: Mapping[str, str]
    lost: bool = False

    @property
    def has_application(self) -> bool:
        """Whether an application is among the files."""
        return any(name.startswith(APP_FOLDER) for name in self.new)

    @cached_property
    def differences(self) -> dict[str, list[str]]:
        """Name → lines of its unified diff, for the files that differ."""
        old = self.old or {}
        found = {}
        for name in sorted({*old, *self.new}):
            before, after = old.get(name, ""), self.new.get(name, "")
            if (name in old, before) != (name in self.new, after):
                one, other = (name if name in files else "/dev/null" for files in (old, self.new))
                lines = difflib.unified_diff(before.splitlines(), after.splitlines(), one, other, n=2, lineterm="")
                found[name] = list(lines)
        return found


def archive_name(record: Record | Registration | None) -> str:
    """File name of the archive that a CopyToRemote copies, which its content decides; "" when it is not known."""
    path = record.inputs.get("remotePath") if record else None
    return Path(path).name if isinstance(path, str) else ""


def unpack(archive: Path) -> dict[str, str] | None:
    """Name → text of an archive's files; digests for the files of CODE. None for an archive that cannot be read."""
    texts = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.name.startswith(CODE) and (file := tar.extractfile(member)):
                    texts[member.name] = file.read().decode(errors="replace")
        # Remove the manifest from the texts, because the files that it lists are compared themselves.
        manifest = _MANIFEST.validate_json(texts.pop(MANIFEST_FILE)).files
    except _UNREADABLE:
        return None
    return {**texts, **{name: digest for name, (_, digest) in manifest.items() if name.startswith(CODE)}}


def has_redis(host: Mapping[str, Any]) -> bool:
    """Whether a server has Redis, beside the application or alone. host: its host.json, as JSON."""
    return bool(host.get("redis") or "os_service" in host)


def host_of(archive: Path) -> dict[str, Any]:
    """host.json of an archive of what the sites of a server share; empty for any other archive."""
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(HOST_FILE)
            return dict(json.load(file)) if file else {}
    except _UNREADABLE:
        return {}


def front_of(archive: Path) -> str | None:
    """What is in front of the application in a site's release; None for any other archive."""
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(RELEASE_FILE)
            return decode(Release, file.read().decode()).front if file else None
    except _UNREADABLE:
        return None
