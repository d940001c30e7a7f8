"""The user who builds: code from a package index never runs as root.

Python 3.6, standard library only.
"""

import locale
import os
import pwd
import signal
from typing import Any

import handover
from commands import run
from contract import paths


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
