"""What a member does on its own machine, and what it remembers there in /var/lib/wsgi-ecs/member.

    serving.json   the delivery that serves: written when all of it does
    task.json      the task that was begun last, written by its process (take.py)
    outcome.json   how that task has ended, written last
    moving         a delivery is being applied, or was when its process was killed: what serves may be of two
                   deliveries, and is when the file says so
    lock           held by the processes of a task, whichever of them the kernel has ended

A task runs in processes of its own, which go on when the member's program ends. Python 3.6, standard library only.
"""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import time
from typing import Dict, List, Optional, Tuple, Type, TypeVar

import files
from contract import paths
from contract.store_documents import Outcome, Serving, Task
from store import Damaged, Store

FOLDER = "/var/lib/wsgi-ecs/member"
LOG = paths.LOG + "/member.log"
SERVING_FILE, TASK_FILE, OUTCOME_FILE, MOVING_FILE, LOCK_FILE = (
    "serving.json",
    "task.json",
    "outcome.json",
    "moving",
    "lock",
)
# Content of the file `moving` when it was there before the task began.
MIXED = "mixed"
# Bytes after which a log is put aside, and lines at its end that say why a task was refused.
_LOG_BYTES, _LINES = 1 << 20, 40
# Seconds in which the process of a task says that it has begun.
_BEGIN_SECONDS = 10.0
_INSTANCE, _MACHINE = "/var/lib/cloud/data/instance-id", "/etc/machine-id"
# Python 3.6 has no name for the clock that counts from the machine's start and goes on while it sleeps.
_CLOCK_BOOTTIME = 7

T = TypeVar("T")


class Machine:
    """What a member asks of its own machine."""

    def serves(self) -> Tuple[Optional[int], Dict[str, str]]:
        """The number of the delivery that serves, None before the first, and site → id of its release."""
        raise NotImplementedError

    def begin(self, task: Task) -> None:
        """Begin to apply a delivery in another process, which goes on while this program is slow."""
        raise NotImplementedError

    def begun(self) -> Optional[Task]:
        """The task that was begun last, whether or not it has ended, None before the first."""
        raise NotImplementedError

    def outcome(self) -> Optional[Outcome]:
        """How the task has ended, None while it runs."""
        raise NotImplementedError

    def seconds(self) -> float:
        """Seconds since the machine started."""
        raise NotImplementedError


class OwnMachine(Machine):
    """The machine that this program runs on. store, folder, log: paths. Methods raise OSError."""

    def __init__(self, store: str, folder: str, log: str) -> None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.store, self.folder, self.log = store, folder, log
        self.process = None  # type: Optional[subprocess.Popen[bytes]]

    def serves(self) -> Tuple[Optional[int], Dict[str, str]]:
        found = read(Serving, self.folder, SERVING_FILE)
        if found is None:
            return None, {}
        moving = files.text(self._path(MOVING_FILE))
        is_mixed = moving == MIXED or (moving is not None and not self._is_busy())
        # Whoever serves no whole delivery takes what is settled at once.
        return None if is_mixed else found.number, found.sites

    def begin(self, task: Task) -> None:
        with open(self._path(LOCK_FILE), "a") as lock:
            # The lock belongs to the open file, so it is the new process's, too.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(self._path(MOVING_FILE)):
                files.write(self._path(MOVING_FILE), MIXED, 0o600)
            for name in (TASK_FILE, OUTCOME_FILE):
                files.remove(self._path(name))
            with contextlib.suppress(FileNotFoundError):
                if os.path.getsize(self.log) > _LOG_BYTES:
                    os.rename(self.log, self.log + ".1")
            program = os.path.join(os.path.dirname(os.path.realpath(__file__)), "take.py")
            command = [sys.executable, "-B", program, self.store, self.folder, self.log]
            command += [str(task.number), str(task.turn), *task.commands]
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as log:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[lock.fileno()],
                )

    def begun(self) -> Optional[Task]:
        end = time.monotonic() + _BEGIN_SECONDS
        while not os.path.exists(self._path(TASK_FILE)) and self._is_busy() and time.monotonic() < end:
            time.sleep(0.1)
        return read(Task, self.folder, TASK_FILE)

    def outcome(self) -> Optional[Outcome]:
        if self._is_busy():
            return None
        if self.process:
            self.process.wait()
            self.process = None
        found = read(Outcome, self.folder, OUTCOME_FILE)
        return found or Outcome(False, [*last_lines(self.log), "the run that took the delivery was killed"])

    def seconds(self) -> float:
        # In a container, the clock may have begun before the first process.
        with open("/proc/1/stat") as file:
            started = int(file.read().rpartition(")")[2].split()[19])
        return time.clock_gettime(_CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")

    def _is_busy(self) -> bool:
        """Whether a process of a task is there."""
        try:
            with open(self._path(LOCK_FILE)) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)


def read(kind: Type[T], folder: str, name: str) -> Optional[T]:
    """A document of a member's own, None for one that is missing or damaged."""
    try:
        return Store(folder).read(kind, name)
    except Damaged:
        return None


def last_lines(log: str, offset: int = 0) -> List[str]:
    """The last lines of a log, of what is behind `offset`."""
    try:
        with open(log, "rb") as file:
            file.seek(max(offset, os.path.getsize(log) - _LOG_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-_LINES:]
    except FileNotFoundError:
        return []


def name() -> str:
    """The member's id. Two machines of one image may have the same host name."""
    for path in (_INSTANCE, _MACHINE):
        found = re.sub(r"[^A-Za-z0-9]+", "-", (files.text(path) or "").strip()).strip("-")[:64]
        if found:
            return found
    raise FileNotFoundError("neither {} nor {} says which machine this is".format(_INSTANCE, _MACHINE))
