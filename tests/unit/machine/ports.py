"""Loopback ports for tests, below those that the system gives out by itself."""

import contextlib
import fcntl
import os
import socket
import tempfile
from pathlib import Path

_LOCKS = Path(tempfile.gettempdir(), f"wsgi-ecs-test-ports-{os.getuid()}")
_COUNT = 4


class Ports:
    """Four ports in a row, the `first` one divisible by four, that no other test of any process has until close()."""

    def __init__(self) -> None:
        _LOCKS.mkdir(exist_ok=True)
        for first in range(20000, 32000, _COUNT):
            lock = (_LOCKS / str(first)).open("w")
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if all(map(_is_free, range(first, first + _COUNT))):
                    self.first, self._lock = first, lock
                    return
            lock.close()
        raise AssertionError("no free ports")

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> int:
        return self.first

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_free(port: int) -> bool:
    """Whether nobody listens on a port, such as a program that is no test."""
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False
