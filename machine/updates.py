"""Security updates of the OS, which a timer installs in its window. Nothing that serves is restarted.

    release.py updates                                  what the timer runs
    /etc/systemd/system/wsgi-ecs-updates.timer, .service
    /etc/apt/apt.conf.d/99-wsgi-ecs-updates             which updates, and which packages are left out (Debian, Ubuntu)
    /etc/wsgi-ecs/updates.json                          what the run needs to know
    /var/lib/wsgi-ecs/updates.json                      what became of the last run, for `status`

Python 3.6, standard library only.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from typing import Any, Dict, Iterator, List, Optional, Set

import files
import lock
import packages
import timers
from commands import SIGNALS, Interrupted, ReleaseError, Say, describe, run
from contract.codec import decode
from contract.documents import CONFIG_FOLDER
from contract.updates import UPDATES_FILE, Updates, UpdatesState
from revive import revive
from unpacked import Unpacked

_UNIT = "wsgi-ecs-updates"
_TIMER, _SERVICE = _UNIT + ".timer", _UNIT + ".service"
APT = "/etc/apt/apt.conf.d/99-wsgi-ecs-updates"
KNOWN = "/etc/wsgi-ecs/updates.json"
STATE = "/var/lib/wsgi-ecs/updates.json"
# The settings of apt for a run.
APT_OF_RUN = "/run/wsgi-ecs-updates.conf"
# Seconds in which the updates are downloaded and installed, and in which the current package is finished after that.
_SECONDS, _STOP_SECONDS = 1800, 600
# Scripts of Debian's packages ask it before they start or stop a service. nginx-common restarts nginx as it is
# upgraded; nginx itself asks for `upgrade`, which changes the binary and closes no connection.
POLICY = "/usr/sbin/policy-rc.d"
_MARK = "# Written by wsgi-ecs while it installs security updates"
_POLICY = """#!/bin/sh
{}.
case ${{1%.service}}:$2 in
nginx:restart | supervisor:restart | mariadb:restart | redis-server:restart) [ ! -d /proc/{} ] || exit 101 ;;
esac
exit 0
"""
# A line of apt-get --simulate: Inst supervisor [4.2.5-1] (4.2.5-2 Debian-Security:12/stable-security [all])
_APT_LINE = re.compile(r"^Inst (\S+) (?:\[[^]]*\] )?\(\S+ ([^\[)]*)", re.MULTILINE)
# A line of dnf check-update: nginx.x86_64    1:1.20.1-2.al8    alinux3-updates
_DNF_LINE = re.compile(r"^(\S+)\.\w+ +\S+ +\S+$", re.MULTILINE)


def place(unpacked: Unpacked, say: Say) -> List[str]:
    """Have the timer run as the release says, or end it. Returns the paths of the files. Raises ReleaseError."""
    text = unpacked.text(CONFIG_FOLDER + UPDATES_FILE)
    updates = decode(Updates, text)
    others = {APT: updates.apt, KNOWN: text if updates.timer else ""}
    for path, wanted in others.items():
        if not wanted:
            files.remove(path)
        elif files.text(path) != wanted:
            files.write(path, wanted, 0o644)
    written = [path for path, wanted in others.items() if wanted]
    if updates.timer:
        return sorted(written + timers.place(_TIMER, _SERVICE, {_TIMER: updates.timer, _SERVICE: updates.service}))
    if timers.remove(_TIMER, _SERVICE):
        say("no security updates are installed any more")
    files.remove(STATE)
    return written


def command(say: Say) -> int:
    """Install the security updates, and note what became of them. Returns the exit status. Raises Interrupted."""
    try:
        known = files.document(Updates, KNOWN)
    except (OSError, ValueError):
        say("server.security_updates is not set, so no updates are installed")
        return 1
    try:
        # A release meanwhile would start programs while their libraries change, and find dpkg's lock taken. While nginx
        # changes its binary, a switch would stop the old programs under workers that nobody counts.
        with lock.acquire_lock(lock.LOCK_SECONDS + _SECONDS + _STOP_SECONDS, "security updates"):
            state = _update(known, say)
    except ReleaseError as error:
        # The other run goes on for longer than this one waits.
        state = UpdatesState(int(time.time()), [], _waiting(known), describe(error))
        files.write_document(STATE, state, 0o644)
        say("security updates failed: {}".format(state.failed))
    # A package may have stopped what it should not have stopped.
    revive(say, stopped_too=False)
    return 1 if state.failed else 0


def _update(known: Updates, say: Say) -> UpdatesState:
    """Install the security updates. The caller has the lock. Raises Interrupted after it has noted what it did."""
    earlier, before, failed = last(), _installed(known), ""
    # A run that hangs or is killed leaves this.
    began = UpdatesState(int(time.time()), [], earlier.waiting if earlier else [], ended=False)
    files.write_document(STATE, began, 0o644)
    interrupted: Optional[Interrupted] = None
    try:
        if known.packages.manager == "apt-get":
            packages.update(known.packages, say)
            packages.install(known.packages, say)
            before = _installed(known)
        _install(known, say)
    except (ReleaseError, OSError, Interrupted) as error:
        interrupted = error if isinstance(error, Interrupted) else None
        failed = describe(error)
        say("security updates failed: {}\n{}".format(failed, getattr(error, "lines", "")))
    names = sorted({line.split()[0] for line in _installed(known) - before})
    state = UpdatesState(int(time.time()), names, _waiting(known), failed)
    files.write_document(STATE, state, 0o644)
    say("security updates installed: {}".format(" ".join(names) or "none"))
    if state.waiting:
        say("security updates that are left to you: {}".format(" ".join(state.waiting)))
    if interrupted:
        raise interrupted
    return state


def _install(known: Updates, say: Say) -> None:
    if known.packages.manager == "apt-get":
        with _without_restarts(), _apt_options() as variables:
            said = _run_within_bounds("unattended-upgrade", "-v", env=dict(packages.environment(), **variables))
    else:
        options = ["-y", *packages.options(known.packages), "upgrade", "--security"]
        options += ["--exclude=" + name for name in known.left_out]
        said = _run_within_bounds(known.packages.manager, *options, env=packages.environment())
    for line in said.splitlines():
        if not line.startswith("(Reading database"):
            say(line)


def _run_within_bounds(*command: str, **options: Any) -> str:
    """Run a package manager, which a signal ends after its current package. Returns its output. Raises ReleaseError.

    A signal to this tool is passed on, and the package manager's end is awaited.
    """
    # With --foreground the signal reaches neither dpkg nor rpm, which it would end in the middle of a package.
    bounds = ("timeout", "--foreground", "-k", str(_STOP_SECONDS), str(_SECONDS))
    # What the command has started may outlive it, and would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            bounds + command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options
        )
        try:
            status = process.wait()
        except Interrupted:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            process.terminate()
            process.wait()
            raise
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
    if status == 0:
        return said
    what = "{} ended with {}".format(command[0], status)
    if status in (124, 128 + signal.SIGKILL):
        what = "{} did not end within {} seconds".format(command[0], _SECONDS)
    raise ReleaseError(what, "\n".join(said.splitlines()[-40:]))


@contextlib.contextmanager
def _apt_options() -> Iterator[Dict[str, str]]:
    """The variables with which unattended-upgrade has the options of apt-get in a release: it takes none itself."""
    texts = [option.partition("=") for option in packages.APT_OPTIONS if option != "-o"]
    files.write(APT_OF_RUN, "".join('{} "{}";\n'.format(name, value) for name, _, value in texts), 0o644)
    try:
        yield {"APT_CONFIG": APT_OF_RUN}
    finally:
        files.remove(APT_OF_RUN)


@contextlib.contextmanager
def _without_restarts() -> Iterator[None]:
    """Keep scripts of packages from restarting what serves. A policy of somebody else stays as it is."""
    found = files.text(POLICY)
    if found is not None and _MARK not in found:
        yield
        return
    files.write(POLICY, _POLICY.format(_MARK, os.getpid()), 0o755)
    try:
        yield
    finally:
        files.remove(POLICY)


def _installed(known: Updates) -> Set[str]:
    """A line with name and version for each installed package."""
    if known.packages.manager == "apt-get":
        listed = run("dpkg-query", "-W", "-f", "${Package} ${Version}\\n", env=packages.environment())
    else:
        listed = run("rpm", "-qa", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\\n", env=packages.environment())
    return set(listed.splitlines())


def _waiting(known: Updates) -> List[str]:
    """The packages whose security updates are not installed."""
    if known.packages.manager == "apt-get":
        said = run("apt-get", "-s", "-q", "dist-upgrade", env=packages.environment(), check=False)
        return sorted({name for name, origin in _APT_LINE.findall(said) if "security" in origin.lower()})
    options = packages.options(known.packages)
    said = run(
        known.packages.manager, "-q", "-C", *options, "check-update", "--security", env=packages.environment(),
        check=False,
    )  # fmt: skip
    return sorted(set(_DNF_LINE.findall(said)))


def last() -> Optional[UpdatesState]:
    """What became of the last run, None before the first."""
    try:
        return files.document(UpdatesState, STATE)
    except (OSError, ValueError):
        return None
