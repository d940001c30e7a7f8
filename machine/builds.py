"""Servers from source: built as a user who is not root, installed for root, once for each archive and its options.

<prefix>-<version>/             what was built, root's
<prefix>-<version>/built.json   of what; written last, so without it the folder is no good
<prefix>                        link to the version in use

A folder that no kept release needs is removed again.

Python 3.6, standard library only.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
import urllib.request

import facts
import files
from servers import ReleaseError
from venvs import Builder

_MOST_BYTES = 200 * 1024 * 1024
_SECONDS = 30
# Where a prefix may be: settings/text.py.
_PARENTS = ("/usr/local", "/opt")
_MARKS = ("name", "version", "sha256", "options")


def make(build, unpacked, say):
    """Build what a release names, unless it is there. Raises ReleaseError, with all that is installed as it was."""
    marker = os.path.join(build["folder"], "built.json")
    wanted = {name: build[name] for name in _MARKS}
    try:
        if files.read_json(marker) == wanted:
            return
    except (OSError, ValueError):
        pass
    if os.path.lexists(build["folder"]) and not os.path.exists(marker):
        raise ReleaseError(
            "{} is there and not ours".format(build["folder"]),
            then="move it away, or choose another {}.prefix, and run up again".format(build["name"]),
        )
    archive = checked(build, unpacked)
    what = "{} {}".format(build["name"], build["version"])
    started = time.monotonic()
    say("building {} from source, once".format(what))
    builder = Builder()
    builder.end_leftovers()
    for left in glob.glob(os.path.join(builder.user.pw_dir, "build-*")):
        files.remove(left)
    scratch = tempfile.mkdtemp(prefix="build-", dir=builder.user.pw_dir)
    draft = build["folder"] + ".new"
    try:
        builder.own(scratch)
        staged = compiled(build, archive, scratch, builder)
        # From here on nobody else may write what root copies.
        builder.end_leftovers()
        files.remove(draft)
        install(staged, draft)
        files.write(os.path.join(draft, "built.json"), json.dumps(wanted, indent=1), 0o644)
        os.sync()
        # Running programs keep the file that they were started from.
        files.remove(build["folder"])
        os.rename(draft, build["folder"])
    finally:
        files.remove(scratch)
        files.remove(draft)
    say("{} is built ({:.0f} s)".format(what, time.monotonic() - started))


def prune():
    """Remove what was built here and is needed by no release of any site, by neither of the machine's last two
    and by no process that runs.
    """
    releases = glob.glob(os.path.join(files.site_root("*"), "releases", "*", "release.json"))
    needed = set()
    for path in releases + glob.glob(os.path.join(files.host_root(), "*", "state.json")):
        try:
            needed.update(build["folder"] for build in files.read_json(path)["builds"])
        except (OSError, ValueError, KeyError):
            # What this one needs is not known.
            return
    markers = [path for parent in _PARENTS for path in glob.glob(os.path.join(parent, "*", "built.json"))]
    programs = running() if markers else set()
    for marker in markers:
        folder = os.path.dirname(marker)
        used = any(program.startswith(folder + "/") for program in programs)
        if folder in needed or used or not ours(folder):
            continue
        link = folder[: -len("-" + files.read_json(marker)["version"])]
        if os.path.islink(link) and os.readlink(link) == folder:
            files.remove(link)
        # Half removed, it must not count as whole.
        files.remove(marker)
        files.remove(folder)


def ours(folder):
    """Whether a folder was made by this tool: its mark is whole, root's, and names the folder's own version."""
    marker = os.path.join(folder, "built.json")
    try:
        mark = files.read_json(marker)
        return (
            not os.path.islink(folder)
            and os.stat(marker).st_uid == os.geteuid()
            and sorted(mark) == sorted(_MARKS)
            and folder.endswith("-" + mark["version"])
        )
    except (OSError, ValueError, TypeError):
        return False


def running():
    """Paths of the programs that run, in any process."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.add(os.readlink("/proc/{}/exe".format(name)))
            except OSError:
                # It has ended, or is the kernel's.
                continue
    return found


def checked(build, unpacked):
    """Content (bytes) of the archive. Raises ReleaseError when it is not the one that is wanted."""
    name = build["archive"]
    data = download(build) if "://" in name else unpacked.read(name)
    found = hashlib.sha256(data).hexdigest()
    if found != build["sha256"]:
        raise ReleaseError(
            "{}.sha256: {} has {}; allowed: {}".format(build["name"], name, found, build["sha256"]),
            then="compare {0}.archive and {0}.sha256 with what its makers publish, and run up again".format(
                build["name"]
            ),
        )
    return data


def download(build):
    """Content of the archive's URL."""
    then = "see that the server reaches {}.archive, or name a file of your own there".format(build["name"])
    try:
        # settings/text.py lets no other scheme than HTTP pass.
        with urllib.request.urlopen(build["archive"], timeout=_SECONDS) as answer:  # noqa: S310
            data = answer.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ReleaseError("{} does not come: {}".format(build["archive"], error), then=then) from error
    if len(data) > _MOST_BYTES:
        raise ReleaseError("{} is longer than {} bytes".format(build["archive"], _MOST_BYTES), then=then)
    return data


def compiled(build, archive, scratch, builder):
    """Unpack and build in the folder `scratch`. Returns the folder that holds what is to be installed."""
    packed, source, root = (os.path.join(scratch, name) for name in ("archive", "source", "root"))
    with open(packed, "wb") as file:
        file.write(archive)
    staged = root + build["folder"]
    try:
        builder.run("mkdir", "-p", source, staged)
        builder.run("tar", "-xf", packed, "--strip-components=1", "-C", source)
        for command in _STEPS[build["name"]](build, root, staged):
            builder.run(*command, cwd=source)
    except ReleaseError as error:
        what = "{} {} does not build: {}".format(build["name"], build["version"], error)
        then = "choose another {}.version, or mend its archive, and run up again".format(build["name"])
        raise ReleaseError(what, error.lines, then) from error
    return staged


def _uwsgi(build, root, staged):
    """https://uwsgi-docs.readthedocs.io/en/latest/Install.html#installing-from-source"""
    yield [build["python"], "uwsgiconfig.py", "--build"]
    yield ["install", "-D", "uwsgi", staged + "/bin/uwsgi"]


def _nginx(build, root, staged):
    """https://nginx.org/en/docs/configure.html"""
    yield ["./configure"] + build["options"]
    yield ["make", "-s", "-j{}".format(facts.cpus())]
    # What goes to /etc and /var stays behind: the OS's package has brought that.
    yield ["make", "-s", "install", "DESTDIR=" + root]


_STEPS = {"uwsgi": _uwsgi, "nginx": _nginx}


def install(staged, target):
    """Copy plain files and folders, root's and writable by nobody else."""
    for here, _, names in os.walk(staged):
        folder = os.path.normpath(os.path.join(target, os.path.relpath(here, staged)))
        os.mkdir(folder)
        files.own(folder, "root", 0o755)
        for name in names:
            path = os.path.join(here, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            copy = os.path.join(folder, name)
            shutil.copyfile(path, copy)
            files.own(copy, "root", 0o755 if os.stat(path).st_mode & 0o100 else 0o644)
