"""Run a command as a site runs, with the release that serves: site_command.py SITE PROGRAM [ARGUMENT...]

The command has what release.before has: the site's user, the application's folder, the virtual environment's programs
and app.env. A terminal stays its own. Python 3.6, standard library only.
"""

import json
import os
import pwd
import sys
from typing import List

import files
import release_commands
from commands import ReleaseError, describe, say
from contract import paths
from contract.documents import APP_FOLDER, RELEASE_FILE, Release


def start(site: str, command: List[str]) -> None:
    """Become the command. Raises ReleaseError or OSError."""
    if site not in files.site_names():
        raise ReleaseError("no such site; allowed: {}".format(", ".join(files.site_names())))
    state = files.slot_state(os.path.join(paths.site_root(site), "current"))
    if state is None or state.release in (None, paths.BOOTSTRAP):
        raise ReleaseError("no release of the site serves here yet")
    target = os.path.join(paths.site_root(site), "releases", str(state.release))
    release = files.document(Release, os.path.join(target, RELEASE_FILE))
    if release.requirements is None:
        raise ReleaseError("the application runs on another machine, such as app-1")
    with open(paths.env_file(site), encoding="utf-8") as file:
        env = json.load(file)
    venv = os.path.realpath(os.path.join(target, "venv"))
    environment = release_commands.environment(release, str(state.release), venv, env)
    if "TERM" in os.environ:
        # ssh has brought the kind of the user's terminal.
        environment[b"TERM"] = os.fsencode(os.environ["TERM"])
    account = pwd.getpwnam(release.user)
    os.chdir(os.path.join(target, APP_FOLDER.rstrip("/")))
    release_commands.become_user(account)
    os.execvpe(os.fsencode(command[0]), list(map(os.fsencode, command)), environment)  # noqa: S606


def main(arguments: List[str]) -> int:
    """Returns the exit status, if the command cannot start."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    site, command = arguments[0], arguments[1:]
    try:
        start(site, command)
    except (OSError, ReleaseError) as error:
        reason = describe(error) if isinstance(error, ReleaseError) else error.strerror
        say("{} as site {} cannot start: {}".format(command[0], site, reason), sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
