"""Virtual environments: one for each set of requirements, built as a user who is not root.

venvs/<hash>/            made for (system, Python, pins, requirements), shared by the releases that agree
venvs/<hash>.sbom.json   its packages as CycloneDX has them, with licenses and what requires what
venvs/<hash>.freeze.txt  what pip installed there; written last, so an environment without it is incomplete

Python 3.6, standard library only.
"""

import contextlib
import glob
import hashlib
import json
import locale
import os
import pwd
import re
import shutil
import signal
import tempfile
import time
from typing import Any, Dict, Iterator, List, Set, Tuple

import credentials
import files
import handover
import hints
import sbom
import uv
from commands import ReleaseError, Say, run
from contract import paths
from contract.documents import APP_FOLDER, Build, Release
from contract.requirements import decode

_NAMED = re.compile(r"^\s*(?:-r|-c|--requirement\b|--constraint\b)[ =]*(\S+)", re.MULTILINE)
# Lines by which pip installs from the release itself, whose content is not in the text of the requirements.
_LOCAL = re.compile(
    r"^(?!\s*(?:-r|-c|--requirement|--constraint))"
    r"\s*(?:-e|--editable|(?:-f|--find-links)[ =]*(?![ =]|\w+:)|\.|file:|[^#:\n]*/)"
    r"|@\s*file:",
    re.MULTILINE,
)
# A folder that pip would install as a link to it.
_EDITABLE = re.compile(r"^([ \t]*)(?:-e|--editable)[ \t=]+(?!\S*:)", re.MULTILINE)


def names_only(pins: List[str]) -> List[str]:
    """`name==version` of each pin, without its hashes."""
    return [pin.split()[0] for pin in pins]


def make(release: Release, target: str, say: Say, secrets: Dict[str, str]) -> str:
    """The path of the virtual environment for a release, which is built unless it is there.

    target: folder in which the release is installed. secrets: of app.pip, as credentials.lent() takes them. Returns ""
    where the application does not run.
    """
    if not release.requirements:
        return ""
    if release.locked is None:
        texts = requirement_texts(os.path.join(target, APP_FOLDER, release.requirements))
    else:
        texts = [release.locked]
    builder = Builder()
    version = builder.run(release.python, "-c", "import sys; print(sys.version)")
    # An environment from before the pins had hashes stays.
    servers = names_only(release.server_pins)
    inputs: List[Any] = [release.system, version, names_only(release.build_pins), servers, texts]
    is_local = release.has_project or any(_LOCAL.search(text) for text in texts)
    # A Python that is built says nothing of its folder in its version.
    inputs += [build.folder for build in release.builds if build.name == "python"]
    if is_local:
        inputs.append(target)
    if credentials.addresses(secrets):
        inputs.append(credentials.addresses(secrets))
    path = os.path.join(paths.venvs(), hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16])
    # A release that served before may point to the environment of a Python that was updated since.
    files.link(path, os.path.join(target, "venv"))
    frozen = path + ".freeze.txt"
    if os.path.exists(frozen) and os.path.isdir(path):
        if not os.path.exists(_sbom(path)):
            # A version before SBOMs has made the environment.
            files.write(_sbom(path), sbom.text(path, version), 0o644)
        return path
    say("making a virtual environment with {}".format(" and ".join(servers + [release.requirements])))
    files.remove(frozen)
    builder.end_leftovers()
    credentials.remove_leftovers(builder)
    files.remove(path)
    os.mkdir(path, 0o755)
    try:
        _begin(builder, release, version, path)
        with _application(builder, os.path.join(target, APP_FOLDER), is_local, release) as (folder, requirements):
            # The dependencies of a project are those of its lock file.
            commands = [["-r", requirements]] + ([["--no-deps", "."]] if release.has_project else [])
            _install(builder, release, path, folder, commands, texts, secrets, say)
        freeze = builder.run(path + "/bin/pip", "freeze", "--disable-pip-version-check")
        files.write(_sbom(path), sbom.text(path, version), 0o644)
        # After a power failure there must be no list of an environment whose files are missing.
        os.sync()
        files.write(frozen, freeze, 0o644)
    except BaseException as error:
        files.remove(path)
        if isinstance(error, ReleaseError):
            usual = "fix {}, or the package index (server.mirrors.index), and run up again".format(release.requirements)
            error.then = hints.next_step(error.output, release.system) or usual
            credentials.mask(error, secrets)
        raise
    return path


def _sbom(venv: str) -> str:
    return venv + ".sbom.json"


def _begin(builder: "Builder", release: Release, version: str, venv: str) -> None:
    """Make an environment with the release's pins. Raises ReleaseError for a file that has another hash than its pin.

    version: sys.version of the release's Python. Where the bootstrap's environment has that Python and these pins, a
    copy of it is the same in a tenth of the time. Otherwise the app server is installed from the files that were
    checked: pip keeps what it has built of such a file, which for uWSGI saves its compilation, and keeps nothing of
    what it checks and builds at once.
    """
    own = []  # type: List[str]
    for build in release.builds:
        if build.name == "python":
            # pip would take a wheel of uWSGI that has the OS's Python in it, if the minor version is the same.
            own = ["--cache-dir=" + wheels(build), "--no-binary=uwsgi"]

    def pip(word: str, *arguments: str) -> None:
        builder.run(venv + "/bin/pip", word, "-q", "--disable-pip-version-check", *own, *arguments)

    pins = {paths.BUILD_PINS: release.build_pins, paths.SERVER_PINS: release.server_pins}
    texts = {name: "".join(line + "\n" for line in lines) for name, lines in pins.items()}
    bootstrap = os.path.join(paths.venvs(), paths.BOOTSTRAP)
    if _is_like(bootstrap, release.python, version, texts):
        builder.own(venv)
        builder.run("cp", "-a", bootstrap + "/.", venv)
        # The programs and the settings of an environment name its folder.
        named = builder.run("grep", "-rlIF", bootstrap, venv + "/bin", venv + "/pyvenv.cfg").splitlines()
        builder.run("sed", "-i", "s|{}|{}|g".format(bootstrap, venv), *named)
        return
    # Root writes them before the folder is the build user's, who could put links there.
    for name, text in texts.items():
        files.write(os.path.join(venv, name), text, 0o644)
    builder.own(venv)
    builder.run(release.python, "-m", "venv", venv)
    # CentOS 7 begins with pip 9, which knows no newer option.
    pip("install", "-r", os.path.join(venv, paths.BUILD_PINS))
    if release.server_pins:
        server = os.path.join(venv, paths.SERVER_PINS)
        pip("download", "--no-deps", "--no-build-isolation", "-d", paths.PINNED, "-r", server)
        names = names_only(release.server_pins)
        pip("install", "--no-index", "--no-build-isolation", "-f", paths.PINNED, *names)


def wheels(python: Build) -> str:
    """Folder in the build user's home for the wheels that belong to a Python from source alone."""
    return paths.BUILD_HOME + "/wheels-" + hashlib.sha256((python.folder + python.sha256).encode()).hexdigest()[:16]


def _is_like(venv: str, python: str, version: str, texts: Dict[str, str]) -> bool:
    """Whether an environment was made of a Python, of that version, with the pins of `texts` and no others."""
    names = ("pyvenv.cfg", paths.BUILD_PINS, paths.SERVER_PINS)
    settings, *own = (files.text(os.path.join(venv, name)) or "" for name in names)
    # https://docs.python.org/3/library/venv.html#how-venvs-work
    made_of = {"home = " + os.path.dirname(python), "version = " + version.partition(" ")[0]}
    return made_of <= set(settings.splitlines()) and own == [texts[name] for name in names[1:]]


def kept(target: str) -> str:
    """The virtual environment that the release in `target` has had, "" when it or its Python is gone."""
    path = os.path.realpath(os.path.join(target, "venv"))
    is_whole = os.path.exists(path + ".freeze.txt") and os.access(path + "/bin/python", os.X_OK)
    return path if is_whole else ""


def _install(
    builder: "Builder",
    release: Release,
    venv: str,
    folder: str,
    commands: List[List[str]],
    texts: List[str],
    secrets: Dict[str, str],
    say: Say,
) -> None:
    """Install the application's requirements, with uv where it does as pip. Says which of them it was, and why.

    folder: where relative paths begin. commands: arguments of `install`, one list for each run. Raises ReleaseError.
    """
    started, pip = time.monotonic(), venv + "/bin/pip"
    reason = uv.reason_for_pip(texts) if release.uv else "uv needs a newer Python"
    own = None
    if not reason:
        try:
            own = uv.Uv(builder, release.uv, pip)
        except ReleaseError:
            reason = "uv cannot be installed from the package index"
    with credentials.lent(builder, secrets, release.system, pip) as variables:
        if own:
            # If one requirement has a hash, pip wants one of each.
            strict = ["--require-hashes"] if any("--hash" in text for text in texts) else []
            reason = own.install(venv, folder, [commands[0] + strict] + commands[1:], variables)
            if not reason:
                say("{} has installed the requirements ({:.0f} s)".format(own.name, time.monotonic() - started))
                return
        say("pip installs the requirements: {}".format(reason))
        for command in commands:
            # pip looks for a relative path where it runs.
            builder.run(pip, "install", "-q", "--disable-pip-version-check", *command, cwd=folder, variables=variables)
        say("pip has installed the requirements ({:.0f} s)".format(time.monotonic() - started))


@contextlib.contextmanager
def _application(builder: "Builder", folder: str, is_local: bool, release: Release) -> Iterator[Tuple[str, str]]:
    """The application's folder as pip may use it, and its requirements file.

    The folder is a copy that the build user owns, if pip builds what is in it.

    A build writes beside its sources, and the release stays as it was sent. The copy is removed afterwards, so its
    projects are not installed as links to it (-e).
    """
    requirements = str(release.requirements)
    if not is_local and release.locked is None:
        yield folder, os.path.join(folder, requirements)
        return
    # What the build of a server's package has left running could exchange the copy while root makes it.
    builder.end_leftovers()
    for left in glob.glob(os.path.join(builder.user.pw_dir, "application-*")):
        files.remove(left)
    scratch = tempfile.mkdtemp(prefix="application-", dir=builder.user.pw_dir)
    try:
        copy = folder
        if is_local:
            copy = os.path.join(scratch, "app")
            shutil.copytree(folder, copy, symlinks=True)
        requirements = os.path.join(copy, requirements)
        if release.locked is not None:
            requirements = os.path.join(scratch, "requirements.txt")
            with open(requirements, "w", encoding="utf-8") as file:
                file.write(release.locked)
        for path, text in requirement_files(requirements) if release.locked is None else []:
            linked = _EDITABLE.sub(r"\1", text)
            if linked != text:
                # The byte order mark outweighs a coding comment.
                with open(path, "w", encoding="utf-8-sig") as file:
                    file.write(linked)
        builder.take(scratch)
        yield copy, requirements
    finally:
        files.remove(scratch)


def used() -> Set[str]:
    """Names of the environments that the releases of all sites have."""
    found = set()
    for site in files.site_names():
        releases = os.path.join(paths.site_root(site), "releases")
        for name in os.listdir(releases):
            found.add(os.path.basename(os.path.realpath(os.path.join(releases, name, "venv"))))
    return found


def prune(names: Set[str]) -> None:
    """Remove the environments that are not among `names`."""
    for name in os.listdir(paths.venvs()):
        # A server without a release needs the bootstrap's environment.
        if name.split(".")[0] not in names | {paths.BOOTSTRAP}:
            # The list goes first, because an environment that is half removed must not count as whole.
            files.remove(os.path.join(paths.venvs(), name.split(".")[0] + ".freeze.txt"))
            files.remove(os.path.join(paths.venvs(), name))


def requirement_texts(path: str) -> List[str]:
    """Texts of a requirements file and of the files that it names with -r or -c: they decide what is installed."""
    return [text for _, text in requirement_files(path)]


def requirement_files(path: str, seen: Tuple[str, ...] = ()) -> List[Tuple[str, str]]:
    """Path and text of a requirements file and of the files that it names with -r or -c. Raises ReleaseError."""
    try:
        text = _text(path)
    except OSError as error:
        raise ReleaseError(
            "the release has no requirements file: {}".format(error),
            then="set app.requirements to a file in the application's folder, and run up again",
        ) from error
    found = [(path, text)]
    for name in _NAMED.findall(text):
        named = os.path.normpath(os.path.join(os.path.dirname(path), name))
        if named != path and named not in seen and os.path.isfile(named):
            found += requirement_files(named, (*seen, path))
    return found


def _text(path: str) -> str:
    """Text of a requirements file. pip itself refuses what cannot be decoded."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        return decode(data)
    except ValueError:
        return data.decode("utf-8", "backslashreplace")


class Builder:
    """Runs programs as the build user: code from a package index never runs as root."""

    NAME = paths.BUILD_USER

    def __init__(self) -> None:
        self.user = pwd.getpwnam(self.NAME)

    def own(self, path: str) -> None:
        os.chown(path, self.user.pw_uid, self.user.pw_gid, follow_symlinks=False)

    def take(self, folder: str) -> None:
        """Own a folder and its files, but no link: a persistent path of a release is one into its site's data."""
        handover.give(folder, self.NAME)

    def end_leftovers(self) -> None:
        """End the processes that a killed run left: they would write into the new environment."""
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    if os.stat("/proc/" + name).st_uid == self.user.pw_uid:
                        os.kill(int(name), signal.SIGKILL)
                except OSError:
                    continue

    def run(self, *command: str, **options: Any) -> str:
        """Run a command as the build user. options: of subprocess.run, and variables (its environment has them too)."""

        def become() -> None:
            os.setsid()
            os.umask(0o022)
            os.initgroups(self.NAME, self.user.pw_gid)
            os.setgid(self.user.pw_gid)
            os.setuid(self.user.pw_uid)

        environment = {"HOME": self.user.pw_dir, "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": utf8_locale()}
        for name, value in os.environ.items():
            if name.lower().endswith("_proxy") or name.startswith("PIP_"):
                environment[name] = value
        environment.update(options.pop("variables", {}))
        options.setdefault("cwd", "/")
        return run(*command, preexec_fn=become, env=environment, **options)


def utf8_locale() -> str:
    """A locale with UTF-8, which the setup.py of many packages needs; CentOS 7 has no C.UTF-8."""
    before = locale.setlocale(locale.LC_CTYPE)
    for name in ("C.UTF-8", "en_US.UTF-8"):
        try:
            locale.setlocale(locale.LC_CTYPE, name)
        except locale.Error:
            continue
        locale.setlocale(locale.LC_CTYPE, before)
        return name
    return "C"
