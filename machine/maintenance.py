"""A site in maintenance: nginx answers 503 while a file is there, for which it looks at each request.

    release.py maintenance on|off|status [--site S]

    maintenance            since when, and what has turned it on; survives releases and reboots
    maintenance.setting    what nginx.maintenance.enabled was in the last release

A release acts only if it changes the setting; until then the command decides. Python 3.6, standard library only.
"""

import os
import sys
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import audit
import files
from commands import say
from contract import paths
from contract.documents import RELEASE_FILE, Release

_USAGE = "allowed: on, off or status, and --site with a site's name"
_ON = "on\n"
SETTING, COMMAND = "setting", "command"
# Where nginx's part of a site says that it looks for the file.
_LOOKS = "$wsgi_maintenance_"


class Maintenance(NamedTuple):
    """since: seconds since 1970. by: what has turned it on, SETTING or COMMAND."""

    since: int
    by: str


# Texts of a site's two files, None for a file that is not there.
Snapshot = Dict[str, Optional[str]]


class Refused(Exception):
    """What a user has asked for and cannot have, in one line."""


def of(site: str) -> Optional[Maintenance]:
    """The maintenance that a site is in, None for a site that is open."""
    path = paths.maintenance(site)
    try:
        return files.document(Maintenance, path)
    except ValueError:
        # nginx looks only whether there is a file, and somebody may have made it by hand.
        return Maintenance(int(os.stat(path).st_mtime), "hand")
    except OSError:
        return None


def describe(site: str) -> str:
    """A site's maintenance in words, "" for a site that is open."""
    found = of(site)
    if found is None:
        return ""
    by = {SETTING: "nginx.maintenance.enabled", COMMAND: os.path.basename(paths.MAINTENANCE_COMMAND)}
    return "in maintenance since {} (by {})".format(moment(found.since), by.get(found.by, found.by))


def moment(seconds: float) -> str:
    """A time in words. seconds: since 1970."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def turn(site: str, is_on: bool, by: str) -> None:
    """Close or open a site. A site that is closed already keeps its time."""
    found = of(site)
    if not is_on:
        files.remove(paths.maintenance(site))
    elif found is None or (by == COMMAND and found.by != COMMAND):
        since = found.since if found else int(time.time())
        files.write_document(paths.maintenance(site), Maintenance(since, by), 0o644)


def _setting(site: str) -> str:
    return paths.maintenance(site) + ".setting"


def snapshot(site: str) -> Snapshot:
    """The site's two files, for restore()."""
    return {path: files.text(path) for path in (paths.maintenance(site), _setting(site))}


def restore(before: Snapshot, after: Snapshot) -> None:
    """Put the files of a snapshot back: the release that has changed them does not serve.

    after: what the release has made of them. A file that somebody has changed since then stays as it is.
    """
    for path, text in before.items():
        if files.text(path) != after.get(path):
            continue
        if text is None:
            files.remove(path)
        elif text != after.get(path):
            files.write(path, text, 0o644)


def knows(configs: str) -> bool:
    """Return whether nginx looks for the maintenance of a site. configs: folder with the release's part of nginx."""
    return _LOOKS in (files.text(os.path.join(configs, "server.conf")) or "")


def _changes(release: Release) -> bool:
    return release.maintenance != (files.text(_setting(release.site)) == _ON)


def begin(release: Release) -> None:
    """Close the site before a release gets the traffic, if the release turns the maintenance on."""
    if release.maintenance and _changes(release):
        turn(release.site, True, SETTING)


def follow(release: Release) -> None:
    """Do what the setting of a release that serves says, if it changed. A site without nginx is never closed."""
    site, found = release.site, of(release.site)
    # A run that was killed after begin() has left the file without a setting.
    is_left = found is not None and found.by == SETTING and not release.maintenance
    if release.front != "nginx":
        files.remove(paths.maintenance(site))
    elif _changes(release) or is_left:
        turn(site, release.maintenance, SETTING)
    if _changes(release):
        files.write(_setting(site), _ON if release.maintenance else "off\n", 0o644)


def command(arguments: List[str], out: Callable[[str], object] = print, warn: Callable[..., object] = say) -> int:
    """The command wsgi-ecs-maintenance. Returns the exit status: 2 for what it refuses, 1 for what fails."""
    try:
        verb, sites = _read(arguments)
        for site in sites:
            if verb != "status":
                _check(site)
                with audit.logged("maintenance {}".format(verb)) as entry:
                    entry.site = site
                    turn(site, verb == "on", COMMAND)
            out("site {}: {}".format(site, describe(site) or "not in maintenance"))
    except Refused as error:
        warn(str(error), sys.stderr)
        return 2
    except OSError as error:
        warn("{}: {}".format(error.filename, error.strerror), sys.stderr)
        return 1
    return 0


def _read(arguments: List[str]) -> Tuple[str, List[str]]:
    """The verb and the sites of the command's arguments. Raises Refused."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--site=") else [word])]
    if words[:1] not in (["on"], ["off"], ["status"]) or words[1:2] not in ([], ["--site"]) or len(words) not in (1, 3):
        raise Refused("{}: {}".format(" ".join(arguments) or "no argument", _USAGE))
    names = files.site_names()
    shown = ", ".join(names) or "none on this machine"
    if words[2:] and words[2] not in names:
        raise Refused("--site {}: no such site; allowed: {}".format(words[2], shown))
    if words[0] != "status" and not words[2:] and len(names) != 1:
        raise Refused("no --site; allowed: --site with one of {}".format(shown))
    return words[0], words[2:] or names


def _check(site: str) -> None:
    """Raise Refused for a site that nginx on this machine cannot close."""
    root = paths.site_root(site)
    state = files.slot_state(os.path.join(root, "current"))
    if state is None or state.release in (None, paths.BOOTSTRAP):
        raise Refused("site {} waits for its first release, and answers 503 until then".format(site))
    release = files.document(Release, os.path.join(root, "releases", str(state.release), RELEASE_FILE))
    if release.front == "apart":
        raise Refused("site {}: its nginx is on another machine; run this command there".format(site))
    if release.front != "nginx":
        raise Refused("site {} has no nginx, which would close it; allowed: serving.front: nginx".format(site))
    if not knows(os.path.join(root, "current")):
        raise Refused("site {}: its release is older than this command; run up first".format(site))
