"""Running commands, going back when one fails, reading logs, and nginx on this machine.

Python 3.6, standard library only.
"""

import os
import re
import signal
import subprocess
import time
import traceback

import files

NGINX_CONF = "/etc/nginx/nginx.conf"
NGINX_PID = "/run/nginx.pid"
NGINX_UNIT = "/etc/systemd/system/nginx.service.d/wsgi-ecs.conf"
NGINX_LOG = "/var/log/nginx/error.log"


SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class ReleaseError(Exception):
    """A release that is refused: what happened, the lines that explain it, and what the user does then."""

    def __init__(self, what, lines="", then=""):
        super().__init__(what)
        self.lines = lines
        self.then = then


def run(*command, **options):
    """Run a command. Returns its output (stdout and stderr); raises ReleaseError when it fails."""
    check = options.pop("check", True)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    # SSH may bring no locale, and then Python 3.6 takes everything for ASCII.
    output = done.stdout.decode("utf-8", "replace")
    if check and done.returncode != 0:
        what = "{} ended with {}".format(" ".join(command), done.returncode)
        raise ReleaseError(what, "\n".join(output.splitlines()[-40:]))
    return output


def describe(error):
    """An exception as one line; one that nobody expected names its place in this tool."""
    if isinstance(error, (ReleaseError, OSError)):
        return " ".join(str(error).split())
    here = os.path.dirname(__file__)
    frames = traceback.extract_tb(error.__traceback__)
    place = [frame for frame in frames if os.path.dirname(frame.filename) == here][-1]
    name = os.path.basename(place.filename)
    return "{}: {} ({}:{})".format(type(error).__name__, " ".join(str(error).split()), name, place.lineno)


def go_back(error, undo):
    """Undo what `error` ended, whatever signal comes. Raises ReleaseError when that fails too."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        undo()
    except (ReleaseError, OSError) as second:
        worse = ReleaseError(
            "{}; and going back to the one before failed: {}".format(describe(error), describe(second)),
            "\n".join(filter(None, (getattr(error, "lines", ""), getattr(second, "lines", "")))),
            "see on the server that its services run (systemctl --failed), then run up again: it ends this",
        )
        worse.went_back = False
        raise worse from error


def size(path):
    """Bytes of a file, 0 when there is none."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def tail(path, offset=0, lines=40):
    """The last lines of a file from a byte offset on; an empty text when there is none."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0
            # A log may be large, and nobody reads more of it here.
            file.seek(max(offset, size(path) - 65536))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""


# The line that ends a traceback, in whose place an application server may print many of its own.
_REASON = re.compile(r"([A-Za-z_]\w*\.)*\w*(Error|Exception)\b")


def printed(path, offset):
    """What the application printed into its log: its last lines, and before them the errors that these do not have.

    Without the lines in which uWSGI introduces itself.
    """
    lines = tail(path, offset, 400).splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("*** Operational MODE")]
    lines = lines[starts[-1] + 1 if starts else 0 :]
    last = lines[-40:]
    reasons = [line for line in lines[:-40] if _REASON.match(line) and line not in last]
    return "\n".join(list(dict.fromkeys(reasons))[-5:] + last)


# The OS's unit with another binary, and with nothing of one that its own ExecStartPre would check.
_UNIT = """# Written by wsgi-ecs.
[Service]
ExecStartPre=
ExecStartPre={0} -t -q
ExecStart=
ExecStart={0}
ExecReload=
ExecReload={0} -s reload
"""


def binary(own):
    """Path of a version's nginx, or the OS's by its name."""
    return own["folder"] + "/sbin/nginx" if own else "nginx"


def running():
    """Path of the nginx that runs, None when there is none."""
    try:
        with open(NGINX_PID) as file:
            return os.readlink("/proc/{}/exe".format(file.read().strip()))
    except OSError:
        return None


class Nginx:
    """nginx's master and workers. `own` says which: {"folder", "link"} of one from source, None for the OS's."""

    def __init__(self, own):
        self.own = own

    def check(self, file):
        """nginx's own check of a configuration, without touching the one that serves."""
        try:
            run(binary(self.own), "-t", "-q", "-c", file)
        except ReleaseError as error:
            then = "mend the setting behind the line that nginx names, and run up again"
            raise ReleaseError("nginx refuses the configuration", error.lines, then) from error

    def workers(self):
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
                        # The command name stands in brackets and may hold spaces; the parent comes after the state.
                        if file.read().rpartition(")")[2].split()[1] == master:
                            found.add(int(name))
                except (OSError, IndexError):
                    continue
        return found

    def accepts(self, worker):
        """Whether a worker still takes new requests: one that is told to stop says so in its title."""
        try:
            with open("/proc/{}/cmdline".format(worker), "rb") as file:
                title = file.read()
        except OSError:
            return False
        return bool(title) and b"shutting down" not in title

    def choose(self):
        """Have systemd start this nginx from now on. Returns whether another one runs."""
        text, own = "", self.own
        if own:
            files.link(own["folder"], own["link"])
            text = _UNIT.format(own["link"] + "/sbin/nginx")
        before = ""
        if os.path.exists(NGINX_UNIT):
            with open(NGINX_UNIT) as file:
                before = file.read()
        if text != before:
            if text:
                os.makedirs(os.path.dirname(NGINX_UNIT), exist_ok=True)
                files.write(NGINX_UNIT, text, 0o644)
            else:
                files.remove(NGINX_UNIT)
            run("systemctl", "daemon-reload")
        return text != before or (own is not None and running() != os.path.realpath(binary(own)))

    def reload(self, seconds=15.0):
        """Take up the configuration now in place. Returns the old workers, which finish their requests.

        Another nginx is started in place of the one that runs: requests of that moment are lost.
        nginx's own change of binaries (USR2) would keep them, and leave a master that systemd did not start.

        Raises ReleaseError when no new worker has come within `seconds`.
        """
        # Workers that replace each other during the look at /proc may all be missed.
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
                raise ReleaseError("nginx did not take up the configuration", tail(NGINX_LOG, offset))
            time.sleep(0.05)
        return old

    def drain(self, old, seconds):
        """Wait until the old workers have finished their requests, `seconds` at most."""
        deadline = time.monotonic() + seconds
        while self.workers() & old and time.monotonic() < deadline:
            time.sleep(0.1)


class NoNginx:
    """In place of Nginx where the application server answers itself: the world, or nginx on another machine.

    handover_seconds: that the other machine's nginx needs to find a new release's port by itself.
    """

    def __init__(self, handover_seconds=0):
        self.handover_seconds = handover_seconds

    def check(self, file):
        pass

    def reload(self):
        return set()

    def drain(self, old, seconds):
        time.sleep(self.handover_seconds)
