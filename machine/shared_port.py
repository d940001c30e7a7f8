"""A port that the programs of two releases have at once (SO_REUSEPORT), and which of them gets a connection.

The kernel gives a connection to any socket that listens on the port. A filter of the port, which Linux asks for the
number of the socket (SO_ATTACH_REUSEPORT_CBPF of https://man7.org/linux/man-pages/man7/socket.7.html), decides it here:

    keep()   clients get the old program, and this machine's own requests get the new program
    move()   everybody gets the new program
    drain()  the old program answers what it has, and gets nothing new meanwhile
    free()   there is no filter any more

A filter is set on a socket, and only the programs have one: pidfd_getfd, which Linux has since 5.6, gets it from them.
An older kernel leaves the choice as it is. Python 3.6, standard library only.
"""

import contextlib
import ctypes
import os
import socket
import struct
import sys
import time
from typing import Callable, Dict, Iterator, List, Optional, Set, Tuple, TypeVar

_TCP = "/proc/net/tcp"
# TCP_LISTEN of include/net/tcp_states.h.
_LISTENS = "0A"
_MIGRATE = "/proc/sys/net/ipv4/tcp_migrate_req"
# Numbers of include/uapi/asm-generic/unistd.h, which all architectures share.
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_ATTACH_FILTER, _DETACH_FILTER = 51, 68
# Instructions of include/uapi/linux/filter.h, and where a filter finds a random number and the client's address.
_LOAD, _ADD, _MODULO, _JUMP_IF_EQUAL, _RETURN, _RETURN_RESULT = 0x20, 0x04, 0x94, 0x15, 0x06, 0x16
_RANDOM, _CLIENT = 0x100000000 - 0x1000 + 56, 0x100000000 - 0x100000 + 12
_LOOPBACK = 0x7F000001
_PAUSE = 0.05
# Seconds in which a client whose connection has begun sends its request.
_LEAST_SECONDS = 1.0
Filter = List[Tuple[int, int, int, int]]
T = TypeVar("T")


class SharedPort:
    """The port <IPv4>:<port>, before the new program listens there.

    old: inodes of the sockets that listen. is_filtered: whether the kernel has taken the filter. has_moved: whether the
    new program gets the connections.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.old = listening(address)
        self.is_filtered = False
        self.has_moved = False

    def new(self) -> Set[int]:
        """Inodes of the sockets on which the new program listens.

        A worker of the old program that is replaced has a new socket, too, so there must be more sockets than before.
        """
        found = listening(self.address)
        return found - self.old if len(found) > len(self.old) else set()

    def answer(self, ask: Callable[[], T]) -> T:
        """Return what the new program answers. ask: sends it a request. Raises OSError.

        A program that binds the port and then fails has the old program answer in its place, so the same sockets must
        listen before and after.
        """
        before = self.new()
        answer = ask() if before else None
        if answer is None or not before <= self.new():
            raise OSError("nobody listens there yet")
        return answer

    def keep(self) -> None:
        """Leave the clients to the old program. The number of a socket that is not there means any socket."""
        if self.old:
            to_new = [(_RETURN, 0, 0, len(self.old))]
            self._filter([(_LOAD, 0, 0, _CLIENT), (_JUMP_IF_EQUAL, 0, 1, _LOOPBACK), *to_new, *_any(0, len(self.old))])
            self.has_moved = False

    def move(self) -> None:
        """Give new connections to the new program. Its sockets come after the old ones, because they are younger."""
        found = listening(self.address)
        self.is_filtered = False
        if self.old <= found:
            new = found - self.old
            if self.old and new:
                self._filter(_any(len(self.old), len(new)))
        else:
            # The kernel gives the number of a closed socket to the last one, so nobody knows which is whose.
            self.free()
        self.has_moved = self.is_filtered

    def free(self) -> None:
        """Remove the filter: the numbers of the sockets change as one of them is closed."""
        with contextlib.suppress(OSError), self._socket() as found:
            found.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)

    def drain(self, is_closing: bool, deadline: float) -> None:
        """Wait until the program that gets no new connections has answered its requests.

        is_closing: whether it closes each connection after the answer. A program that does not is waited for until it
        has read the requests that were sent: told to end, it answers what it has read, and closes all other
        connections. deadline: of time.monotonic().
        """
        losing = self.old if self.has_moved else self.new()
        if not (self.is_filtered and losing):
            return
        least = time.monotonic() + _LEAST_SECONDS
        processes = {process for process, _, inode in _open_sockets() if inode in losing}
        waiting: Optional[Set[int]] = None
        while time.monotonic() < deadline:
            queue, unread = self._connections(losing)
            if time.monotonic() > least and not queue:
                held = {inode for process, _, inode in _open_sockets() if process in processes}
                now = {inode for inode in held if inode in unread and (is_closing or unread[inode])}
                # A kept connection may have another request by now. Its client repeats one that meets the end.
                waiting = now if waiting is None else waiting & now
                if not waiting:
                    return
            time.sleep(_PAUSE)

    def _connections(self, listeners: Set[int]) -> Tuple[int, Dict[int, int]]:
        """How many connections those sockets have yet to accept, and the accepted ones: inode → bytes to be read."""
        queue, unread = 0, {}
        port = _number(self.address).partition(":")[2]
        for local, state, waiting, inode in rows():
            if state == _LISTENS and inode in listeners:
                queue += waiting
            elif state != _LISTENS and inode and local.endswith(":" + port):
                unread[inode] = waiting
        return queue, unread

    def _filter(self, instructions: Filter) -> None:
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
        program = struct.pack("HP", len(instructions), ctypes.addressof(code))
        self.is_filtered = False
        with contextlib.suppress(OSError), self._socket() as found:
            found.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
            self.is_filtered = True

    def _socket(self) -> socket.socket:
        """One of the sockets that listen on the port. Raises OSError."""
        wanted = listening(self.address)
        call = ctypes.CDLL(None, use_errno=True).syscall
        for process, descriptor, inode in _open_sockets():
            if inode in wanted:
                handle = call(_PIDFD_OPEN, process, 0)
                if handle < 0:
                    continue
                try:
                    copy = call(_PIDFD_GETFD, handle, descriptor, 0)
                finally:
                    os.close(handle)
                if copy >= 0:
                    return socket.socket(fileno=copy)
        raise OSError("no socket that listens at {} can be taken".format(self.address))


def _any(first: int, number: int) -> Filter:
    """A filter that answers with a random number, from `first` on."""
    return [(_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, number), (_ADD, 0, 0, first), (_RETURN_RESULT, 0, 0, 0)]


def listening(address: str) -> Set[int]:
    """Inodes of the sockets that listen at <IPv4>:<port>: each program that shares it has one or more of them."""
    wanted = _number(address)
    return {inode for local, state, _, inode in rows() if local == wanted and state == _LISTENS}


def migrate() -> None:
    """Have the kernel give the connections in the queue of a closing socket to another one that shares its port.

    Linux has this since 5.14: https://docs.kernel.org/networking/ip-sysctl.html
    """
    with contextlib.suppress(OSError), open(_MIGRATE, "w") as file:
        file.write("1")


def _number(address: str) -> str:
    """<IPv4>:<port> as /proc has it."""
    host, _, port = address.rpartition(":")
    return "{:08X}:{:04X}".format(int.from_bytes(socket.inet_aton(host), sys.byteorder), int(port))


def rows() -> Iterator[Tuple[str, str, int, int]]:
    """Yield address, state, bytes or connections that wait to be read or accepted, and inode of each socket."""
    with open(_TCP) as file:
        next(file)
        for line in file:
            # sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
            words = line.split()
            yield words[1], words[3], int(words[4].partition(":")[2], 16), int(words[9])


def _open_sockets() -> Iterator[Tuple[int, int, int]]:
    """Yield process, descriptor and inode of each socket that a process has open."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        folder = "/proc/{}/fd".format(process)
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    kind, _, inode = os.readlink(os.path.join(folder, name)).partition(":[")
                    if kind == "socket":
                        yield int(process), int(name), int(inode[:-1])
