"""Files that are no longer as they were released: somebody has edited them by hand.

What a run has written is held against what it noted of it (files.noted), the application against its release's
manifest. Python 3.6, standard library only.
"""

import hashlib
import os

import files
from unpacked import local

# What a release's folder has beside what was sent.
_OWN = ("manifest.json", "served")
_NEXT = "raise release.generation and run up again, which puts back what was released"


def report(say):
    """Tell which releases serve and what was edited. Returns whether anything was."""
    found = of_host() + of_database()
    # MySQL's own machine has none.
    for name in files.sites() if os.path.isdir(files.site_root("")) else ():
        state = files.state(os.path.join(files.site_root(name), "current"))
        say("site {}: {}".format(name, "release " + state["release"] if state else "waits for its first release"))
        if state:
            found += of_site(name, state)
    for path, what in sorted(found):
        say("edited by hand: {} ({})".format(path, what))
    if found:
        say("next: " + _NEXT)
    return bool(found)


def replaced(found, say):
    """Tell what was edited of the files that a release is about to write. The stack's outputs have it from here."""
    for path, what in sorted(found):
        say("{} was edited by hand ({}): this release has its own".format(path, what))


def of_host():
    """As of_site, of what the sites share."""
    return _noted(files.state(os.path.join(files.host_root(), "current")))


def of_database():
    """As of_site, of a database's server."""
    return _noted(files.state(files.ROOT))


def of_site(name, state):
    """(path, what became of it) of each edited file of a site. state: of the slot that serves."""
    return _noted(state) + _application(os.path.join(files.site_root(name), "releases", state["release"]))


def _noted(state):
    """The files that are others than the run has noted, as of_site has them."""
    return [
        (path, what)
        for path, digest in state.get("written", {}).items()
        for what in _became(path, lambda: files.noted([path])[path] == digest)  # noqa: B023
    ]


def _application(folder):
    """Those of a release's folder, where nobody has anything to write."""
    try:
        sent = files.read_json(os.path.join(folder, "manifest.json"))
    except (OSError, ValueError):
        return [(os.path.join(folder, "manifest.json"), "missing")]
    names = {os.path.join(folder, local(name)): digest for name, (_, digest) in sent.items()}
    found = [(path, what) for path, digest in names.items() for what in _became(path, lambda: _sha256(path) == digest)]  # noqa: B023
    for here, _, there in os.walk(folder):
        paths = (os.path.join(here, name) for name in there if not (here == folder and name in _OWN))
        found += [(path, "added") for path in paths if path not in names]
    return found


def _became(path, is_same):
    """What became of a file: one word, or none."""
    try:
        return () if is_same() else ("changed",)
    except FileNotFoundError:
        return ("missing",)
    except (OSError, ValueError):
        return ("changed",)


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
