"""Servers and Pythons from source: built as a user who is not root, installed for root, once for each archive and its
options.

<prefix>-<version>/             what was built, root's
<prefix>-<version>/built.json   what it was built of; written last, so a folder without it is incomplete
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
import threading
import time
import urllib.request
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Set

import facts
import files
from commands import ReleaseError, Say
from contract import paths
from contract.documents import RELEASE_FILE, STATE_FILE, Build, HostState, Release
from unpacked import Unpacked
from venvs import Builder, wheels

_MOST_BYTES = 200 * 1024 * 1024
_SECONDS = 30
_MARKS = ("name", "version", "sha256", "options")
# Seconds after which a build says again that it is under way: a connection on which nothing passes may be cut.
_SILENCE = 60


def make(build: Build, unpacked: Unpacked, say: Say) -> None:
    """Build what a release names, unless it is there. Raises ReleaseError, with all that is installed as it was."""
    marker = os.path.join(build.folder, "built.json")
    mark = {name: getattr(build, name) for name in _MARKS}
    # The version of a folder includes what the build stands beside, such as the Python in a uWSGI.
    mark["version"] = build.folder[len(build.link) + 1 :]
    try:
        old = _mark(build.folder)
        # A program reads its Python while it runs, so other options do not replace a Python.
        if old == mark or (build.name == "python" and old.get("sha256") == build.sha256):
            return
    except (OSError, ValueError):
        pass
    _check_unused(build)
    if os.path.lexists(build.folder) and not os.path.exists(marker):
        raise ReleaseError(
            "{} exists already and was not made by this tool".format(build.folder),
            then="move it away, or choose another {}.prefix, and run up again".format(build.name),
        )
    archive = checked(build, unpacked)
    what = "{} {}".format(build.name, build.version)
    started = time.monotonic()
    say("building {} from source, once".format(what))
    builder = Builder()
    builder.end_leftovers()
    for left in glob.glob(os.path.join(builder.user.pw_dir, "build-*")):
        files.remove(left)
    scratch = tempfile.mkdtemp(prefix="build-", dir=builder.user.pw_dir)
    draft = build.folder + ".new"
    try:
        builder.own(scratch)
        with _progress(what, say):
            staged = compiled(build, archive, scratch, builder)
        # The build user must not write any more while root copies.
        builder.end_leftovers()
        files.remove(draft)
        install(staged, draft)
        files.write(os.path.join(draft, "built.json"), json.dumps(mark, indent=1), 0o644)
        os.sync()
        # Running programs keep the file that they were started from.
        files.remove(build.folder)
        os.rename(draft, build.folder)
    finally:
        files.remove(scratch)
        files.remove(draft)
    say("{} is built ({:.0f} s)".format(what, time.monotonic() - started))


def prune() -> None:
    """Remove the builds that nobody needs: no release of a site, neither of the last two releases of the machine,
    no running process.
    """
    try:
        builds = _needed()
    except (OSError, ValueError):
        # Keep everything, because what this release needs is not known.
        return
    needed = {build.folder for build in builds}
    for folder in set(glob.glob(paths.BUILD_HOME + "/wheels-*")) - {wheels(build) for build in builds}:
        files.remove(folder)
    markers = [path for parent in paths.BUILD_FOLDERS for path in glob.glob(os.path.join(parent, "*", "built.json"))]
    programs = running() if markers else set()
    for marker in markers:
        folder = os.path.dirname(marker)
        is_used = any(program.startswith(folder + "/") for program in programs)
        if folder in needed or is_used or not is_ours(folder):
            continue
        link = folder[: -len("-" + _mark(folder)["version"])]
        if os.path.islink(link) and os.readlink(link) == folder:
            files.remove(link)
        # A folder that is half removed must not count as whole.
        files.remove(marker)
        files.remove(folder)


def _needed() -> List[Build]:
    """What the kept releases of all sites, and the last two of the machine, need. Raises OSError or ValueError."""
    found: List[Build] = []
    for path in glob.glob(os.path.join(paths.site_root("*"), "releases", "*", RELEASE_FILE)):
        found += files.document(Release, path).builds
    for path in glob.glob(os.path.join(paths.host_root(), "*", STATE_FILE)):
        found += files.document(HostState, path).builds
    return found


def _check_unused(build: Build) -> None:
    """Raise ReleaseError for a Python whose folder a kept release needs as it is: a program reads it while it runs."""
    try:
        old = _mark(build.folder)["sha256"]
        is_used = build.name == "python" and any(
            (other.folder, other.sha256) == (build.folder, old) for other in _needed()
        )
    except (OSError, ValueError, KeyError):
        return
    if is_used:
        raise ReleaseError(
            "{} was built from another archive, and a kept release runs on it".format(build.folder),
            then="set python.prefix to another folder, and run up again",
        )


@contextmanager
def _progress(what: str, say: Say) -> Iterator[None]:
    """Say now and then that a build is under way."""
    started, ended = time.monotonic(), threading.Event()

    def report() -> None:
        while not ended.wait(_SILENCE):
            say("still building {} ({:.0f} s)".format(what, time.monotonic() - started))

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _mark(folder: str) -> Dict[str, Any]:
    """What a folder was built of. Raises OSError or ValueError."""
    path = os.path.join(folder, "built.json")
    with open(path, encoding="utf-8") as file:
        mark = json.load(file)
    if not isinstance(mark, dict):
        raise ValueError("{} is not a JSON object".format(path))
    return mark


def is_ours(folder: str) -> bool:
    """Whether this tool made a folder: its mark is whole, belongs to root and names the folder's own version."""
    marker = os.path.join(folder, "built.json")
    try:
        mark = _mark(folder)
        return (
            not os.path.islink(folder)
            and os.stat(marker).st_uid == os.geteuid()
            and sorted(mark) == sorted(_MARKS)
            and folder.endswith("-" + mark["version"])
        )
    except (OSError, ValueError, TypeError):
        return False


def running() -> Set[str]:
    """Paths of the programs that run, in any process."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.add(os.readlink("/proc/{}/exe".format(name)))
            except OSError:
                # The process has ended, or is the kernel's.
                continue
    return found


def checked(build: Build, unpacked: Unpacked) -> bytes:
    """Content of the archive. Raises ReleaseError when its SHA-256 is another than the release says."""
    name = build.archive
    data = download(build) if "://" in name else unpacked.read(name)
    found = hashlib.sha256(data).hexdigest()
    if found != build.sha256:
        raise ReleaseError(
            "{}.sha256: {} has {}; allowed: {}".format(build.name, name, found, build.sha256),
            then="compare {0}.archive and {0}.sha256 with what its makers publish, and run up again".format(build.name),
        )
    return data


def download(build: Build) -> bytes:
    """Content of the archive's URL. Raises ReleaseError."""
    then = "check that the server reaches {}.archive, or set it to a file on your computer".format(build.name)
    try:
        # schema/text.py allows only HTTP and HTTPS.
        with urllib.request.urlopen(build.archive, timeout=_SECONDS) as answer:  # noqa: S310
            data = bytes(answer.read(_MOST_BYTES + 1))
    except (OSError, ValueError) as error:
        raise ReleaseError("{} cannot be downloaded: {}".format(build.archive, error), then=then) from error
    if len(data) > _MOST_BYTES:
        raise ReleaseError("{} is longer than {} bytes".format(build.archive, _MOST_BYTES), then=then)
    return data


def compiled(build: Build, archive: bytes, scratch: str, builder: Builder) -> str:
    """Unpack and build in the folder `scratch`. Returns the folder that holds what is to be installed."""
    packed, source, root = (os.path.join(scratch, name) for name in ("archive", "source", "root"))
    # The folder is the build user's: no link may be followed.
    with open(packed, "xb") as file:
        file.write(archive)
    staged = root + build.folder
    try:
        builder.run("mkdir", "-p", source, staged)
        builder.run("tar", "-xf", packed, "--strip-components=1", "-C", source)
        for command in _STEPS[build.name](build, root, staged):
            builder.run(*command, cwd=source)
        if build.name == "python":
            _check_python(build, staged, builder)
    except ReleaseError as error:
        what = "{} {} does not build: {}".format(build.name, build.version, error)
        then = "choose another {}.version, or fix its archive, and run up again".format(build.name)
        raise ReleaseError(what, error.lines, then) from error
    return staged


def _uwsgi(build: Build, root: str, staged: str) -> Iterator[List[str]]:
    """https://uwsgi-docs.readthedocs.io/en/latest/Install.html#installing-from-source"""
    yield [str(build.python), "uwsgiconfig.py", "--build"]
    yield ["install", "-D", "uwsgi", staged + "/bin/uwsgi"]


def _nginx(build: Build, root: str, staged: str) -> Iterator[List[str]]:
    """https://nginx.org/en/docs/configure.html"""
    yield ["./configure"] + build.options
    yield ["make", "-s", "-j{}".format(facts.cpus())]
    # Files below /etc and /var are not copied: the OS's package has installed its own.
    yield ["make", "-s", "install", "DESTDIR=" + root]


def _python(build: Build, root: str, staged: str) -> Iterator[List[str]]:
    """https://docs.python.org/3/using/configure.html"""
    options = list(build.options)
    if build.openssl:
        # ./configure looks for include/ and lib/ of one folder.
        links = os.path.join(os.path.dirname(root), "openssl")
        yield ["mkdir", links]
        headers, libraries = build.openssl
        yield ["ln", "-s", headers, links + "/include"]
        yield ["ln", "-s", libraries, links + "/lib"]
        options.append("--with-openssl=" + links)
    yield ["./configure", "-q"] + options
    # One compiler takes some 500 MiB, and what serves must not run out of memory.
    jobs = max(1, min(facts.cpus(), facts.memory() // 768))
    yield ["make", "-s", "-j{}".format(jobs)]
    yield ["make", "-s", "altinstall", "DESTDIR=" + root]


_STEPS = {"uwsgi": _uwsgi, "nginx": _nginx, "python": _python}


def _check_python(build: Build, staged: str, builder: Builder) -> None:
    """Raise ReleaseError for a Python of another version, or without a module: `make` succeeds without its headers."""
    program = "{}/bin/python{}".format(staged, ".".join(build.version.split(".")[:2]))
    if not os.path.exists(program):
        raise ReleaseError("the archive holds another version")
    found = builder.run(program, "-c", "import platform; print(platform.python_version())").strip()
    if found != build.version:
        raise ReleaseError("the archive holds {}".format(found))
    for module, package in sorted(build.modules.items()):
        try:
            builder.run(program, "-c", "import " + module)
        except ReleaseError as error:
            what = "the module {} is missing, which needs the package {} of the OS".format(module, package)
            raise ReleaseError(what, error.lines) from error


def install(staged: str, target: str) -> None:
    """Copy plain files and folders, which root owns and nobody else may write. Raises ReleaseError."""
    if os.path.realpath(staged) != staged:
        raise ReleaseError("{} leads elsewhere; what was built is not trusted".format(staged))
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
            # Python compares the time of a module with the time that its compiled file names.
            found = os.stat(path)
            os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
            files.own(copy, "root", 0o755 if found.st_mode & 0o100 else 0o644)
