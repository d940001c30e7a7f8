"""The logins by which pip and git reach what is private: files of the build user, in memory, while it installs.

/run/wsgi-ecs-pip-<random>/   netrc, key, ssh_config
~/.netrc                      link to netrc there: git looks for it nowhere else

Python 3.6, standard library only.
"""

import base64
import contextlib
import glob
import os
import re
import tempfile
from typing import TYPE_CHECKING, Dict, Iterator, List
from urllib.parse import quote, urlsplit

import files
from commands import ReleaseError
from contract import paths

if TYPE_CHECKING:
    from build_user import Builder

_ENTRY = re.compile(r"login\s+(\S+)\s+password\s+(\S+)")
_TRUSTED = re.compile(r"^global\.trusted-host='(.*)'$", re.MULTILINE)
# The index's own address decides what is installed; a new password for it does not.
_ADDRESSES = ("index_url", "extra_index_url")
# Below this, a login's name is an ordinary word of pip's output, and a password may be part of any.
_LEAST_NAME, _LEAST_PASSWORD = 8, 4
# Folders of pip's cache with what servers have answered.
_ANSWERS = ("http", "http-v2")
_PROGRAMS = "pip-ssh"
_SSH_CONFIG = """\
Host *
  IdentityFile {key}
  IdentitiesOnly yes
  BatchMode yes
  ConnectTimeout 30
  StrictHostKeyChecking {unknown}
  UserKnownHostsFile {known}
"""


def addresses(secrets: Dict[str, str]) -> Dict[str, str]:
    """What of app.pip decides which packages are installed: the addresses of its indexes, which have no login."""
    return {name: secrets[name] for name in _ADDRESSES if name in secrets}


def remove_leftovers(builder: "Builder") -> None:
    """Remove what a killed run has left."""
    link = os.path.join(builder.user.pw_dir, ".netrc")
    if os.path.islink(link):
        files.remove(link)
    files.remove(os.path.join(builder.user.pw_dir, _PROGRAMS))
    for folder in glob.glob(paths.RUN + "-pip-*"):
        files.remove(folder)


@contextlib.contextmanager
def lent(builder: "Builder", secrets: Dict[str, str], system: str, pip: str) -> Iterator[Dict[str, str]]:
    """Variables of the environment by which pip and git find the logins, which are gone afterwards.

    secrets: netrc, ssh_key, index_url, extra_index_url (URLs separated by spaces), each only if it is set. No variable
    has a login: pip writes the addresses of its indexes into the command line of the pip that builds a package.
    """
    # Without a terminal nobody could answer a question.
    variables = {"PIP_NO_INPUT": "1", "GIT_TERMINAL_PROMPT": "0"}
    for name, value in addresses(secrets).items():
        variables["PIP_" + name.upper()] = value
    urls = " ".join(addresses(secrets).values()).split()
    plain = [urlsplit(url).netloc for url in urls if url.startswith("http:")]
    if plain:
        # The variable takes the place of what the server's own index needs.
        configured = _TRUSTED.findall(builder.run(pip, "config", "list", check=False))
        variables["PIP_TRUSTED_HOST"] = " ".join([*configured, *plain]).replace("\\n", " ")
    if not {"netrc", "ssh_key"} & set(secrets):
        yield variables
        return
    # No process of the build user may exchange a folder while root writes into it.
    builder.end_leftovers()
    folder = tempfile.mkdtemp(prefix=os.path.basename(paths.RUN) + "-pip-", dir=os.path.dirname(paths.RUN))
    try:
        builder.own(folder)
        if "netrc" in secrets:
            _write(builder, folder, "netrc", secrets["netrc"])
            files.link(os.path.join(folder, "netrc"), os.path.join(builder.user.pw_dir, ".netrc"))
        if "ssh_key" in secrets:
            variables["GIT_SSH"] = _ssh(builder, folder, secrets["ssh_key"], system)
        yield variables
    finally:
        # What a package has left running must not read a login any more.
        builder.end_leftovers()
        _clean_cache(builder, folder, secrets)
        remove_leftovers(builder)


def _write(builder: "Builder", folder: str, name: str, text: str, mode: int = 0o600) -> str:
    path = os.path.join(folder, name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text.replace("\r\n", "\n").strip("\n") + "\n")
    builder.own(path)
    return path


def _ssh(builder: "Builder", folder: str, key: str, system: str) -> str:
    """Path of the program that git runs in place of ssh. CentOS 7's git knows no GIT_SSH_COMMAND."""
    config = _SSH_CONFIG.format(
        key=_write(builder, folder, "key", key),
        known=os.path.join(builder.user.pw_dir, "known_hosts"),
        # CentOS 7's ssh does not know accept-new.
        unknown="no" if system == "centos7" else "accept-new",
    )
    config_file = _write(builder, folder, "ssh_config", config)
    # Programs in /run may be forbidden (noexec). git tells from the name ssh which options it may pass.
    programs = os.path.join(builder.user.pw_dir, _PROGRAMS)
    files.remove(programs)
    os.mkdir(programs, 0o700)
    builder.own(programs)
    return _write(builder, programs, "ssh", '#!/bin/sh\nexec ssh -F {} "$@"'.format(config_file), 0o700)


def _clean_cache(builder: "Builder", folder: str, secrets: Dict[str, str]) -> None:
    """Remove the answers that pip has cached together with a login: the cache may keep the request's headers."""
    logins = _ENTRY.findall(secrets.get("netrc", ""))
    if not logins:
        return
    basic = [base64.b64encode(":".join(login).encode()).decode() for login in logins]
    cache = os.path.join(builder.user.pw_dir, ".cache")
    searches = {
        "basic": (basic, [cache]),
        # A password may be an ordinary word, which a wheel that uv has unpacked has in its code.
        "plain": ([password for _, password in logins], [os.path.join(cache, "pip", name) for name in _ANSWERS]),
    }
    for what, (texts, folders) in searches.items():
        patterns = _write(builder, folder, what, "\n".join(texts))
        # As the build user: the folder is its own, and so may be what a link there leads to.
        found = builder.run("grep", "-rlsFZ", "-D", "skip", "-f", patterns, *folders, check=False)
        for name in filter(None, found.split("\0")):
            builder.run("rm", "-f", "--", name, check=False)


def mask(error: ReleaseError, secrets: Dict[str, str]) -> None:
    """Put stars in place of the logins in what a failed command has printed."""
    hidden: List[str] = []
    for name, password in _ENTRY.findall(secrets.get("netrc", "")):
        hidden += [password, quote(password, safe="")] if len(password) >= _LEAST_PASSWORD else []
        hidden += [name] if len(name) >= _LEAST_NAME else []
    for text in sorted(set(hidden), key=len, reverse=True):
        error.lines = error.lines.replace(text, "***")
        error.output = error.output.replace(text, "***")
        error.then = error.then.replace(text, "***")
