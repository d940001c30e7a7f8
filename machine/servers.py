"""Running commands, rolling back when one fails, reading logs, and nginx on this machine.

Python 3.6, standard library only.
"""

import os
import re
import signal
import subprocess
import sys
import time
import traceback
from typing import Any, Callable, Optional, Set

import files
from contract.documents import OwnNginx

NGINX_CONF = "/etc/nginx/nginx.conf"
NGINX_PID = "/run/nginx.pid"
NGINX_UNIT = "/etc/systemd/system/nginx.service.d/wsgi-ecs.conf"
NGINX_LOG = "/var/log/nginx/error.log"


# Prints a line for the user.
Say = Callable[[str], object]
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class ReleaseError(Exception):
    """A release that is refused: what is wrong, the lines that explain it, and what the user does next.

    was_rolled_back: whether the old release serves again. is_first: whether there was no old release.
    """

    was_rolled_back = True
    is_first = False

    def __init__(self, what: str, lines: str = "", then: str = "") -> None:
        super().__init__(what)
        self.lines = lines
        self.then = then


def say(text: str, to: Any = None) -> None:
    """Print a line as UTF-8, whatever the locale is. A release goes on when nobody reads its output any more."""
    stream = to or sys.stdout
    try:
        stream.buffer.write(("wsgi-ecs: " + text + "\n").encode("utf-8", "backslashreplace"))
        stream.buffer.flush()
    except OSError:
        pass


def run(*command: str, **options: Any) -> str:
    """Run a command. Returns its output (stdout and stderr); raises ReleaseError when it fails, unless check=False."""
    check = options.pop("check", True)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    # Without a locale, as over SSH, Python 3.6 would decode as ASCII.
    output = str(done.stdout.decode("utf-8", "replace"))
    if check and done.returncode != 0:
        what = "{} ended with {}".format(" ".join(command), done.returncode)
        raise ReleaseError(what, "\n".join(output.splitlines()[-40:]))
    return output


def describe(error: BaseException) -> str:
    """An exception as one line; an unexpected exception names its place in this tool."""
    if isinstance(error, (ReleaseError, OSError)):
        return " ".join(str(error).split())
    here = os.path.dirname(__file__)
    frames = traceback.extract_tb(error.__traceback__)
    place = [frame for frame in frames if os.path.dirname(frame.filename) == here][-1]
    name = os.path.basename(place.filename)
    return "{}: {} ({}:{})".format(type(error).__name__, " ".join(str(error).split()), name, place.lineno)


def roll_back(error: BaseException, undo: Callable[[], object]) -> None:
    """Undo the run that `error` has ended, and ignore signals meanwhile. Raises ReleaseError when that fails too."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        undo()
    except (ReleaseError, OSError) as second:
        worse = ReleaseError(
            "{}; and going back to the one before failed: {}".format(describe(error), describe(second)),
            "\n".join(filter(None, (getattr(error, "lines", ""), getattr(second, "lines", "")))),
            "check on the server that its services run (systemctl --failed), then run up again, which recovers",
        )
        worse.was_rolled_back = False
        raise worse from error


def size(path: str) -> int:
    """Bytes of a file, 0 when there is none."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def tail(path: str, offset: int = 0, lines: int = 40) -> str:
    """The last lines of a file from a byte offset on; an empty text when there is none."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0
            # A log may be large: only its end is read.
            file.seek(max(offset, size(path) - 65536))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""


# The last line of a traceback, after which an application server may print many lines of its own.
_REASON = re.compile(r"([A-Za-z_]\w*\.)*\w*(Error|Exception)\b")


def printed(path: str, offset: int) -> str:
    """What the application printed into its log: the last lines, preceded by earlier errors that they do not have.

    The lines in which uWSGI introduces itself are left out.
    """
    lines = tail(path, offset, 400).splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("*** Operational MODE")]
    lines = lines[starts[-1] + 1 if starts else 0 :]
    last = lines[-40:]
    reasons = [line for line in lines[:-40] if _REASON.match(line) and line not in last]
    return "\n".join(list(dict.fromkeys(reasons))[-5:] + last)


# The OS's unit with another binary. Its own ExecStartPre would check the OS's nginx.
_UNIT = """# Written by wsgi-ecs.
[Service]
ExecStartPre=
ExecStartPre={0} -t -q
ExecStart=
ExecStart={0}
ExecReload=
ExecReload={0} -s reload
"""


def binary(own: Optional[OwnNginx]) -> str:
    """Path of an nginx from source, or the name of the OS's."""
    return own.folder + "/sbin/nginx" if own else "nginx"


def running() -> Optional[str]:
    """Path of the nginx that runs, None when none does."""
    try:
        with open(NGINX_PID) as file:
            return os.readlink("/proc/{}/exe".format(file.read().strip()))
    except OSError:
        return None


class Nginx:
    """nginx's master and workers. own: the nginx from source, None for the OS's."""

    def __init__(self, own: Optional[OwnNginx]) -> None:
        self.own = own

    def check(self, file: str) -> None:
        """nginx's own check of a configuration, without touching the one that serves."""
        try:
            run(binary(self.own), "-t", "-q", "-c", file)
        except ReleaseError as error:
            then = "fix the setting behind the line that nginx names, and run up again"
            raise ReleaseError("nginx refuses the configuration", error.lines, then) from error

    def workers(self) -> Set[int]:
        """Process ids of the workers."""
        try:
            with open(NGINX_PID) as file:
                master = file.read().strip()
        except OSError:
            return set()
        found = set()
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open("/proc/{}/stat".format(name)) as file:
                        # The command's name is in brackets and may hold spaces; the parent's id follows the state.
                        if file.read().rpartition(")")[2].split()[1] == master:
                            found.add(int(name))
                except (OSError, IndexError):
                    continue
        return found

    def accepts(self, worker: int) -> bool:
        """Whether a worker still takes new requests: a worker that is told to stop says so in its title."""
        try:
            with open("/proc/{}/cmdline".format(worker), "rb") as file:
                title = file.read()
        except OSError:
            return False
        return bool(title) and b"shutting down" not in title

    def choose(self) -> bool:
        """Have systemd start this nginx from now on. Returns whether another nginx runs."""
        text, own = "", self.own
        if own:
            files.link(own.folder, own.link)
            text = _UNIT.format(own.link + "/sbin/nginx")
        before = files.text(NGINX_UNIT) or ""
        if text != before:
            if text:
                os.makedirs(os.path.dirname(NGINX_UNIT), exist_ok=True)
                files.write(NGINX_UNIT, text, 0o644)
            else:
                files.remove(NGINX_UNIT)
            run("systemctl", "daemon-reload")
        return text != before or (own is not None and running() != os.path.realpath(binary(own)))

    def reload(self, seconds: float = 15.0) -> Set[int]:
        """Have nginx load the configuration that is in place. Returns the old workers, which finish their requests.

        Another binary needs a restart, which loses the requests of that moment. nginx's own change of binaries
        (USR2) would keep them, but leaves a master that systemd did not start.

        Raises ReleaseError when no new worker has come within `seconds`.
        """
        # Workers that replace each other while /proc is read may all be missed.
        old = self.workers() or self.workers()
        if self.choose() or not old:
            offset = size(NGINX_LOG)
            try:
                run("systemctl", "restart", "nginx")
            except ReleaseError as error:
                raise ReleaseError("nginx does not start", error.lines + tail(NGINX_LOG, offset)) from error
            return set()
        offset = size(NGINX_LOG)
        run(binary(self.own), "-s", "reload")
        deadline = time.monotonic() + seconds
        # A request may reach an old worker until each of them has heard that it is to stop.
        while not self.workers() - old or any(map(self.accepts, old)):
            if time.monotonic() > deadline:
                raise ReleaseError("nginx did not load the configuration", tail(NGINX_LOG, offset))
            time.sleep(0.05)
        return old

    def drain(self, old: Set[int], seconds: float) -> None:
        """Wait until the old workers have finished their requests, `seconds` at most."""
        deadline = time.monotonic() + seconds
        while self.workers() & old and time.monotonic() < deadline:
            time.sleep(0.1)


class NoNginx(Nginx):
    """In place of Nginx where no nginx runs: the application server answers clients, or nginx on another machine.

    handover_seconds: which the other machine's nginx needs to find a new release's port by itself.
    """

    def __init__(self, handover_seconds: int = 0) -> None:
        super().__init__(None)
        self.handover_seconds = handover_seconds

    def check(self, file: str) -> None:
        pass

    def reload(self, seconds: float = 15.0) -> Set[int]:
        return set()

    def drain(self, old: Set[int], seconds: float) -> None:
        time.sleep(self.handover_seconds)
