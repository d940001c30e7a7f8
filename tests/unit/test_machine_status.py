"""The numbers of wsgi-ecs-status: what the log of requests, uWSGI and the kernel say."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contract import paths
from contract.documents import Endpoint
from tests.unit.machine import module
from tests.unit.machine.ports import Ports
from tests.unit.machine.server import Server

access_log, workers, status, connections = map(module, ("access_log", "workers", "status", "connections"))
# 2026-11-29 19:20:00 UTC
NOW = 1795980000


def combined(seconds: int, code: int) -> str:
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(NOW - seconds))
    return f'203.0.113.9 - ada b [{when}] "GET /\\x22 HTTP/1.1" {code} 5 "-" "a \\x22b\\x22"\n'


def in_json(seconds: int, code: int, took: float) -> str:
    # The machine's own time zone.
    when = time.strftime("%Y-%m-%dT%H:%M:%S+08:00", time.gmtime(NOW - seconds + 8 * 3600))
    return json.dumps({"time": when, "status": code, "request_time": took}) + "\n"


def test_the_last_minutes_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    assert access_log.recent(str(log), NOW) is None
    log.touch()
    assert access_log.recent(str(log), NOW) == (300, 0, 0.0, 0.0, None)
    old = combined(301, 500) * 1000
    log.write_text(old + "nonsense\n" + combined(300, 200) * 29 + combined(0, 503))
    assert access_log.recent(str(log), NOW) == (300, 30, 0.1, 0.0333, None)
    # The format may have changed within the minutes.
    log.write_text(log.read_text() + "".join(in_json(0, 200, (n + 1) / 100) for n in range(100)) + '{"time":')
    assert access_log.recent(str(log), NOW) == (300, 130, 0.433, 0.0077, 0.95)


def test_a_log_that_grows_fast_is_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(combined(seconds, 200) for seconds in range(200, -1, -1)))
    lines = log.read_text().splitlines()
    for block in (7, 100, 1000, 1 << 20):
        monkeypatch.setattr(access_log, "_BLOCK", block)
        assert list(access_log._backwards(str(log))) == lines[::-1]
    monkeypatch.setattr(access_log, "_BLOCK", len(lines[0]) + 1)
    monkeypatch.setattr(access_log, "_MOST", 51 * (len(lines[0]) + 1))
    found = access_log.recent(str(log), NOW)
    assert 49 <= found.seconds <= 50
    assert found.rate == pytest.approx(1, abs=0.05)


@pytest.fixture(params=["socket", "port", "http", "http socket"])
def stats(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The facts of a slot whose uWSGI tells its statistics on a socket or a port, with uwsgi.stats_http or without."""
    monkeypatch.setattr(workers, "_PATIENCE", 0.1)
    idle, busy = {"in_request": 0}, {"in_request": 1}
    told = {"pid": 1, "workers": [{"pid": 7, "cores": [busy, idle]}, {"pid": 8, "cores": [busy, busy]}, {"pid": 0}]}
    text = json.dumps(told).encode()
    monkeypatch.setattr(paths, "RUN", str(tmp_path))
    (tmp_path / "shop").mkdir()
    is_socket = "socket" in request.param
    with socket.socket(socket.AF_UNIX if is_socket else socket.AF_INET) as server:
        server.bind(f"{tmp_path}/shop/b.stats" if is_socket else ("127.0.0.1", 0))
        server.listen()

        def answer() -> None:
            client, _ = server.accept()
            if "http" in request.param:
                client.recv(100)
                client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n")
            client.sendall(text)
            client.close()

        threading.Thread(target=answer, daemon=True).start()
        yield {} if is_socket else {"stats_port": str(server.getsockname()[1])}


def test_uwsgi_says_itself_what_it_does(stats: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_memory", lambda pid: pid)
    monkeypatch.setattr(workers, "_sockets", lambda address: (5, 0))
    state: Any = SimpleNamespace(endpoint=Endpoint("uwsgi", "unix:/x"), facts=stats, site="shop", slot="b")
    assert workers.of(state) == (2, 3, 1, 5, 1)


@pytest.mark.parametrize(
    "text",
    [b'{"pid": "x"}', b'{"pid": 1, "workers": [1]}', b'{"workers": []}', b'{"pid": [1]}', b"{" * 100_000, b"x", b""],
    ids=["pid", "worker", "no pid", "list", "deep", "no JSON", "nothing"],
)
def test_who_answers_in_the_place_of_uwsgi_is_no_uwsgi(
    text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(text, tmp_path, monkeypatch) is None


def test_an_answer_without_end_is_read_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_MOST", 1 << 20)
    assert told(b'{"pid": 1, "workers": [' + b" " * (2 << 20) + b"]}", tmp_path, monkeypatch) is None


def told(text: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the workers are found to be if somebody else than uWSGI answers with a text."""
    monkeypatch.setattr(paths, "RUN", str(folder))
    monkeypatch.setattr(workers, "_main_pid", lambda state: None)
    monkeypatch.setattr(workers, "_memory", lambda pid: pid)
    (folder / "shop").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/shop/b.stats")
        server.listen()

        def answer() -> None:
            with server.accept()[0] as client, contextlib.suppress(OSError):
                client.sendall(text)

        threading.Thread(target=answer, daemon=True).start()
        state: Any = SimpleNamespace(endpoint=Endpoint("uwsgi", "unix:/x"), facts={}, site="shop", slot="b")
        return workers.of(state)


def test_the_kernel_says_who_waits(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket() as other, Ports() as port:
        server.bind(path)
        server.listen(9)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen(9)
        for family, listener, address in (
            (socket.AF_UNIX, server, f"unix:{path}"),
            (socket.AF_INET, other, f"0.0.0.0:{other.getsockname()[1]}"),
        ):
            clients = [socket.socket(family) for _ in range(3)]
            for client in clients:
                client.connect(listener.getsockname())
            accepted, _ = listener.accept()
            assert workers._sockets(address) == (2, 1)
            for each in (*clients, accepted):
                each.close()


def test_memory_counts_all_below_a_process() -> None:
    # Each holds 64 MiB of its own, and has nothing to do that would change it meanwhile.
    holds = "held = bytearray(os.urandom(1)) * (1 << 26); print(flush=True); input()"
    below = f"import os; {holds}"
    above = f"import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {below!r}]); {holds}"
    with subprocess.Popen([sys.executable, "-c", above], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        for _ in range(2):
            assert process.stdout.readline() == b"\n"
        assert 1 << 27 < workers._memory(process.pid) < 1 << 28
        assert 1 << 26 < workers._memory(*workers._children()[process.pid]) < 1 << 27


def test_the_same_for_a_person_and_for_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    try:
        archive = server.archive()
        server.apply(archive, {"KEY": "one"})
        for name in ("ROOT", "ETC", "LOG"):
            monkeypatch.setattr(paths, name, f"{server.root}/{name.lower().replace('root', 'srv')}")
        monkeypatch.setattr(status.redis_server, "is_running", lambda: None)
        monkeypatch.setattr(status, "revive", lambda say, stopped_too: say("started again: nginx.service"))
        busy = workers.Workers(2, 1, 3, 0, 5 << 20)
        monkeypatch.setattr(status.workers, "of", lambda state: busy)
        (server.root / "log/app/access.log").write_text("")
        (server.site / "backup").touch()
        out: list[str] = []
        assert status.command(["--json"], out.append) == 0
        found = json.loads(out[0])
        (site,) = found["sites"]
        assert (site["name"], site["release"], site["workers"]) == ("app", archive.id, busy._asdict())
        assert abs(site["since"] - time.time()) < 60
        assert site["requests"]["seconds"] == 300
        assert {
            "cpus",
            "load",
            "memory",
            "disks",
            "redis",
            "database",
            "shared_data",
            "updates",
            "unconfined",
            "sites",
            "edited",
        } == set(found)
        assert found["database"] is None
        (server.site / "current/server.conf").write_text("")
        out.clear()
        assert status.command(["--json", "--no-drift"], out.append) == 0
        assert json.loads(out[0])["edited"] is None
        out.clear()
        assert status.command([], out.append) == 1
        text = "\n".join(out)
        assert text.startswith("started again: nginx.service\n")
        assert "  workers: 1 of 4 busy, queue 0, 5.0 MiB memory\n" in text
        assert "  requests: 0.0 a second, 0.0 % 5xx (last 300 s)\n" in text
        assert "  last backup of its data: 2" in text
        assert "\nmachine: load " in text
        assert "server.conf (changed)\nnext: raise release.generation" in text
        assert "database: " not in text
        monkeypatch.setattr(paths, "DATA", str(server.root))
        monkeypatch.setattr(paths, "DATABASE_COMMAND", str(server.root / "lock"))
        for said in ("database: no backup yet", "database: last backup 2001-09-09 01:46:40 UTC"):
            out.clear()
            status.command([], out.append)
            assert out[1] == said
            assert "nightly dump" not in out[2]
            (server.root / "backup").touch()
            os.utime(server.root / "backup", (1_000_000_000, 1_000_000_000))
        folder, name = server.root / "dumps", "app-20260131T033000Z.sql.gz"
        folder.mkdir()
        for file in (name, "app-20260130T033000Z.sql.gz", "new", "mine.sql.gz"):
            (folder / file).write_bytes(b"x" * 2048)
        os.utime(folder / "app-20260130T033000Z.sql.gz", (1_000_000_000, 1_000_000_000))
        os.utime(folder / name, (1_000_086_400, 1_000_086_400))
        monkeypatch.setattr(status.dumps, "run", lambda *_, **__: "failed\n")
        out.clear()
        status.command([], out.append)
        assert out[1:5] == [
            "database: last backup 2001-09-09 01:46:40 UTC, last nightly dump 2001-09-10 01:46:40 UTC",
            "  the last nightly dump failed (journalctl -u wsgi-ecs-dump)",
            f"  nightly dump {name}: 2 KiB",
            "  nightly dump app-20260130T033000Z.sql.gz: 2 KiB",
        ]
        found = status.of_machine(False)["database"]
        assert (found["backup"], found["dump_failed"]) == (1_000_000_000, True)
        assert found["dumps"][0] == {"name": name, "time": 1_000_086_400, "size": 2048}
    finally:
        server.close()
