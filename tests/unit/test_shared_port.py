"""A port that two programs share, on sockets of this process: who listens there, and who gets a connection."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.unit.machine import module
from tests.unit.machine.ports import Ports

shared_port = module("shared_port")


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def listener(opened: contextlib.ExitStack, address: tuple[str, int], backlog: int = 100) -> socket.socket:
    """A socket that shares its port, as a program of one release has it."""
    program = opened.enter_context(socket.socket())
    # Connections of another test may still be in TIME_WAIT.
    program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    program.bind(address)
    program.listen(backlog)
    program.setblocking(False)
    return program


def accepted(program: socket.socket) -> int:
    """How many connections wait for a program, which closes them."""
    for number in range(1000):
        try:
            program.accept()[0].close()
        except BlockingIOError:
            return number
    raise AssertionError


def connect(opened: contextlib.ExitStack, port: int, source: str, number: int = 16) -> None:
    for _ in range(number):
        opened.enter_context(socket.create_connection(("127.0.0.1", port), source_address=(source, 0)))


def test_each_program_that_shares_a_port_listens(opened: contextlib.ExitStack) -> None:
    port = opened.enter_context(Ports())
    found = []
    for host in ("0.0.0.0", "0.0.0.0", "127.0.0.1"):  # noqa: S104
        before = len(shared_port.listening(f"{host}:{port}"))
        listener(opened, (host, port))
        found.append((before, len(shared_port.listening(f"{host}:{port}"))))
    # A program on trial at loopback is counted alone.
    assert found == [(0, 1), (1, 2), (0, 1)]


# A program may have several sockets, such as one for each worker.
@pytest.mark.parametrize("number", [1, 3])
def test_clients_stay_with_the_old_program_until_the_new_one_gets_them_all(
    opened: contextlib.ExitStack, number: int
) -> None:
    port = opened.enter_context(Ports())
    address = ("0.0.0.0", port)  # noqa: S104
    old = [listener(opened, address) for _ in range(number)]
    shared = shared_port.SharedPort(f"0.0.0.0:{port}")
    shared.keep()
    assert shared.is_filtered
    assert not shared.new()
    new = [listener(opened, address) for _ in range(number)]
    assert len(shared.new()) == number
    # A client of another address than this machine's own, which asks whether the new program is healthy.
    connect(opened, port, "127.0.0.2")
    assert (sum(map(accepted, old)), sum(map(accepted, new))) == (16, 0)
    connect(opened, port, "127.0.0.1")
    assert (sum(map(accepted, old)), sum(map(accepted, new))) == (0, 16)
    shared.move()
    for source in ("127.0.0.1", "127.0.0.2"):
        connect(opened, port, source)
        assert (sum(map(accepted, old)), sum(map(accepted, new))) == (0, 16)
    # A release that is undone, after all.
    shared.keep()
    connect(opened, port, "127.0.0.2")
    assert (sum(map(accepted, old)), sum(map(accepted, new))) == (16, 0)
    shared.move()
    for program in old:
        program.close()
    shared.free()
    connect(opened, port, "127.0.0.2", 40 * number)
    assert all(map(accepted, new)), "each socket of the new program gets some"


def test_a_replaced_worker_of_the_old_program_is_not_the_new_one(opened: contextlib.ExitStack) -> None:
    port = opened.enter_context(Ports())
    address = ("0.0.0.0", port)  # noqa: S104
    old = [listener(opened, address) for _ in range(2)]
    shared = shared_port.SharedPort(f"0.0.0.0:{port}")
    shared.keep()
    old.pop(0).close()
    old.append(listener(opened, address))
    assert not shared.new()
    new = listener(opened, address)
    assert shared.new()
    # The numbers of the sockets are others now, so the kernel chooses.
    shared.move()
    assert not shared.is_filtered
    connect(opened, port, "127.0.0.2", 100)
    assert all(map(accepted, [*old, new]))


def test_the_old_program_does_not_answer_for_one_that_binds_the_port_and_fails(opened: contextlib.ExitStack) -> None:
    port = opened.enter_context(Ports())
    address = ("0.0.0.0", port)  # noqa: S104
    listener(opened, address)
    shared = shared_port.SharedPort(f"0.0.0.0:{port}")
    with pytest.raises(OSError, match="nobody listens"):
        shared.answer(lambda: "by the old program")
    new = listener(opened, address)

    def fail() -> str:
        new.close()
        return "by the old program"

    assert shared.answer(lambda: "by the new program") == "by the new program"
    with pytest.raises(OSError, match="nobody listens"):
        shared.answer(fail)


@pytest.mark.parametrize("is_closing", [True, False])
def test_the_old_program_ends_after_its_last_request(
    opened: contextlib.ExitStack, is_closing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_port, "_LEAST_SECONDS", 0.2)
    port = opened.enter_context(Ports())
    address = ("0.0.0.0", port)  # noqa: S104
    old = listener(opened, address)
    shared = shared_port.SharedPort(f"0.0.0.0:{port}")
    shared.keep()
    client = opened.enter_context(socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)))
    listener(opened, address)
    shared.move()

    def is_waited_for(seconds: float) -> bool:
        started = time.monotonic()
        shared.drain(is_closing, started + seconds)
        assert time.monotonic() - started >= 0.2, "a client whose connection has begun has a moment for its request"
        return time.monotonic() - started >= seconds

    assert is_waited_for(0.5), "a connection waits for the old program"
    connection = old.accept()[0]
    client.sendall(b"GET")
    assert is_waited_for(0.5), "a request waits for the old program"
    connection.recv(3)
    # A program that keeps connections closes them itself, when it is told to end.
    assert is_waited_for(0.5 if is_closing else 60) == is_closing
    connection.close()
    assert not is_waited_for(60)


def test_nothing_is_waited_for_where_the_kernel_takes_no_filter(
    opened: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_port, "_PIDFD_GETFD", 1 << 20)
    port = opened.enter_context(Ports())
    listener(opened, ("0.0.0.0", port))  # noqa: S104
    shared = shared_port.SharedPort(f"0.0.0.0:{port}")
    shared.keep()
    connect(opened, port, "127.0.0.2", 1)
    listener(opened, ("0.0.0.0", port))  # noqa: S104
    shared.move()
    started = time.monotonic()
    shared.drain(True, started + 30)
    shared.free()
    assert time.monotonic() - started < 1
