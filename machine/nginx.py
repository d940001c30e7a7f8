"""nginx on this machine: the OS's, or one that was built from source. Python 3.6, standard library only."""

import os
import tempfile
import time
from typing import Optional, Set

import files
from commands import ReleaseError, run
from contract.documents import OwnNginx
from logs import size, tail

NGINX_CONF = "/etc/nginx/nginx.conf"
NGINX_PID = "/run/nginx.pid"
NGINX_UNIT = "/etc/systemd/system/nginx.service.d/wsgi-ecs.conf"
NGINX_LOG = "/var/log/nginx/error.log"

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

    def knows(self, directive: str) -> bool:
        """Whether this nginx has a directive. A version does not tell, because systems add some to their old nginx."""
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("events {{}}\nhttp {{ {} }}\n".format(directive))
            file.flush()
            try:
                run(binary(self.own), "-t", "-q", "-c", file.name)
            except ReleaseError:
                return False
        return True

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
