"""Packages of the OS that the application or Redis needs, installed on the running machine.

Python 3.6, standard library only.
"""

import os
import re
import time
from typing import Any, List

from commands import ReleaseError, Say, run
from contract.service_documents import Packages

# Seconds in which another run of the package manager ends, and a source answers again.
SECONDS = 300
_PAUSE = 5
_ANSWER_SECONDS = 900
# What another try may mend: locks of another run, and sources that do not answer.
_PASSING = re.compile(
    "Could not get lock|Unable to (?:acquire|lock)|is another process using it|[Tt]emporary failure|[Tt]imed out"
    "|Could not (?:resolve|connect|retrieve)|Connection (?:failed|refused|reset)|Failed to (?:fetch|download)"
    "|Cannot download|No more mirrors|Curl error|Cannot find a valid baseurl|Hash Sum mismatch|File has unexpected size"
)
_UNKNOWN = re.compile(
    "Unable to locate package (\\S+)|Package '?([^'\\s]+)'? has no installation candidate"
    "|No (?:package|match for argument:) (\\S+)(?: available)?|Unable to find a match: (.+)"
)
# A repository of yum or dnf that does not hand out its packages, and one whose key did not sign them.
_UNUSABLE = re.compile(r"for repo '([^'\n]+)'|failure: \S+ from ([^:\s]+):")
_UNSIGNED = re.compile('listed for the "([^"\\n]+)" repository are already installed but')
# The same of a single package, for which neither says its repository.
_NOT_DOWNLOADED = re.compile("Error downloading packages:")
_NO_KEY = re.compile("Public key for \\S+ is not installed|GPG key retrieval failed|GPG Keys are configured as:")
# The repository of EPEL's packages that the bootstrap makes; an image may have an `epel` of its own.
_EPEL = "wsgi-ecs-epel"
_INTERRUPTED = re.compile("dpkg was interrupted|dpkg --configure -a")
APT_OPTIONS = (
    "-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10",
    "-o", "Acquire::https::Timeout=10",
)  # fmt: skip


def install(packages: Packages, say: Say) -> None:
    """Install what is missing. Raises ReleaseError; what the machine had stays."""
    names = missing(packages)
    if not names:
        return
    started = time.monotonic()
    say("installing packages of the OS: {}".format(" ".join(names)))
    if packages.manager == "apt-get":
        # A server that has run for long knows only versions that its source may have no longer.
        update(packages, say)
        _check_known(packages, names)
        _persist(packages, ["install", "-y", "-q", *APT_OPTIONS, "--no-install-recommends", "--no-remove", *names], say)
    else:
        _persist(packages, ["-y", *options(packages), "install", *names], say)
    # yum of CentOS 7 succeeds when it finds one of several.
    absent = missing(packages)
    if absent:
        raise _no_package(packages, absent)
    say("packages of the OS are installed ({:.0f} s)".format(time.monotonic() - started))


def update(packages: Packages, say: Say) -> None:
    """Have apt read the lists of its sources. Raises ReleaseError."""
    _persist(packages, ["update", "-q", *APT_OPTIONS, "-o", "APT::Update::Error-Mode=any"], say)


def options(packages: Packages) -> List[str]:
    """Options of yum or dnf on this machine."""
    return [option.replace("$basearch", os.uname().machine) for option in packages.options]


def missing(packages: Packages) -> List[str]:
    """The names that are not installed, neither as packages nor by one that provides them."""
    if packages.manager != "apt-get":
        # rpm prints a line for each name that it does not find, and for each that it does.
        return [name for name in packages.names if not (_is_there("--whatprovides", name) or _is_there(name))]
    format_ = "${Package} ${db:Status-Abbrev}\\n"
    listed = run("dpkg-query", "-W", "-f", format_, *packages.names, check=False, env=environment())
    there = {line.split()[0] for line in listed.splitlines() if line.split()[1:2] == ["ii"]}
    if not there.issuperset(packages.names):
        listed = run("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Provides}\\n", check=False, env=environment())
        found = [line[2:] for line in listed.splitlines() if line.startswith("ii")]
        there.update(part.split()[0] for line in found for part in line.split(",") if part.split())
    return [name for name in packages.names if name not in there]


def _is_there(*asked: str) -> bool:
    """Whether rpm knows an installed package."""
    listed = run("rpm", "-q", *asked, check=False, env=environment())
    return not re.search("no package provides|is not installed", listed)


def _check_known(packages: Packages, names: List[str]) -> None:
    """Raise ReleaseError for a name that apt does not know: it would read it as a pattern, or as a removal."""
    listed = run("apt-cache", "showpkg", *names, check=False, env=environment())
    known = {line[len("Package: ") :].strip() for line in listed.splitlines() if line.startswith("Package: ")}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise _no_package(packages, unknown)


def _no_package(packages: Packages, names: List[str], lines: str = "") -> ReleaseError:
    what = "{} has no package {}".format(packages.system, ", ".join(dict.fromkeys(names)))
    then = "fix {}, and run up again".format(_setting(packages))
    settings = sorted({packages.asked_by[name] for name in names if name in packages.asked_by})
    if settings:
        what += ", which {} needs".format(" and ".join(settings))
        then = "set server.mirrors.packages, or epel, to a source that has it, and run up again"
    return ReleaseError(what, lines, then)


def _setting(packages: Packages) -> str:
    return "server.packages, or server.packages_of.{} where the names differ".format(packages.system)


def _persist(packages: Packages, arguments: List[str], say: Say) -> None:
    """Run the package manager again while it fails by something that passes. Raises ReleaseError."""
    deadline = time.monotonic() + SECONDS
    is_repaired = False
    while True:
        try:
            # apt 2.6 may wait for ever for a retry of its own that never comes.
            run("timeout", str(_ANSWER_SECONDS), packages.manager, *arguments, env=environment())
            return
        except ReleaseError as error:
            if _INTERRUPTED.search(error.lines) and not is_repaired:
                is_repaired = True
                say("finishing what an interrupted run of dpkg left")
                run("dpkg", "--configure", "-a", env=environment(), check=False)
                continue
            if not _PASSING.search(error.lines) or _unknown(error.lines) or time.monotonic() > deadline:
                raise refusal(packages, error) from error
        say("the package manager is busy or a source does not answer; trying again")
        time.sleep(_PAUSE)


def _unknown(lines: str) -> List[str]:
    return [name for found in _UNKNOWN.findall(lines) for part in found for name in part.split()]


def refusal(packages: Packages, error: ReleaseError) -> ReleaseError:
    """What the user reads when the package manager has failed: its last lines, and the setting to change."""
    unknown = _unknown(error.lines)
    # Only the end explains it: before it the package manager lists what it has done.
    lines = "\n".join(error.lines.splitlines()[-12:])
    if unknown:
        return _no_package(packages, unknown, lines)
    for pattern, words in (
        (_UNUSABLE, "the repository {} does not hand out its packages"),
        (_UNSIGNED, "a package is not signed by the key of the repository {}"),
        (_NOT_DOWNLOADED, "a repository does not hand out a package that it lists"),
        (_NO_KEY, "a package is not signed by the key of its repository"),
    ):
        found = pattern.search(error.lines)
        if found:
            name = next(filter(None, found.groups()), "")
            setting = "server.mirrors.{}".format("epel" if name == _EPEL else "packages")
            if not name:
                setting += ", or server.mirrors.epel where EPEL has the package"
            return ReleaseError(words.format(name), lines, "fix {}, and run up again".format(setting))
    what = "the packages of the OS cannot be installed: {}".format(error)
    then = "read the lines above; fix {}, or server.mirrors.packages, and run up again".format(_setting(packages))
    return ReleaseError(what, lines, then)


def environment() -> Any:
    # needrestart, on Ubuntu, would restart services or ask which.
    return dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C", NEEDRESTART_SUSPEND="1")
