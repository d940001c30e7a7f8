"""Commands of a site's release: release.before prepares it, and release.after follows the switch.

releases/<id>/commands.json   how many have run, and the files that they made (CommandsState)

They run as the site's user in the application's folder, which is that user's for as long as release.before runs and
root's afterwards. All their processes have MARK in their environment, by which the next run finds what a killed run
left. Python 3.6, standard library only.
"""

import contextlib
import os
import pwd
import re
import shlex
import signal
import subprocess
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Optional

import build_user
import causes
import drift
import files
import handover
from commands import ReleaseError, Say, describe
from contract.documents import APP_FOLDER, COMMANDS_FILE, CommandsState, Release
from unpacked import Unpacked

MARK = "WSGI_ECS_COMMAND"
_PATH = "/usr/local/bin:/usr/bin:/bin"
# Seconds that a command has to end itself once its time is over.
GRACE = 5.0
# Lines of a command that are shown, and characters of a line: the output of a run goes into Pulumi's state.
_LINES, _WIDTH = 400, 1000
# Lines that a refusal repeats.
_LAST = 40
# A shorter value, such as 1 or prod, would turn the output into stars.
_SECRET = 6
# What names a place or a form.
_NO_SECRETS = ("DATA_DIR", "HOME", "LANG", "PATH", "TZ")
_PASSWORD = re.compile(r"://[^:/@\s]*:([^@/\s]+)@")


class Commands:
    """The commands of a release that is installed in `target`. env: environment of the application."""

    def __init__(self, release: Release, unpacked: Unpacked, target: str, env: Dict[str, str]) -> None:
        self.release, self.unpacked, self.target, self.env = release, unpacked, target, env
        self.folder = os.path.join(target, APP_FOLDER.rstrip("/"))
        venv = os.path.realpath(os.path.join(target, "venv"))
        self.environment = environment(release, unpacked.id, venv, env)
        self.environment[MARK.encode()] = release.site.encode()

    def run_before(self, say: Say) -> None:
        """Run those of release.before that have not succeeded yet. Raises ReleaseError for one that fails."""
        state = files.commands_state(self.target)
        if state.before >= len(self.release.before):
            return
        self._save(state._replace(is_open=True))
        removed = []  # type: List[str]
        try:
            handover.give(self.folder, self.release.user)
            for command in self.release.before[state.before :]:
                self._run("before", command, self.release.before_seconds, say)
                state = state._replace(before=state.before + 1)
                self._save(state._replace(is_open=True))
        finally:
            removed = handover.take_back(self.folder, self.release.web_group)
            # Something that the commands have made is missing, so all of them run again.
            state = state._replace(before=0 if removed else state.before, made=self._made())
            self._save(state)
        if removed:
            what = "release.before: {}".format("; ".join(removed[:3]))
            advice = (
                "have the command write plain files in few folders (collectstatic without --link), and run up again"
            )
            raise ReleaseError(what, then=advice)
        names = [name[len(APP_FOLDER) :] for name, digest in sorted(state.made.items()) if digest]
        # Behind a load balancer, the server that runs the commands is the one that names the release of the others.
        if names and (self.release.front == "apart" or self.release.pair):
            # components/release.py reads this line.
            shown = ", ".join(names[:3]) + (" and {} more".format(len(names) - 3) if names[3:] else "")
            lacking = "warning: site {}: release.before made files that the other servers do not have ({}); make them "
            say((lacking + "before up if the application needs them there").format(self.release.site, shown))

    def run_after(self, say: Say) -> None:
        """Run those of release.after that have not run yet. One that fails is a warning, and the next one runs."""
        state = files.commands_state(self.target)
        for command in self.release.after[state.after :]:
            # It is noted first, because a command that ends this tool must not run with every release.
            state = state._replace(after=state.after + 1)
            self._save(state)
            try:
                self._run("after", command, self.release.after_seconds, say)
            except (ReleaseError, OSError) as error:
                lines = getattr(error, "lines", "")
                for line in lines.splitlines()[-5:]:
                    say("| " + line)
                advice = causes.advice(self.release.site, lines)
                if advice:
                    say("next: " + advice)
                # components/release.py reads this line.
                say("warning: site {}: {}; the release serves".format(self.release.site, describe(error)))

    def _save(self, state: CommandsState) -> None:
        _save(self.release, self.target, state)

    def _made(self) -> Dict[str, Optional[str]]:
        """CommandsState.made: the files of the application that are not as they were sent."""
        sent = {name: digest for name, (_, digest) in self.unpacked.files.items() if name.startswith(APP_FOLDER)}
        made = {}  # type: Dict[str, Optional[str]]
        for here, _, names in os.walk(self.folder):
            for path in (os.path.join(here, name) for name in names if os.path.isfile(os.path.join(here, name))):
                name = os.fsencode(os.path.relpath(path, self.target)).decode("utf-8", "surrogateescape")
                digest = drift.sha256(path)
                if digest != sent.pop(name, None):
                    made[name] = digest
        made.update(dict.fromkeys(sent))
        return made

    def _run(self, when: str, command: List[str], seconds: int, say: Say) -> None:
        """Run a command to its end and show what it prints. Raises ReleaseError when it fails or takes too long."""
        shown = "release.{}: {}".format(when, hide(" ".join(map(shlex.quote, command)), self.env))
        say(shown)
        output = _Output(lambda line: say("| " + line), self.env)
        process = None  # type: Optional[subprocess.Popen[bytes]]
        try:
            process = self._start(command, shown)
            reader = threading.Thread(target=output.read, args=(process.stdout,), daemon=True)
            reader.start()
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            # What it has left running belongs to no release. A signal may have come before the process was known.
            _end(process, self.release)
        reader.join(1)
        if status is None:
            advice = "make it faster, or raise release.{}_seconds, and run up again".format(when)
            raise ReleaseError("{} took longer than {} seconds".format(shown, seconds), output.last(), advice)
        if status:
            ended = "was ended by signal {}".format(-status) if status < 0 else "ended with {}".format(status)
            advice = causes.advice(self.release.site, output.last())
            advice = advice or "fix the command or what it needs (release.{}), and run up again".format(when)
            raise ReleaseError("{} {}".format(shown, ended), output.last(), advice)

    def _start(self, command: List[str], shown: str) -> "subprocess.Popen[bytes]":
        account = pwd.getpwnam(self.release.user)
        # As bytes: Python 3.6 without a locale would refuse what is not ASCII.
        arguments = [argument.encode() for argument in command]
        try:
            return subprocess.Popen(
                arguments,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: become(account),
            )
        except OSError as error:
            advice = "name a program of app.requirements or of the server, or an executable file of app.source"
            raise ReleaseError("{} cannot start: {}".format(shown, error.strerror), then=advice) from error


class _Output:
    """What a command prints, line by line, without the secrets of its environment."""

    def __init__(self, show: Callable[[str], object], env: Dict[str, str]) -> None:
        self.show, self.env = show, env
        self.lines = []  # type: List[str]
        self.number = 0

    def read(self, stream: Iterable[bytes]) -> None:
        for data in stream:
            text = data.decode("utf-8", "replace")
            # A progress bar writes over its line again and again.
            line = hide(text.rstrip("\r\n").rpartition("\r")[2], self.env)[:_WIDTH]
            self.number += 1
            self.lines = [*self.lines[-_LAST + 1 :], line]
            if self.number <= _LINES:
                self.show(line)
            elif self.number == _LINES + 1:
                self.show("(more lines are not shown)")

    def last(self) -> str:
        return "\n".join(self.lines)


def environment(release: Release, identifier: str, venv: str, env: Dict[str, str]) -> Dict[bytes, bytes]:
    """The application's environment, with the virtual environment's programs first."""
    found = {"LANG": build_user.utf8_locale(), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    found.update(env)
    path = found.get("PATH", _PATH)
    found.update({"PATH": "{}/bin:{}".format(venv, path), "VIRTUAL_ENV": venv})
    found["APP_RELEASE"] = identifier
    # As bytes: Python 3.6 without a locale would refuse what is not ASCII.
    return {name.encode(): value.encode() for name, value in found.items()}


def become(account: Any) -> None:
    """Make this process the leader of a session of its own, and a user's."""
    os.setsid()
    become_user(account)


def become_user(account: Any) -> None:
    """Make this process a user's."""
    os.umask(0o027)
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def hide(text: str, env: Dict[str, str]) -> str:
    """A text with stars in place of the values of an environment, and of the passwords in its URLs."""
    values = set()
    for name, value in env.items():
        if name not in _NO_SECRETS:
            values.update(value.splitlines() + _PASSWORD.findall(value))
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _SECRET:
            text = text.replace(value, "***")
    return text


def recover(release: Release, releases: str, say: Say) -> None:
    """End the commands that a killed run has left, and take their folder back."""
    for name in sorted(name for name in os.listdir(releases) if "." not in name):
        target = os.path.join(releases, name)
        state = files.commands_state(target)
        if state.is_open:
            _end_marked(release)
            try:
                handover.take_back(os.path.join(target, APP_FOLDER.rstrip("/")), release.web_group)
                _save(release, target, state._replace(is_open=False))
            except OSError as error:
                # It has never served, and no later release may fail because of it.
                say("discarding release {}, whose commands were cut short: {}".format(name, describe(error)))
                files.remove(target + ".old")
                os.rename(target, target + ".old")
                files.remove(target + ".old")


def _save(release: Release, target: str, state: CommandsState) -> None:
    files.write_document(os.path.join(target, COMMANDS_FILE), state, 0o640, release.web_group)


def _end(process: "Optional[subprocess.Popen[bytes]]", release: Release) -> None:
    """End a command and all that it has started. process: None before it is known."""
    if process and process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    _end_marked(release)
    if process:
        process.wait()


def _end_marked(release: Release) -> None:
    """Kill the processes of the site's user that have the mark of its commands."""
    owner, mark = owner_of(release.user), "{}={}".format(MARK, release.site).encode()
    while True:
        found = [number for number in _processes() if _has(number, owner, mark)]
        if not found:
            return
        for number in found:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.05)


def owner_of(user: str) -> int:
    return pwd.getpwnam(user).pw_uid


def _processes() -> List[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _has(number: int, owner: int, mark: bytes) -> bool:
    """Whether a process is this user's, runs, and has a variable in its environment."""
    folder = "/proc/{}".format(number)
    try:
        if os.stat(folder).st_uid != owner:
            return False
        with open(folder + "/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False
