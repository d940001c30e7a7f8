"""Requests that go on while something changes, each of which is counted by what became of it.

    kept connections   one request after the other on one connection, as browsers and load balancers send them
    new connections    one connection for each request

A server may close a kept connection at any moment (RFC 9112, 9.5), so that a client's request meets the end of the
connection and gets no byte of an answer. A client repeats such a request on a new connection (RFC 9112, 9.3.1), and so
does this one. It counts these requests as `empty`, and what became of the repeated request as for any other request.
"""

import asyncio
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

# Seconds that an answer may take.
_TIMEOUT = 30.0
_MOST_BYTES = 1 << 20
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Tally:
    """What became of the requests.

    statuses: of whole answers. lost: requests without a whole answer, by reason: refused (no connection), reset,
    closed (the connection ended on a new connection, or within an answer), late. empty: see above. seconds: that each
    request took, with its repetition.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(self.statuses.values()) + sum(self.lost.values())

    @property
    def failed(self) -> int:
        """Requests that did not get a whole 2xx answer in the end."""
        return self.requests - sum(count for status, count in self.statuses.items() if 200 <= status < 300)

    @property
    def slowest(self) -> float:
        return max(self.seconds, default=0.0)

    @property
    def p95(self) -> float:
        ordered = sorted(self.seconds)
        return ordered[int(len(ordered) * 0.95)] if ordered else 0.0

    def __str__(self) -> str:
        """All counts in words, for the message of a failed test."""
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(self.lost.items())) or "none"
        return f"{self.requests} requests: {dict(self.statuses)}, lost: {lost}, empty and repeated: {self.empty}"


class _NoAnswerError(Exception):
    """The connection has ended before the first byte of an answer. args: reset or closed."""


class Load:
    """Requests to one site. connections: half of them kept. rate: requests a second of all connections together.

    trust: who must vouch for the site's certificate, None for plain HTTP.
    """

    def __init__(
        self,
        address: str,
        host: str,
        paths: Sequence[str] = ("/healthz",),
        port: int = 80,
        connections: int = 200,
        rate: float = 300,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.address, self.port = address, port
        # No name is asked for without TLS.
        self.security: dict[str, Any] = {"ssl": trust, "server_hostname": host} if trust else {}
        self.requests = [
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: load\r\nConnection: {{}}\r\n\r\n" for path in paths
        ]
        self.connections, self.period = connections, connections / rate
        self.tally = Tally()
        self._ended = threading.Event()

    async def run(self) -> None:
        """Ask until stop()."""
        await asyncio.gather(*(self._client(number) for number in range(self.connections)))

    def stop(self) -> None:
        self._ended.set()

    async def _client(self, number: int) -> None:
        is_kept = number % 2 == 0
        connection: Connection | None = None
        loop = asyncio.get_running_loop()
        # The clients do not ask at the same moment.
        due = loop.time() + self.period * number / self.connections
        turn = number
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            if self._ended.is_set():
                break
            connection = await self._ask(connection, self.requests[turn % len(self.requests)], is_kept)
            turn += 1
            # What is late is not made up for by many requests at once.
            due = max(due + self.period, loop.time())
        if connection:
            connection[1].close()

    async def _ask(self, connection: Connection | None, request: str, is_kept: bool) -> Connection | None:
        """Ask once, and once again on a new connection if a kept one gave no byte. Returns a connection to keep."""
        started = time.monotonic()
        if connection and connection[0].at_eof():
            # The server has closed the connection before this request.
            connection[1].close()
            connection = None
        try:
            if connection:
                try:
                    return await self._exchange(connection, request, is_kept)
                except _NoAnswerError:
                    self.tally.empty += 1
            return await self._exchange(None, request, is_kept)
        except TimeoutError:
            self.tally.lost["late"] += 1
        except (_NoAnswerError, _CutError) as error:
            self.tally.lost[str(error)] += 1
        finally:
            self.tally.seconds.append(time.monotonic() - started)
        return None

    async def _exchange(self, connection: Connection | None, request: str, is_kept: bool) -> Connection | None:
        async with asyncio.timeout(_TIMEOUT):
            if connection is None:
                try:
                    where = (self.address, self.port)
                    connection = await asyncio.open_connection(*where, limit=_MOST_BYTES, **self.security)
                except OSError:
                    raise _CutError("refused") from None
            reader, writer = connection
            stays = False
            try:
                writer.write(request.format("keep-alive" if is_kept else "close").encode())
                status, stays = await _answer(reader)
            finally:
                if not (stays and is_kept):
                    writer.close()
        self.tally.statuses[status] += 1
        return connection if stays and is_kept else None


class _CutError(Exception):
    """A request without a whole answer. args: refused, reset or closed."""


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read a whole answer. Returns its status, and whether the connection stays open."""
    head = b""
    try:
        head = await reader.readexactly(1)
    except asyncio.IncompleteReadError:
        raise _NoAnswerError("closed") from None
    except ConnectionError:
        raise _NoAnswerError("reset") from None
    try:
        head += await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await reader.readexactly(size + 2)
            await reader.readuntil(b"\r\n")
        elif "content-length" in headers:
            await reader.readexactly(int(headers["content-length"]))
        else:
            await reader.read()
            headers["connection"] = "close"
    except asyncio.IncompleteReadError:
        raise _CutError("closed") from None
    except ConnectionError:
        raise _CutError("reset") from None
    return int(first.split(" ")[1]), headers.get("connection", "").lower() != "close"


@contextmanager
def loaded(*loads: Load, least: int = 0, seconds: float = 600) -> Iterator[None]:
    """Let all loads ask meanwhile, and until each has sent at least so many requests.

    seconds: that this may take after the block.
    """

    async def run() -> None:
        await asyncio.gather(*(load.run() for load in loads))

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield
        deadline = time.monotonic() + seconds
        while any(load.tally.requests < least for load in loads) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        for load in loads:
            load.stop()
        with suppress(KeyboardInterrupt):
            thread.join()
