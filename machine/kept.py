"""The kept releases of a site: which there are, and what each of them needs to serve again (contract/kept.py).

Python 3.6, standard library only.
"""

import json
import os
from typing import Dict, List, NamedTuple, Optional

import credentials
import files
import redis_server
from commands import ReleaseError
from contract import paths
from contract.documents import MANIFEST_FILE, RELEASE_FILE, Release, SlotState
from contract.kept import ORIGIN_FILE, SECRETS_FILE, SERVED_FILE, Origin, Secrets
from slots import served_at

# Characters of a committer's name that are kept.
_WIDTH = 100


class Refused(ReleaseError):
    """What the user asked for cannot be done, and nothing was changed."""


class Kept(NamedTuple):
    """A release in its site's folder of releases.

    served: when it has begun to serve last, in seconds since 1970, None when it has never served. installed: when it
    came. has_begun: whether it may have changed the database: it has served, or one of its commands has run.
    """

    id: str
    folder: str
    served: Optional[float]
    installed: float
    has_begun: bool
    release: Release
    origin: Origin


def note(folder: str, secrets: Secrets, release: Release) -> None:
    """Note in a release's folder that it serves from now on, and with what."""
    # What is taken from elsewhere when the release serves again is in no second file.
    elsewhere = set(release.managed) | ({redis_server.VARIABLE} if release.redis_port else set())
    env = {name: text for name, text in secrets.env.items() if name not in elsewhere}
    # Logins of the package index are in no file that stays; its address decides which environment the release has.
    own = secrets._replace(env=env, pip=credentials.addresses(secrets.pip))
    files.write_document(os.path.join(folder, SECRETS_FILE), own, 0o600)
    files.write(os.path.join(folder, SERVED_FILE), "", 0o640, release.web_group)


class Note(NamedTuple):
    """Hold what note() has written. secrets: text of the file. served: as in Kept. None for a file that is missing."""

    secrets: Optional[str]
    served: Optional[float]


def noted(folder: str) -> Note:
    """The note in a release's folder, for restore()."""
    served = served_at(os.path.dirname(folder), os.path.basename(folder)) or None
    return Note(files.text(os.path.join(folder, SECRETS_FILE)), served)


def restore(folder: str, before: Note) -> None:
    """Put the note of a release back that does not serve after all. before: as noted() has returned it."""
    secrets, served = os.path.join(folder, SECRETS_FILE), os.path.join(folder, SERVED_FILE)
    if before.served is None:
        files.remove(served)
    elif noted(folder).served != before.served:
        os.utime(served, (before.served, before.served))
    if before.secrets is None:
        files.remove(secrets)
    elif files.text(secrets) != before.secrets:
        files.write(secrets, before.secrets, 0o600)


def secrets(release: Kept, current: Dict[str, str]) -> Optional[Secrets]:
    """The secrets with which a release has served, None for a release that an older version of this tool has applied.

    current: environment in place. Credentials that the program manages are taken from there, because the passwords
    of that time may have ended.
    """
    try:
        own = files.document(Secrets, os.path.join(release.folder, SECRETS_FILE))
    except (OSError, ValueError):
        return None
    managed = {name: current[name] for name in release.release.managed if name in current}
    return own._replace(env=dict(own.env, **managed))


def releases(site: str) -> List[Kept]:
    """The kept releases of a site: the one that has begun to serve last is the first, refused ones come at the end."""
    parent = os.path.join(paths.site_root(site), "releases")
    names = sorted(name for name in os.listdir(parent) if "." not in name and name != paths.BOOTSTRAP)
    found = []  # type: List[Kept]
    for name in names:
        folder = os.path.join(parent, name)
        try:
            release = files.document(Release, os.path.join(folder, RELEASE_FILE))
            installed = os.stat(os.path.join(folder, MANIFEST_FILE)).st_mtime
        except (OSError, ValueError):
            # A damaged release cannot serve again.
            continue
        served, commands = served_at(parent, name) or None, files.commands_state(folder)
        has_begun = bool(served or commands.before or commands.is_open)
        found.append(Kept(name, folder, served, installed, has_begun, release, origin(folder)))
    return sorted(found, key=lambda each: each.served or 0, reverse=True)


def read_origin(given: Dict[str, str]) -> Optional[Origin]:
    """The origin that the program has sent, None when it knows none."""
    texts = {name: "".join(filter(str.isprintable, text))[:_WIDTH] for name, text in given.items()}
    if not texts:
        return None
    clean = {"yes": True, "no": False}.get(texts.get("clean", ""))
    fronts = [texts["front"]] if "front" in texts else []
    return Origin(texts.get("by", ""), texts.get("commit", ""), clean, fronts)


def note_origin(folder: str, new: Origin, group: str) -> None:
    """Note where the application of the release in a folder comes from."""
    old = origin(folder)
    new = new._replace(
        by=new.by or old.by, fronts=[front for front in old.fronts if front not in new.fronts] + new.fronts
    )
    if old != new:
        files.write_document(os.path.join(folder, ORIGIN_FILE), new, 0o640, group)


def origin(folder: str) -> Origin:
    """Where the application of the release in a folder comes from; empty when nobody has said so."""
    try:
        return files.document(Origin, os.path.join(folder, ORIGIN_FILE))
    except (OSError, ValueError):
        return Origin()


def serving(site: str) -> SlotState:
    """State of the slot that serves. Raises Refused when no release has served yet."""
    state = files.slot_state(os.path.join(paths.site_root(site), "current"))
    if state is None or state.release in (None, paths.BOOTSTRAP):
        raise Refused("site {} waits for its first release".format(site))
    return state


def names(release: Kept) -> List[str]:
    """The ids by which users name a release. On an app server they are those of the server with nginx, too."""
    return [release.id, *release.origin.fronts]


def find(site: str, prefix: str = "") -> Kept:
    """The release whose id begins with `prefix`, by default the one that served before. Raises Refused."""
    known = releases(site)
    good = [each for each in known if each.served]
    if not prefix:
        others = [each for each in good if each.id != serving(site).release]
        if not others:
            raise Refused("site {} keeps no release that served before this one".format(site))
        return others[0]
    found = [each for each in good if any(name.startswith(prefix) for name in names(each))]
    if len(found) > 1:
        ids = ", ".join(names(each)[-1] for each in found)
        raise Refused("site {}: several kept releases begin with {}: {}".format(site, prefix, ids))
    if not found:
        refused = any(each.id.startswith(prefix) for each in known)
        what = "release {} was refused when it came" if refused else "no release {} is kept"
        ids = ", ".join(names(each)[-1] for each in good) or "none"
        raise Refused("site {}: {}; kept: {}".format(site, what.format(prefix), ids))
    return found[0]


def irreversible_after(site: str, target: Kept) -> List[str]:
    """Ids of the releases that came after `target` and say that no older release may serve after them."""
    return [
        each.id
        for each in releases(site)
        if each.release.irreversible and each.has_begun and each.installed > target.installed
    ]


def plain_env(site: str) -> Dict[str, str]:
    """The environment in place."""
    try:
        return dict(json.loads(files.text(paths.env_file(site)) or "{}"))
    except ValueError:
        return {}
