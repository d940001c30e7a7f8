"""One run of this tool at a time: who has the lock of this machine, and since when.

The kernel frees the lock when its process ends, however that happens; only a process that hangs keeps it.
Python 3.6, standard library only.
"""

import contextlib
import fcntl
import json
import os
import signal
import time
from typing import IO, Any, Dict, Iterator, Optional

import files
from commands import ReleaseError, Say, say
from contract.kept import BY
from contract.user import user_at_host

# Seconds that a run may take beside the commands of its release: it may build a virtual environment.
LOCK_SECONDS = 900
# Seconds that a run which is told to end has for going back to the release before.
GRACE = 60.0


def who() -> str:
    """Who runs this tool: the name that a command of the program has sent, or the user here, and the client of SSH."""
    name = os.environ.get(BY) or user_at_host()
    address = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    return "{} from {}".format(name, address) if address else name


@contextlib.contextmanager
def acquire_lock(seconds: int = LOCK_SECONDS, what: str = "a run of wsgi-ecs") -> Iterator[None]:
    """Wait until no other run of this tool changes anything, and keep the others waiting. Raises ReleaseError.

    seconds: that this run may take, for which the others wait. what: as a waiting run names this run.
    """
    # Whoever may read the file may hold the lock, too.
    descriptor = os.open(files.LOCK, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a+") as lock:
        os.fchmod(descriptor, 0o600)
        _wait_for(lock)
        lock.truncate(0)
        holder = {"until": time.monotonic() + seconds, "since": time.time(), "pid": os.getpid()}
        lock.write(json.dumps(dict(holder, what=what, who=who())))
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def _wait_for(lock: IO[str]) -> None:
    began, looks, announced = time.monotonic(), 0, ""
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The run that has the lock may be another one than a moment ago.
            holder = _holder(lock)
            if time.monotonic() > max(began + LOCK_SECONDS, holder.get("until", 0)):
                raise ReleaseError(
                    "another release is being applied on this machine" + _text(holder),
                    then="run up again when it has ended; one that hangs is ended by wsgi-ecs-release unlock --force",
                ) from None
        line = "waiting for the release that is being applied" + _text(holder)
        # A run says who it is a moment after it has got the lock.
        if line != announced and (holder or (looks and not announced)):
            say(line)
            announced = line
        looks += 1
        time.sleep(0.2)


def _holder(lock: IO[str]) -> Dict[str, Any]:
    """What the run that has the lock has written, empty when it has written nothing."""
    text = os.pread(lock.fileno(), 4096, 0).decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    # An older tool wrote only until when it has the lock.
    return found if isinstance(found, dict) else {"until": found}


def _text(holder: Dict[str, Any]) -> str:
    """What follows a statement about the lock: which run has it, "" when that run says nothing."""
    if "who" not in holder:
        return ""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    return ": {what} by {who}, since {since}, process {pid}".format(**dict(holder, since=since))


def current() -> Optional[Dict[str, Any]]:
    """Who has the lock, None when nobody has it."""
    with open(files.LOCK, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(lock)
    return None


def end_overdue(tell: Say) -> None:
    """End the run that has the lock for longer than it said that it would take."""
    holder = current()
    if holder is not None and time.monotonic() > holder.get("until", float("inf")):
        unlock(True, tell)


def unlock(force: bool, tell: Say) -> bool:
    """Say who has the lock, and end that run with `force`. Returns whether nobody has the lock any more.

    The run gets the time to go back to the release before; if it is killed, the next run does so.
    """
    holder = current()
    if holder is None:
        tell("no run has the lock of this machine")
        return True
    tell("another run has the lock of this machine" + _text(holder))
    if not force:
        return False
    number = holder.get("pid", 0)
    if not _has_lock(number):
        tell("its process is not known here; end it by hand (fuser {})".format(files.LOCK))
        return False
    for signum, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 5.0)):
        tell("ending process {} ({})".format(number, signum.name))
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signum)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not _has_lock(number):
                tell("it has ended; the next run undoes or ends what it left")
                return True
            time.sleep(0.1)
    return False


def _has_lock(number: int) -> bool:
    """Whether a process has the lock's file open, so that no other process of that number is ended."""
    folder = "/proc/{}/fd".format(number)
    try:
        names = os.listdir(folder) if number else []
        return any(os.readlink(os.path.join(folder, name)) == files.LOCK for name in names)
    except OSError:
        return False
