"""Where the release tool's files are, and how one is replaced: at once, with its group and mode.

Python 3.6, standard library only.
"""

import grp
import hmac
import json
import os
import pwd
import shutil

ROOT = "/srv/wsgi-ecs"
ETC = "/etc/wsgi-ecs"
RUN = "/run/wsgi-ecs"
LOG = "/var/log/wsgi-ecs"
CACHE = "/var/cache/nginx"
TMPFILES = "/etc/tmpfiles.d"
# Not in /run/lock, where any user of the machine could take the lock and keep it.
LOCK = "/run/wsgi-ecs-release.lock"


def sites():
    """Names of the sites on this machine."""
    return sorted(os.listdir(os.path.join(ROOT, "sites")))


def current_releases():
    """Ids of what serves: each site's, and that of what they share. New secrets come without their archives."""
    states = [state(os.path.join(folder, "current")) for folder in (host_root(), *map(site_root, sites()))]
    return [found["release"] for found in states if "release" in found]


def site_root(name):
    return os.path.join(ROOT, "sites", name)


def host_root():
    return os.path.join(ROOT, "host")


def logs(name):
    return os.path.join(LOG, name)


def env_file(name):
    return os.path.join(ETC, name + ".env.json")


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def text(path):
    """Text of a file, None when there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def state(folder):
    """What a run has left in state.json of a folder, an empty dict before that."""
    try:
        return read_json(os.path.join(folder, "state.json"))
    except (OSError, ValueError):
        return {}


def digest(value):
    """Keyed digest of a JSON value that holds secrets: the key never leaves this machine."""
    key_file = os.path.join(ETC, "digest.key")
    if not os.path.exists(key_file):
        write(key_file, os.urandom(32).hex(), 0o600)
    with open(key_file) as file:
        key = bytes.fromhex(file.read())
    return hmac.new(key, json.dumps(value, sort_keys=True).encode(), "sha256").hexdigest()


def noted(paths):
    """Path → keyed digest of what a text file holds, for drift.py to hold it against later."""
    found = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            found[path] = digest(file.read())
    return found


def write(path, text, mode, group="root"):
    """Replace a file: a reader sees the old or the new one, whole and with its final mode."""
    new = path + ".new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    own(new, group, mode)
    os.rename(new, path)


def copy(source, path, mode):
    """Replace a file by a copy, root's."""
    with open(source, encoding="utf-8") as file:
        write(path, file.read(), mode)


def own(path, group, mode):
    """Give a file to root and `group`. An unprivileged run, a test's, sets the mode alone."""
    if os.geteuid() == 0:
        os.chown(path, 0, grp.getgrnam(group).gr_gid)
    os.chmod(path, mode)


def link(target, path):
    """Point a symbolic link elsewhere at once."""
    new = path + ".new"
    if os.path.lexists(new):
        os.unlink(new)
    os.symlink(target, new)
    os.rename(new, path)


def remove(path):
    """Remove a file, a link or a folder with all that it holds, or nothing when there is none."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


def log(path, user):
    """Make a log, unless it is there, that `user` may write: an earlier release may have run as another."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o640))
    os.chmod(path, 0o640)
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.chown(path, account.pw_uid, account.pw_gid)
