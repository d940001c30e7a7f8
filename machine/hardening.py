"""What a server gets whatever runs on it: sshd without passwords and old algorithms, a journal with a limit, the time.

    /etc/ssh/sshd_config.d/10-wsgi-ecs.conf    where sshd reads that folder
    /etc/ssh/sshd_config                       elsewhere (CentOS 7): lines between two marks, at its beginning
    /etc/systemd/journald.conf.d/wsgi-ecs.conf

Python 3.6, standard library only.
"""

import os
import re
import stat
from typing import List

import files
import metadata
from commands import ReleaseError, Say, run
from contract.documents import CONFIG_FOLDER, JOURNALD_FILE, SSHD_FILE
from unpacked import Unpacked

SSHD_CONFIG = "/etc/ssh/sshd_config"
SSHD_DROP_IN = "/etc/ssh/sshd_config.d/10-wsgi-ecs.conf"
JOURNALD_DROP_IN = "/etc/systemd/journald.conf.d/wsgi-ecs.conf"
_SSHD = "/usr/sbin/sshd"
_UNITS = ("ssh", "sshd")
# Services that set the clock, by the names that systems give them.
_CLOCKS = ("chronyd", "chrony", "systemd-timesyncd", "ntpd", "ntp", "ntpsec")
# systemd writes this file in a container, whose clock is its host's.
CONTAINER = "/run/systemd/container"
# Directives whose value is a list of names, of which a version of sshd refuses those that it does not know.
_LISTS = ("KexAlgorithms", "Ciphers", "MACs", "HostKeyAlgorithms")
_FIRST, _LAST = "# wsgi-ecs: first line", "# wsgi-ecs: last line"
_BLOCK = re.compile("^{}\n.*?^{}\n".format(_FIRST, _LAST), re.MULTILINE | re.DOTALL)
_INCLUDE = re.compile(r"^\s*Include\s+(/etc/ssh/)?sshd_config\.d/\*\.conf\s*$", re.MULTILINE | re.IGNORECASE)


def place(unpacked: Unpacked, say: Say) -> List[str]:
    """Bring sshd and the journal to what the release says. Returns the paths of the files that are the tool's alone."""
    _set_clock(say)
    written = _sshd(unpacked.text(CONFIG_FOLDER + SSHD_FILE), say)
    written += metadata.place(unpacked, say)
    return written + _journald(unpacked.text(CONFIG_FOLDER + JOURNALD_FILE))


def _sshd(text: str, say: Say) -> List[str]:
    main = files.text(SSHD_CONFIG)
    if main is None or not os.path.exists(_SSHD):
        return []
    text = known_to_sshd(text)
    has_folder = _INCLUDE.search(main) is not None
    path = SSHD_DROP_IN if has_folder else SSHD_CONFIG
    mode = 0o600 if has_folder else stat.S_IMODE(os.stat(SSHD_CONFIG).st_mode)
    old = files.text(path)
    new = text if has_folder else "{}\n{}{}\n{}".format(_FIRST, text, _LAST, _BLOCK.sub("", main))
    if new != old:
        files.write(path, new, mode)
        problem = refusal()
        if problem:
            if old is None:
                files.remove(path)
            else:
                files.write(path, old, mode)
            say("the settings of sshd stay as they were, because sshd refuses {}: {}".format(path, problem))
            return []
    for unit in _UNITS:
        # A killed run may have written the file, so sshd reads it in any case. Connections go on.
        if run("systemctl", "is-active", unit, check=False).strip() == "active":
            run("systemctl", "reload", unit, check=False)
            break
    return [path] if has_folder else []


def known_to_sshd(text: str) -> str:
    """The directives, without the algorithms that this version of sshd does not know."""
    lines = []
    for line in text.splitlines():
        directive, _, names = line.partition(" ")
        if directive in _LISTS:
            known = [name for name in names.split(",") if not refusal(directive, name)]
            if not known:
                continue
            line = "{} {}".format(directive, ",".join(known))
        lines.append(line)
    return "".join(line + "\n" for line in lines)


def refusal(directive: str = "", name: str = "") -> str:
    """What sshd says against its configuration, or against an algorithm's name; nothing if it takes it."""
    options = ["-f", os.devnull, "-o", "{}={}".format(directive, name)] if directive else []
    try:
        run(_SSHD, "-t", *options)
    except ReleaseError as error:
        return error.lines.strip().splitlines()[-1] if error.lines.strip() else str(error)
    return ""


def _journald(text: str) -> List[str]:
    if files.text(JOURNALD_DROP_IN) != text:
        os.makedirs(os.path.dirname(JOURNALD_DROP_IN), exist_ok=True)
        files.write(JOURNALD_DROP_IN, text, 0o644)
        run("systemctl", "restart", "systemd-journald", check=False)
    return [JOURNALD_DROP_IN]


def _set_clock(say: Say) -> None:
    """Have systemd enable the service that sets the clock if none runs, or say that the server has no such service."""
    if os.path.exists(CONTAINER) or _has_clock():
        return
    run("timedatectl", "set-ntp", "true", check=False)
    if not _has_clock():
        say("nothing sets the clock of this server: name chrony in server.packages")


def _has_clock() -> bool:
    return "active" in run("systemctl", "is-active", *_CLOCKS, check=False).split()
