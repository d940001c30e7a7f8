"""Loopback ports for tests, below those that the system gives out by itself."""

import contextlib
import socket

_COUNT = 4


class Ports:
    """Four ports in a row, the `first` one divisible by four, that no other test of any process has until close()."""

    def __init__(self) -> None:
        for first in range(20000, 32000, _COUNT):
            # A name without a file belongs to the host's network, as the ports do: all users and all
            # folders for temporary files share it, and it ends with the process.
            lock = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                lock.bind(f"\0wsgi-ecs-test-ports-{first}")
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
