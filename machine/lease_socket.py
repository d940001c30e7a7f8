"""Answers the commands of this machine that ask whether the lease is this member's (has_lease.py).

Each connection gets 1 or 0. The store is asked for each, so an answer is as new as the question; while the store is
away, there is none. Any user of the machine may ask. Python 3.6, standard library only.
"""

import contextlib
import os
import socket
import threading
from typing import Callable

import files

_BACKLOG = 64


def start(path: str, holds: Callable[[], bool]) -> None:
    """Answer on a socket from now on, in a thread that ends with the program. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX)
    files.remove(path + ".new")
    listener.bind(path + ".new")
    # The users of the sites ask.
    os.chmod(path + ".new", 0o666)  # noqa: S103
    listener.listen(_BACKLOG)
    # Whoever finds the socket gets an answer.
    os.rename(path + ".new", path)
    threading.Thread(target=_answer, args=(listener, holds), daemon=True).start()


def _answer(listener: socket.socket, holds: Callable[[], bool]) -> None:
    while True:
        connection, _ = listener.accept()
        # One who has asked may be gone.
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.sendall(b"1" if holds() else b"0")
