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
import time
from typing import Iterator, List, Optional, Set

import drop_ins
import files
import packages
from commands import ReleaseError, Say, describe, run
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
    new = {APT: updates.apt, _path(_SERVICE): updates.service, _path(_TIMER): updates.timer}
    new[KNOWN] = text if updates.timer else ""
    changed = [path for path, wanted in new.items() if (files.text(path) or "") != wanted]
    if _path(_TIMER) in changed and not updates.timer:
        run("systemctl", "disable", "-q", "--now", _TIMER, check=False)
        files.remove(STATE)
        say("no security updates are installed any more")
    for path in changed:
        if new[path]:
            files.write(path, new[path], 0o644)
        else:
            files.remove(path)
    if changed:
        run("systemctl", "daemon-reload")
    if updates.timer:
        run("systemctl", "enable", "-q", _TIMER)
        # A timer that starts anew in its own window would skip this night.
        run("systemctl", "restart" if _path(_TIMER) in changed else "start", _TIMER)
    return sorted(path for path, wanted in new.items() if wanted)


def _path(unit: str) -> str:
    return os.path.join(drop_ins.UNITS, unit)


def command(say: Say) -> int:
    """Install the security updates, and note what became of them. Returns the exit status."""
    try:
        known = files.document(Updates, KNOWN)
    except (OSError, ValueError):
        say("server.security_updates is not set, so no updates are installed")
        return 1
    before, failed = _installed(known), ""
    try:
        if known.packages.manager == "apt-get":
            packages.update(known.packages, say)
            packages.install(known.packages, say)
            before = _installed(known)
        _install(known, say)
    except (ReleaseError, OSError) as error:
        failed = describe(error)
        say("security updates failed: {}\n{}".format(failed, getattr(error, "lines", "")))
    names = sorted({line.split()[0] for line in _installed(known) - before})
    state = UpdatesState(int(time.time()), names, _waiting(known), failed)
    files.write_document(STATE, state, 0o644)
    say("security updates installed: {}".format(" ".join(names) or "none"))
    if state.waiting:
        say("security updates that are left to you: {}".format(" ".join(state.waiting)))
    # A package may have stopped what it should not have stopped.
    revive(say, stopped_too=False)
    return 1 if failed else 0


def _install(known: Updates, say: Say) -> None:
    if known.packages.manager == "apt-get":
        with _without_restarts():
            said = run("unattended-upgrade", "-v", env=packages.environment())
    else:
        command = ["upgrade", "--security", *("--exclude=" + name for name in known.left_out)]
        said = run(
            known.packages.manager, "-y", *packages.options(known.packages), *command, env=packages.environment()
        )
    for line in said.splitlines():
        if not line.startswith("(Reading database"):
            say(line)


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
