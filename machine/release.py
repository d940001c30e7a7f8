"""The release tool: puts one release live on this machine, or leaves the old one serving.

    release.py prepare FOLDER < {"hosts": {...}, "tls": {...}}    what the machine's sites share (host.py)
    release.py apply FOLDER < {"env": {...}, "files": {...}}      one site
    release.py database FOLDER < {"database": {"password": ...}}  MySQL, on a machine of its own (database.py)
    release.py settle FOLDER < {"database": {"password": ...}}    the end of the password that it had before
    release.py status                                             what serves, and what was edited by hand (drift.py)
    release.py renew                                              asks for the certificates that are due (acme.py)

FOLDER holds an unpacked release: manifest.json, release.json, app/, config/, tool/. The
new release starts beside the old one in the other slot, is asked for its health, and only
then gets the traffic by one switch. Whatever fails before or after that ends with the old
release serving. Applying the release that serves changes nothing, unless the environment
or the files on standard input changed; with nothing on standard input they stay as they are.
Run as root. Python 3.6, standard library only.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import sys
import time

import acme
import builds
import drift
import files
import host
import venvs
from managers import MANAGERS
from servers import SIGNALS, Nginx, NoNginx, ReleaseError, describe, go_back
from slots import Site, other_slot
from unpacked import Unpacked

# Another archive may lie there for a run that waits for this one.
_INCOMING_SECONDS = 7 * 86400
# The other sites of a machine are released one after another, each perhaps with a virtual environment to build.
LOCK_SECONDS = 900
# Of a slot: its other files have a dot in their names.
_FILE_NAME = re.compile(r"[a-z]+\Z")


def say(text, to=None):
    """Print a line as UTF-8, whatever the locale is; that nobody listens any more stops no release."""
    stream = to or sys.stdout
    try:
        stream.buffer.write(("wsgi-ecs: " + text + "\n").encode("utf-8", "backslashreplace"))
        stream.buffer.flush()
    except OSError:
        pass


def apply(folder, secrets):
    """Put the release in `folder` live with `secrets`, None for those in place.

    secrets: "env" as name → text, "files" as file name → text beside the configs of the release.
    Raises ReleaseError, OSError or ValueError with the old release serving.
    """
    unpacked = Unpacked(folder)
    release = json.loads(unpacked.read("release.json").decode())
    nginx = {
        "nginx": lambda: Nginx(host.own_nginx()),
        "none": NoNginx,
        "apart": lambda: NoNginx(release["handover_seconds"]),
    }[release["front"]]()
    site = Site(release, MANAGERS[release["manager"]](), nginx)
    old = site.settle(say)
    before = site.env()
    if secrets is None:
        secrets = {"env": before or {}, "files": site.secret_files(old)}
    env, digest = secrets["env"], files.digest(secrets)
    same = old and (old["release"], old.get("env")) == (unpacked.id, digest)
    if same and site.fits(old) and site.serves(old):
        if before != env:
            # A run that was killed had put its own in place.
            site.write_env(env)
        say("release {} serves already: nothing to do".format(unpacked.id))
        return
    if old and old.get("written"):
        drift.replaced(drift.of_site(release["site"], old), say)
    target = unpacked.install(site.releases, site.web_group)
    for build in release["builds"]:
        builds.make(build, unpacked, say)
    venv = venvs.make(release, target, say) if release["requirements"] else ""
    slot = other_slot(old)
    pointed = site.target()
    site.clear(site.state(slot))

    def fill(host):
        filled = site.fill(target, unpacked.id, slot, venv, secrets["files"], host)
        filled.update(env=digest, trial=True)
        site.save(filled)
        return filled

    state = fill("127.0.0.1")
    site.check(state)
    where = "in place of" if site.alone else "beside"
    say("starting release {} {} {}".format(unpacked.id, where, old["release"] if old else "nothing"))
    if state["computed"]:
        say("{} runs {}".format(release["site"], state["computed"]))
    try:
        if site.alone and old:
            site.clear(old)
        site.write_env(env)
        site.start(state)
        say("it is healthy; giving it the traffic")
        if site.is_apart:
            # nginx, on the other machine, asks whatever listens: it has been kept from this until now.
            site.clear(state)
            state = fill("0.0.0.0")  # noqa: S104
            site.start(state)
        workers = site.switch(state)
        del state["trial"]
        state["written"] = site.written(state)
        site.save(state)
    except BaseException as error:
        error.first = old is None
        go_back(error, lambda: undo(site, pointed, old, state, before))
        raise
    try:
        say("release {} serves".format(unpacked.id))
        if old:
            site.nginx.drain(workers, release["stop_seconds"])
            site.clear(old)
        for build in release["builds"]:
            files.link(build["folder"], build["link"])
        files.write(os.path.join(target, "served"), "", 0o640, site.web_group)
        prune(site.releases, unpacked.id, release["keep"])
        builds.prune()
    except (ReleaseError, OSError) as error:
        say("tidying up failed, the next release tries again: {}".format(describe(error)))


def undo(site, pointed, old, state, env):
    """Leave the old slot and its environment as they were."""
    try:
        # First: without nginx the old program starts again, and reads it.
        if env is not None:
            site.write_env(env)
    finally:
        site.undo(pointed, old, state)


def prune(releases, identifier, keep):
    """Remove what is not needed: releases beyond the `keep` that served last, environments, archives."""

    def served(name):
        try:
            return os.stat(os.path.join(releases, name, "served")).st_mtime
        except OSError:
            return 0

    names = sorted((name for name in os.listdir(releases) if name != identifier), key=served, reverse=True)
    # What a killed run left has a dot in its name; no other run makes such now, as this one holds the lock.
    kept = [name for name in names if "." not in name][: keep - 1] + [identifier]
    for name in names:
        if name not in kept:
            path = os.path.join(releases, name)
            if "." not in name:
                # A release that is half removed must not be found under its name.
                os.rename(path, path + ".old")
                path += ".old"
            files.remove(path)
    venvs.prune(venvs.used())
    incoming = os.path.join(files.ROOT, "incoming")
    needed = ["{}.tar.gz".format(one) for one in files.current_releases()] + [identifier]
    for name in os.listdir(incoming):
        path = os.path.join(incoming, name)
        if name not in needed and os.lstat(path).st_mtime < time.time() - _INCOMING_SECONDS:
            files.remove(path)


def refuse(error, outcome=None):
    """Tell the user what happened, the lines that explain it, and what to do then. outcome: of something else."""
    went_back = getattr(error, "went_back", True)
    if outcome is None:
        outcome = "release refused, the one before it still serves" if went_back else "release failed"
        if went_back and getattr(error, "first", False):
            outcome = "release refused, the site waits for its first one"
    lines = getattr(error, "lines", "").strip("\n")
    then = getattr(error, "then", "")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        then = "free space on the server's disk, or raise server.disk_gib, and run up again"
    say("{}: {}{}".format(outcome, describe(error), "\n" + lines if lines.strip() else ""), sys.stderr)
    if then:
        say("next: " + then, sys.stderr)


def _texts(found):
    return all(isinstance(value, str) for value in found.values())


def _pairs(found):
    names = ["certificate", "private_key"]
    return all(sorted(pair) == names and _texts(pair) for pair in found.values())


# What is read from standard input: what each part of it must be.
_INPUTS = {
    "apply": {"env": _texts, "files": lambda found: _texts(found) and all(map(_FILE_NAME.match, found))},
    "prepare": {"hosts": _texts, "tls": _pairs},
    "database": {"database": _texts},
    "settle": {"database": _texts},
}
# What an error begins with, where it is not a release's.
_OUTCOMES = {"database": "database not ready", "settle": "the database's password before is still good"}


def read(stream, verb):
    """The parts of standard input, each a dict, None when nothing is there. Raises ReleaseError."""
    text = stream.read().decode("utf-8", "surrogateescape")
    if not text.strip():
        return None
    try:
        told = json.loads(text)
        if set(told) == set(_INPUTS[verb]) and all(good(told[name]) for name, good in _INPUTS[verb].items()):
            return told
    except (ValueError, TypeError, AttributeError):
        pass
    # Nothing of the text: it holds secrets.
    raise ReleaseError("standard input is not JSON as {{{}}}".format(", ".join(sorted(_INPUTS[verb]))))


@contextlib.contextmanager
def locked():
    """No other run of this tool changes anything meanwhile."""
    with open(files.LOCK, "a") as lock:
        take(lock)
        yield


def renew():
    """Ask for certificates that are due. Returns the exit status."""
    try:
        return acme.renew(say, locked, lambda: Nginx(host.own_nginx()))
    except Exception as error:
        say("asking for certificates failed: {}".format(describe(error)), sys.stderr)
        return 1


def take(lock):
    """Wait for a release that another run, perhaps one that was cut off, has begun. Raises ReleaseError."""
    deadline, told = time.monotonic() + LOCK_SECONDS, False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ReleaseError(
                    "another release is being applied on this machine", then="run up again when it has ended"
                ) from None
        if not told:
            say("waiting for the release that is being applied")
            told = True
        time.sleep(0.2)


def interrupted(number, _):
    raise ReleaseError("ended by signal {}".format(number), then="run up again")


def main(arguments):
    """Returns the exit status: 0 the release serves, 1 it was refused or a certificate has not come, 2 wrong use.

    Of status: 1 a file was edited by hand.
    """
    if arguments == ["status"]:
        return 1 if drift.report(print) else 0
    if arguments != ["renew"] and (len(arguments) != 2 or arguments[0] not in _INPUTS):
        print(__doc__, file=sys.stderr)
        return 2
    os.umask(0o022)
    try:
        for number in SIGNALS:
            signal.signal(number, interrupted)
        if arguments == ["renew"]:
            return renew()
        verb, folder = arguments
        told = read(sys.stdin.buffer, verb)
        with locked():
            if verb == "prepare":
                told = told or {"hosts": {}, "tls": None}
                host.prepare(folder, told["hosts"], told["tls"], say)
            elif verb in ("database", "settle"):
                # No other machine's releases have it.
                import database

                act = {"database": database.prepare, "settle": database.settle}[verb]
                act(folder, told["database"].get("password") if told else None, say)
            else:
                apply(folder, told)
        if verb == "prepare":
            # A domain may not point here yet, which is no reason to refuse anything.
            renew()
    except Exception as error:
        refuse(error, _OUTCOMES.get(arguments[0]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
