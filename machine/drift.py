"""Files that are no longer as they were released, because somebody has edited them by hand.

A run notes a digest of each file that it writes, and an application has its release's manifest: both are compared
with the files as they are now. Python 3.6, standard library only.
"""

import hashlib
import json
import os
from typing import Callable, Dict, List, Optional, Tuple

import files
from contract import paths
from contract.documents import (
    APP_FOLDER,
    COMMANDS_FILE,
    MANIFEST_FILE,
    RELEASE_FILE,
    STATE_FILE,
    Release,
    SlotState,
)
from contract.kept import ORIGIN_FILE, SECRETS_FILE, SERVED_FILE
from contract.service_documents import ServiceState
from unpacked import local

# Files in a release's folder that this tool adds to what was sent.
_ADDED_BY_TOOL = (MANIFEST_FILE, COMMANDS_FILE, SERVED_FILE, SECRETS_FILE, ORIGIN_FILE)
# Path and kind of the edit: changed, missing or added.
Edit = Tuple[str, str]


def report_overwritten(found: List[Edit], say: Callable[[str], object]) -> None:
    """Name the edited files that a release is about to overwrite. components/release.py reads these lines."""
    for path, kind in sorted(found):
        say("{} was edited by hand ({}): this release has its own".format(path, kind))


def of_host() -> List[Edit]:
    """The edited files that the sites share."""
    return _edited(files.host_state().written)


def of_service() -> List[Edit]:
    """The edited files of a server that has a database or Redis alone."""
    try:
        return _edited(files.document(ServiceState, os.path.join(paths.ROOT, STATE_FILE)).written)
    except (OSError, ValueError):
        return []


def of_site(name: str, state: SlotState) -> List[Edit]:
    """The edited files of a site. state: of the slot that serves."""
    if state.release == paths.BOOTSTRAP:
        # Its built-in page came without a manifest.
        return _edited(state.written)
    return _edited(state.written) + _application(os.path.join(paths.site_root(name), "releases", str(state.release)))


def _edited(written: Dict[str, str]) -> List[Edit]:
    """The files that differ from what the run has noted. written: path → digest."""
    kinds = {path: edit_kind(lambda: files.digests([path])[path] == digest) for path, digest in written.items()}  # noqa: B023
    return [(path, kind) for path, kind in kinds.items() if kind]


def _application(folder: str) -> List[Edit]:
    """The edited files of a release's folder, in which nobody but this tool writes."""
    manifest = os.path.join(folder, MANIFEST_FILE)
    try:
        with open(manifest, encoding="utf-8") as file:
            sent = json.load(file)
    except (OSError, ValueError):
        return [(manifest, "missing")]
    # What release.before has made belongs to the release.
    for name, made in files.commands_state(folder).made.items():
        if made is None:
            sent.pop(name, None)
        else:
            sent[name] = ("", made)
    kept = _persistent(folder)
    sent = {name: entry for name, entry in sent.items() if not (name + "/").startswith(kept)}
    digests = {os.path.join(folder, local(name)): digest for name, (_, digest) in sent.items()}
    kinds = {path: edit_kind(lambda: sha256(path) == digest) for path, digest in digests.items()}  # noqa: B023
    found = [(path, kind) for path, kind in kinds.items() if kind]
    for here, _, names in os.walk(folder):
        present = (os.path.join(here, name) for name in names if not (here == folder and name in _ADDED_BY_TOOL))
        present = (path for path in present if not (os.path.relpath(path, folder) + "/").startswith(kept))
        found += [(path, "added") for path in present if path not in digests]
    return found


def _persistent(folder: str) -> Tuple[str, ...]:
    """Paths in a release's folder, with a slash at their end, that lead into the site's data folder."""
    try:
        release = files.document(Release, os.path.join(folder, RELEASE_FILE))
    except (OSError, ValueError):
        return ()
    return tuple("{}{}/".format(APP_FOLDER, path.rstrip("/")) for path in release.persistent)


def edit_kind(is_same: Callable[[], bool]) -> Optional[str]:
    """How a file was edited: changed or missing, None when it was not. is_same: compares the file as it is now."""
    try:
        return None if is_same() else "changed"
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError):
        return "changed"


def sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
