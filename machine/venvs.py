"""Virtual environments: one for each set of requirements, built as a user who is not root.

venvs/<hash>/            made for (system, Python, pins, requirements), shared by the releases that agree
venvs/<hash>.freeze.txt  what pip installed there; written last, so without it the environment is no good

Python 3.6, standard library only.
"""

import hashlib
import json
import locale
import os
import pwd
import re
import signal

import files
from servers import ReleaseError, run

_NAMED = re.compile(r"^\s*(?:-r|-c|--requirement\b|--constraint\b)[ =]*(\S+)", re.MULTILINE)
# What pip takes from the release itself: its content is not in the text of the requirements.
_LOCAL = re.compile(
    r"^(?!\s*(?:-r|-c|--requirement|--constraint))"
    r"\s*(?:-e|--editable|(?:-f|--find-links)[ =]*(?![ =]|\w+:)|\.|file:|[^#:\n]*/)"
    r"|@\s*file:",
    re.MULTILINE,
)


def folder():
    return os.path.join(files.ROOT, "venvs")


def make(release, target, say):
    """The environment of the release installed in `target`, built when there is none. Returns its path."""
    requirements = os.path.join(target, "app", release["requirements"])
    texts = requirement_texts(requirements)
    builder = Builder()
    version = builder.run(release["python"], "-c", "import sys; print(sys.version)")
    inputs = [release["system"], version, release["build_pins"], release["server_pins"], texts]
    if any(_LOCAL.search(text) for text in texts):
        inputs.append(target)
    path = os.path.join(folder(), hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16])
    # An older release may point to the environment of a Python that was updated since.
    files.link(path, os.path.join(target, "venv"))
    frozen = path + ".freeze.txt"
    if os.path.exists(frozen) and os.path.isdir(path):
        return path
    names = release["server_pins"] + [release["requirements"]]
    say("making a virtual environment with {}".format(" and ".join(names)))
    files.remove(frozen)
    builder.end_leftovers()
    files.remove(path)
    os.mkdir(path, 0o755)
    try:
        builder.own(path)
        builder.run(release["python"], "-m", "venv", path)
        # CentOS 7 begins with pip 9: no option that a later one brought.
        pip = [path + "/bin/pip", "install", "-q", "--disable-pip-version-check"]
        builder.run(*(pip + release["build_pins"]))
        if release["server_pins"]:
            builder.run(*(pip + ["--no-build-isolation"] + release["server_pins"]))
        builder.run(*(pip + ["-r", requirements]), cwd=os.path.dirname(requirements))
        freeze = builder.run(path + "/bin/pip", "freeze", "--disable-pip-version-check")
        # A machine that loses its power must not keep the mark of a whole environment without the files.
        os.sync()
        files.write(frozen, freeze, 0o644)
    except BaseException as error:
        files.remove(path)
        if isinstance(error, ReleaseError):
            error.then = "mend {}, or the index (server.mirrors.index), and run up again".format(
                release["requirements"]
            )
        raise
    return path


def used():
    """Names of the environments that the releases of all sites have."""
    found = set()
    for site in files.sites():
        releases = os.path.join(files.site_root(site), "releases")
        for name in os.listdir(releases):
            found.add(os.path.basename(os.path.realpath(os.path.join(releases, name, "venv"))))
    return found


def prune(names):
    """Remove the environments that are not among `names`."""
    for name in os.listdir(folder()):
        # The bootstrap's own is kept: a server without a release needs it.
        if name.split(".")[0] not in names | {"bootstrap"}:
            # The list goes first: an environment that is half removed must not count as whole.
            files.remove(os.path.join(folder(), name.split(".")[0] + ".freeze.txt"))
            files.remove(os.path.join(folder(), name))


def requirement_texts(path, seen=()):
    """Text of a requirements file and of those it names with -r or -c, as they decide what is installed."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8", "backslashreplace")
    except OSError as error:
        raise ReleaseError(
            "the release has no requirements file: {}".format(error),
            then="name it in app.requirements, from the application's folder, and run up again",
        ) from error
    texts = [text]
    for name in _NAMED.findall(text):
        named = os.path.normpath(os.path.join(os.path.dirname(path), name))
        if named != path and named not in seen and os.path.isfile(named):
            texts += requirement_texts(named, (*seen, path))
    return texts


class Builder:
    """Runs programs as the build user: code from a package index never runs as root."""

    NAME = "wsgi-build"

    def __init__(self):
        self.user = pwd.getpwnam(self.NAME)

    def own(self, path):
        os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def end_leftovers(self):
        """End what a killed run left building: it would write into the new environment."""
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    if os.stat("/proc/" + name).st_uid == self.user.pw_uid:
                        os.kill(int(name), signal.SIGKILL)
                except OSError:
                    continue

    def run(self, *command, **options):
        def become():
            os.setsid()
            os.umask(0o022)
            os.initgroups(self.NAME, self.user.pw_gid)
            os.setgid(self.user.pw_gid)
            os.setuid(self.user.pw_uid)

        environment = {"HOME": self.user.pw_dir, "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": utf8_locale()}
        environment.update(options.pop("variables", {}))
        for name, value in os.environ.items():
            if name.lower().endswith("_proxy") or name.startswith("PIP_"):
                environment[name] = value
        options.setdefault("cwd", "/")
        return run(*command, preexec_fn=become, env=environment, **options)


def utf8_locale():
    """A locale whose text is UTF-8, which the setup.py of many a package needs; CentOS 7 has no C.UTF-8."""
    before = locale.setlocale(locale.LC_CTYPE)
    for name in ("C.UTF-8", "en_US.UTF-8"):
        try:
            locale.setlocale(locale.LC_CTYPE, name)
        except locale.Error:
            continue
        locale.setlocale(locale.LC_CTYPE, before)
        return name
    return "C"
