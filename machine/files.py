"""How the release tool replaces a file (at once, with its group and mode), and the documents that it has left.

Python 3.6, standard library only.
"""

import grp
import hmac
import json
import os
import pwd
import subprocess
from typing import Dict, Iterable, List, Optional, Type, TypeVar

from contract import paths
from contract.codec import decode, encode
from contract.documents import COMMANDS_FILE, STATE_FILE, CommandsState, HostState, SlotState

TMPFILES = "/etc/tmpfiles.d"
# Any user of the machine could take a lock in /run/lock and keep it.
LOCK = "/run/wsgi-ecs-release.lock"

T = TypeVar("T")


def site_names() -> List[str]:
    """Names of the sites on this machine; a database's server has none."""
    return sorted(os.listdir(paths.sites())) if os.path.isdir(paths.sites()) else []


def current_releases() -> List[str]:
    """Ids of what serves, or in whose place it serves: of each site, and of what the sites share.

    A release that only has new secrets is sent without its archive, so these archives are kept.
    """
    states = [slot_state(os.path.join(paths.site_root(name), "current")) for name in site_names()]
    found = [state.release for state in [host_state(), *states] if state]
    found += [other for state in states if state for other in (state.sent, state.rolled_back)]
    return [release for release in found if release]


def document(kind: Type[T], path: str) -> T:
    """The document in a file. Raises OSError or ValueError."""
    with open(path, encoding="utf-8") as file:
        return decode(kind, file.read())


def host_state(slot: str = "current") -> HostState:
    """What a run has left of what the sites share; every field has its default before the first run."""
    return _state(HostState, os.path.join(paths.host_root(), slot)) or HostState()


def slot_state(folder: str) -> Optional[SlotState]:
    """What a run has left in a site's slot, None for a slot that is empty or whose state is damaged."""
    return _state(SlotState, folder)


def commands_state(target: str) -> CommandsState:
    """What has run of the commands of the release in `target`."""
    try:
        return document(CommandsState, os.path.join(target, COMMANDS_FILE))
    except (OSError, ValueError):
        return CommandsState()


def _state(kind: Type[T], folder: str) -> Optional[T]:
    try:
        return document(kind, os.path.join(folder, STATE_FILE))
    except (OSError, ValueError):
        return None


def write_document(path: str, content: object, mode: int, group: str = "root") -> None:
    """Replace a file by a document of the contract, as JSON text."""
    write(path, encode(content), mode, group)


def text(path: str) -> Optional[str]:
    """Text of a file, None when there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def digest(value: object) -> str:
    """Keyed digest of a JSON value that holds secrets: the key never leaves this machine."""
    key_file = os.path.join(paths.ETC, "digest.key")
    if not os.path.exists(key_file):
        write(key_file, os.urandom(32).hex(), 0o600)
    with open(key_file) as file:
        key = bytes.fromhex(file.read())
    return hmac.new(key, json.dumps(value, sort_keys=True).encode(), "sha256").hexdigest()


def digests(names: Iterable[str]) -> Dict[str, str]:
    """Path → keyed digest of a text file, by which drift.py later finds that it was edited."""
    found = {}
    for path in names:
        with open(path, encoding="utf-8") as file:
            found[path] = digest(file.read())
    return found


def write(path: str, content: str, mode: int, group: str = "root") -> None:
    """Replace a file: a reader sees the old or the new one, whole and with its final mode, even on a full disk."""
    new = path + ".new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        own(new, group, mode)
        os.rename(new, path)
    except BaseException:
        remove(new)
        raise


def copy(source: str, path: str, mode: int) -> None:
    """Replace a file by a copy that root owns."""
    with open(source, encoding="utf-8") as file:
        write(path, file.read(), mode)


def own(path: str, group: str, mode: int) -> None:
    """Give a file to root and `group`. An unprivileged run, which only a test is, sets the mode and no owner."""
    if os.geteuid() == 0:
        os.chown(path, 0, grp.getgrnam(group).gr_gid)
    os.chmod(path, mode)


def link(target: str, path: str) -> None:
    """Point a symbolic link elsewhere at once."""
    new = path + ".new"
    if os.path.lexists(new):
        os.unlink(new)
    os.symlink(target, new)
    os.rename(new, path)


def remove(path: str) -> None:
    """Remove a file, a link or a folder with all that it holds. Nothing happens when there is none."""
    if os.path.isdir(path) and not os.path.islink(path):
        # shutil gives up in folders that are too deep, which the code of an application may make.
        subprocess.call(["rm", "-rf", "--", path], stderr=subprocess.DEVNULL)
    elif os.path.lexists(path):
        os.unlink(path)


def log(path: str, user: str) -> None:
    """Make a log that `user` may write. An existing log changes its owner: an earlier release may have run as another
    user.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o640))
    os.chmod(path, 0o640)
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.chown(path, account.pw_uid, account.pw_gid)
