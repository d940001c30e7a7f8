"""Who is connected to a unix socket, as the kernel has it."""

import contextlib
import socket
import time
from pathlib import Path

from tests.unit.machine import module


def test_accepted_and_waiting_connections_are_counted_and_the_listener_is_not(tmp_path: Path) -> None:
    connections, path = module("connections"), str(tmp_path / "app.sock")
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen()
        assert connections.count(path) == 0
        clients = [opened.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        for client in clients:
            client.connect(path)
        accepted, _ = listener.accept()
        assert connections.count(path) == 3
        # A socket whose path only begins like this one is another socket.
        assert connections.count(path[:-1]) == 0
        accepted.close()
        # A connection waits until the server has accepted it, even if its client has gone.
        clients[1].close()
        assert connections.count(path) == 2
        started = time.monotonic()
        connections.wait_for_end(path, started + 0.2)
        assert time.monotonic() - started >= 0.2
        for _ in range(2):
            listener.accept()[0].close()
        connections.wait_for_end(path, time.monotonic() + 60)
        assert time.monotonic() - started < 30
