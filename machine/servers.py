"""Control of nginx and supervisor on this machine. Python 3.6, standard library only."""

import os
import subprocess
import time


class ReleaseError(Exception):
    """A release that is refused: what happened, and the lines that explain it."""

    def __init__(self, what, lines=""):
        super().__init__(what)
        self.lines = lines


def run(*command, **options):
    """Run a command. Returns its output (stdout and stderr); raises ReleaseError when it fails."""
    check = options.pop("check", True)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        **options,
    )
    if check and done.returncode != 0:
        raise ReleaseError("{} ended with {}".format(" ".join(command), done.returncode), done.stdout)
    return done.stdout


def tail(path, offset=0, lines=30):
    """The last lines of a file from a byte offset on; an empty text when there is none."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0
            file.seek(offset)
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""


class Supervisor:
    """Programs of supervisor, one at a time: no other program is touched."""

    def state(self, program):
        """RUNNING, STARTING, BACKOFF, FATAL, EXITED, STOPPED …, or None when there is no such program."""
        words = run("supervisorctl", "status", program, check=False).split()
        return words[1] if len(words) > 1 and words[0] == program and words[1].isupper() else None

    def add(self, program):
        """Start a program whose configuration file is new."""
        answer = run("supervisorctl", "reread", check=False)
        if "ERROR" in answer:
            raise ReleaseError("supervisor refuses the configuration", answer)
        run("supervisorctl", "add", program)

    def remove(self, program, file):
        """Stop a program, finishing its requests, and forget it."""
        if self.state(program) is not None:
            run("supervisorctl", "stop", program, check=False)
            run("supervisorctl", "remove", program, check=False)
        if os.path.lexists(file):
            os.unlink(file)
        run("supervisorctl", "reread", check=False)


class Nginx:
    """nginx's master and workers. `pid_file` and `error_log` are paths."""

    def __init__(self, pid_file="/run/nginx.pid", error_log="/var/log/nginx/error.log"):
        self.pid_file = pid_file
        self.error_log = error_log

    def check(self, file):
        """nginx's own check of a configuration, without touching the one that serves."""
        try:
            run("nginx", "-t", "-q", "-c", file)
        except ReleaseError as error:
            raise ReleaseError("nginx refuses the configuration", error.lines) from error

    def workers(self):
        """Process ids of the workers."""
        try:
            with open(self.pid_file) as file:
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

    def reload(self, seconds=15.0):
        """Take up the configuration now in place. Returns the old workers, which finish their requests.

        Raises ReleaseError when no new worker has come within `seconds`.
        """
        old = self.workers()
        if not old:
            run("systemctl", "restart", "nginx")
            return set()
        offset = os.path.getsize(self.error_log) if os.path.exists(self.error_log) else 0
        run("nginx", "-s", "reload")
        deadline = time.monotonic() + seconds
        # A request may reach an old worker until each of them has heard that it is to stop.
        while not self.workers() - old or any(map(self.accepts, old)):
            if time.monotonic() > deadline:
                raise ReleaseError("nginx did not take up the configuration", tail(self.error_log, offset))
            time.sleep(0.05)
        return old

    def drain(self, old, seconds):
        """Wait until the old workers have finished their requests, `seconds` at most."""
        deadline = time.monotonic() + seconds
        while self.workers() & old and time.monotonic() < deadline:
            time.sleep(0.1)
