"""`logs`: what a line says, what is read of a file, and how it is shown."""

import gzip
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from operations import log_choice, log_streams, logs
from operations.connection import Way
from operations.errors import UserError
from operations.log_streams import Streams
from operations.log_view import Entry, View, harmless, time_text
from operations.machines import Machine, Stack
from tests.builders.stack import PROJECT
from tests.unit.machine import python36

FOLDER = PROJECT / "operations" / "on-server"


@pytest.fixture
def on_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The modules that run on a server, whose times are UTC and whose logs are in a folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    import log_files
    import log_lines
    import log_reader

    monkeypatch.setattr(log_files, "LOGS", str(tmp_path / "log"))
    monkeypatch.setattr(log_files, "ENVIRONMENTS", str(tmp_path / "etc"))
    monkeypatch.setattr(log_files, "_OF_HOST", {})
    log_lines._minutes.clear()
    (tmp_path / "log" / "shop").mkdir(parents=True)
    yield SimpleNamespace(lines=log_lines, files=log_files, reader=log_reader, folder=tmp_path / "log" / "shop")
    monkeypatch.undo()
    time.tzset()


NOON = datetime(2024, 11, 29, 12, 0, 5, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ('10.0.0.1 - - [29/Nov/2024:12:00:05 +0000] "GET / HTTP/1.1" 200 12 "-" "x"', 0),
        ('10.0.0.1 - [01/Jan/2000:00:00:00 +0000] [29/Nov/2024:20:00:05 +0800] "GET / HTTP/1.1" 401 0 "-" "x"', 0),
        ('127.0.0.1 - - [29/Nov/2024 12:00:05] "GET / HTTP/1.1" 200 -', 0),
        ('{"time": "2024-11-29T14:00:05+02:00", "status": 200, "request_time": 0.1}', 0),
        ('{"msec": "1732881605.250", "status": "200"}', 0.25),
        ('{"timestamp": 1732881605250}', 0.25),
        ('{"time_local": "29/Nov/2024:12:00:05 +0000"}', 0),
        ("2024/11/29 12:00:05 [error] 12#12: *1 open() failed", 0),
        ("2024-11-29 12:00:05,250 INFO spawned: 'app' with pid 7", 0.25),
        ("[2024-11-29 12:00:05 +0000] [7] [INFO] Starting gunicorn 23.0.0", 0),
        ("[2024-11-29 20:00:05 +0800] [7] [INFO] Booting worker with pid: 8", 0),
        ('[2024-11-29 12:00:05 +0000] 127.0.0.1 - "GET / HTTP/1.1" 200 1.2', 0),
        ("ERROR 2024-11-29 12:00:05,250 views failed", 0.25),
        ("[INFO] 2024-11-29T12:00:05.250Z started", 0.25),
        ("*** Starting uWSGI 2.0.31 (64bit) on [Sun Nov 29 12:00:05 2024] ***", 0),
        ("Sun Nov 29 12:00:05 2024 - SIGPIPE: writing to a closed pipe", 0),
        ("[pid: 7|app: 0|req: 1/1] 10.0.0.1 (ada) {40 vars in 500 bytes} [Sun Nov 29 12:00:05 2024] GET / => generated "
         "12 bytes in 1 msecs (HTTP/1.1 200) 2 headers in 80 bytes", 0),
        ("Cloud-init v. 22.4.2 running 'init' at Sun, 29 Nov 2024 12:00:05 +0000. Up 1.34 seconds.", 0),
        ("7:M 29 Nov 2024 12:00:05.250 * Ready to accept connections", 0.25),
        ("2024-11-29 12:00:05 0 [Note] mariadbd: ready for connections.", 0),
        ("Deadline 2024-11-29 12:00:05 is over", None),
        ("Traceback (most recent call last):", None),
        ("2024-13-29 12:00:05 no such month", None),
        ("{not json", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_time_of_a_line(on_server: SimpleNamespace, line: str, after: float | None) -> None:
    found = on_server.lines.epoch(line)
    assert found == (None if after is None else pytest.approx(NOON + after))


def test_a_time_without_an_offset_is_of_the_applications_zone(on_server: SimpleNamespace, tmp_path: Path) -> None:
    line = "2024-11-29 20:00:05,250 INFO spawned"
    assert on_server.lines.epoch(line, "Asia/Shanghai") == pytest.approx(NOON + 0.25)
    assert os.environ["TZ"] == "UTC"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shop.env.json").write_text('{"TZ": "Asia/Shanghai"}')
    for name in ("a.log", "error.log"):
        (on_server.folder / name).write_text("x")
    zones = {source.name: source.zone for source in on_server.files.sources(None, None)}
    # nginx does not know the application's environment.
    assert zones == {"app": "Asia/Shanghai", "nginx-error": ""}


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('10.0.0.1 - - [29/Nov/2024:12:00:05 +0000] "GET /404 HTTP/1.1" 502 12 "-" "x"', 502),
        (r'10.0.0.1 - - [29/Nov/2024:12:00:05 +0000] "GET /\x22 500 HTTP/1.1" 200 12 "-" "] \x22a\x22 500 "', 200),
        ('{"status": "404", "uri": "/"}', 404),
        ("[pid: 7|app: 0|req: 1/1] 10.0.0.1 () {40 vars in 500 bytes} [Sun Nov 29 12:00:05 2024] GET / => generated "
         "12 bytes in 1 msecs (HTTP/1.1 500) 2 headers in 80 bytes", 500),
        ("2024/11/29 12:00:05 [error] 12#12: 500", None),
    ],
)  # fmt: skip
def test_the_status_of_a_request(on_server: SimpleNamespace, line: str, status: int | None) -> None:
    assert on_server.lines.status(line) == status


def line_at(seconds: float, text: str = "x") -> str:
    return f"{datetime.fromtimestamp(NOON + seconds, UTC):%Y-%m-%d %H:%M:%S},000 {text}\n"


def read(on_server: SimpleNamespace, capsys: Any, **request: Any) -> list[tuple[str, list[str]]]:
    """Source and lines of each entry that the reader prints."""
    wanted = on_server.reader.Wanted({"process": "", "statuses": [], **request})
    followed = []
    for source in on_server.files.sources(wanted.site, wanted.process or None):
        file = on_server.files.opened(source.path)
        followed.append(on_server.reader.Followed(source, file, os.fstat(file.fileno()).st_size))
    wanted.statuses = wanted.statuses or None
    return [(entry.source.name, entry.lines) for entry in on_server.reader.history(wanted, followed)]


@pytest.fixture
def no_journal(on_server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_server.reader.Wanted, "has_journal", False)


@pytest.mark.usefixtures("no_journal")
def test_logs_are_merged_and_a_traceback_stays_whole(on_server: SimpleNamespace, capsys: Any) -> None:
    (on_server.folder / "a.log").write_text(line_at(1, "failed") + "Traceback\n  boom\n" + line_at(9))
    (on_server.folder / "b.worker.2.log").write_text(line_at(5, "job"))
    found = read(on_server, capsys, lines=40)
    assert [name for name, _ in found] == ["app", "worker-2", "app"]
    assert found[0][1][1:] == ["Traceback", "  boom"]
    assert read(on_server, capsys, lines=40, grep="boom") == found[:1]
    assert [lines for _, lines in read(on_server, capsys, lines=1)] == [[line_at(5, "job")[:-1]], [line_at(9)[:-1]]]


@pytest.mark.usefixtures("no_journal")
def test_of_a_large_log_only_the_end_is_read(on_server: SimpleNamespace, capsys: Any) -> None:
    lines = [line_at(number, f"number {number}") for number in range(200_000)]
    (on_server.folder / "a.log").write_text("".join(lines))
    reads = 0

    class Counted(io.FileIO):
        def readinto(self, buffer: Any) -> Any:
            nonlocal reads
            found = super().readinto(buffer)
            reads += found or 0
            return found

    source = on_server.files.sources(None, None)[0]
    size = (on_server.folder / "a.log").stat().st_size
    file = io.BufferedReader(Counted(source.path))
    found = list(on_server.files.since(source, NOON + 199_990, 40, file, size))
    assert [entry.lines[0].split()[-1] for entry in found] == [str(number) for number in range(199_990, 200_000)]
    assert reads < size / 5
    assert len(on_server.files.last(source, 3, lambda lines: "9 " not in lines[0], file, size)) == 3


@pytest.mark.usefixtures("no_journal")
def test_a_time_that_is_longer_ago_is_in_the_rotated_files(on_server: SimpleNamespace, capsys: Any) -> None:
    (on_server.folder / "a.log").write_text(line_at(30))
    (on_server.folder / "a.log.1").write_text(line_at(10) + line_at(20))
    with gzip.open(on_server.folder / "a.log.2.gz", "wt") as old:
        old.write(line_at(0) + line_at(5, "packed"))
    found = [lines[0] + "\n" for _, lines in read(on_server, capsys, since=NOON + 3)]
    assert found == [line_at(5, "packed"), line_at(10), line_at(20), line_at(30)]
    assert len(read(on_server, capsys, since=NOON + 20)) == 2


@pytest.mark.usefixtures("no_journal")
def test_lines_without_a_time_are_as_new_as_the_file_may_be(on_server: SimpleNamespace, capsys: Any) -> None:
    log = on_server.folder / "a.log"
    log.write_text(line_at(0) + "printed\n")
    assert read(on_server, capsys, since=time.time() - 60, lines=None) == [("app", ["printed"])]
    os.utime(log, (NOON, NOON))
    assert read(on_server, capsys, since=NOON + 60, lines=None) == []


@pytest.mark.usefixtures("no_journal")
def test_a_link_in_a_sites_folder_is_not_followed(on_server: SimpleNamespace) -> None:
    (on_server.folder / "x.log").symlink_to("/etc/passwd")
    os.mkfifo(on_server.folder / "y.log")
    assert [on_server.files.opened(source.path) for source in on_server.files.sources(None, None)] == [None, None]


def test_what_is_added_is_found_after_a_rotation_too(on_server: SimpleNamespace) -> None:
    log = on_server.folder / "a.log"
    log.write_text(line_at(0))
    (source,) = on_server.files.sources("shop", None)
    followed = on_server.reader.Followed(source, on_server.files.opened(source.path), log.stat().st_size)

    def added() -> list[str]:
        return [line for _ in range(4) for entry in followed.grown() for line in entry.lines]

    with log.open("a") as file:
        file.write(line_at(1, "one") + "Traceback\n  half a li")
        file.flush()
        assert added() == [line_at(1, "one")[:-1], "Traceback"]
        file.write("ne\n")
        file.flush()
        assert added() == ["  half a line"]
        log.rename(on_server.folder / "a.log.1")
        log.write_text(line_at(3, "new file"))
        file.write(line_at(2, "last of the old"))
    assert added() == [line_at(2, "last of the old")[:-1], line_at(3, "new file")[:-1]]
    log.write_text("cut\n")
    assert added() == ["cut"]


def test_the_journal_says_unit_and_site(on_server: SimpleNamespace) -> None:
    rows: list[dict[str, Any]] = [
        {"MESSAGE": "Started", "UNIT": "wsgi-shop-2-a.service", "_SYSTEMD_UNIT": "init.scope"},
        {"MESSAGE": [104, 105, 255], "_SYSTEMD_UNIT": "nginx.service"},
        {"MESSAGE": "tick", "UNIT": "wsgi-shop.tick.service"},
        # A line of supervisor's log is in the log's file.
        {"MESSAGE": "2026-11-29 23:45:45,128 INFO stopped: shop-b", "_SYSTEMD_UNIT": "supervisor.service"},
        {"MESSAGE": "Error: Invalid user", "_SYSTEMD_UNIT": "supervisor.service"},
    ]
    raw = [json.dumps({**row, "__REALTIME_TIMESTAMP": "1732881605250000"}).encode() for row in rows]
    wanted = on_server.reader.Wanted({})
    found = list(on_server.reader.journal_entries([*raw, b"no json"], wanted, ["shop", "shop-2"]))
    assert [(entry.source.site, entry.source.name, entry.lines) for entry in found] == [
        ("shop-2", "wsgi-shop-2-a", ["Started"]),
        ("", "nginx", ["hi\\xff"]),
        ("shop", "wsgi-shop.tick", ["tick"]),
        ("", "supervisor", ["Error: Invalid user"]),
    ]
    assert found[0].time == pytest.approx(NOON + 0.25)
    wanted.site = "shop"
    assert [entry.lines for entry in on_server.reader.journal_entries(raw, wanted, ["shop", "shop-2"])] == [["tick"]]


class OverPipe(Way):
    """A machine that is this one: its reader runs here."""

    def command(self, *flags: str) -> list[str]:
        return ["sh", "-c", 'shift; eval "exec $*"', "sh"]


@pytest.mark.parametrize("python", ["here", "3.6"])
def test_the_readers_entries_arrive(python: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    program = sys.executable if python == "here" else python36()
    if program is None:
        pytest.skip("no python3.6")
    (tmp_path / "log" / "shop").mkdir(parents=True)
    (tmp_path / "log" / "shop" / "a.log").write_text(line_at(0, "caf\u00e9 \u001b[31m red"))
    patched = f"sys.modules['log_files'].LOGS={str(tmp_path / 'log')!r};sys.modules['log_files']._OF_HOST={{}}\n"
    assert "sys.modules['log_reader']" in log_streams._START
    code = log_streams._START.replace("sys.modules['log_reader']", patched + "sys.modules['log_reader']")
    start = shlex.join([program, "-B", "-c", code])
    monkeypatch.setattr(log_streams, "_COMMAND", start)
    way = OverPipe("198.51.100.7", "i-1", tmp_path, None)
    stack = Stack("qa", (Machine("front", "i-1", ("shop",), way), Machine("app-1", "i-2", ("shop",), way, "it is off")))
    assert logs.logs(stack, log_choice.Choice(site="shop", statuses=()), None) == 1
    done = capsys.readouterr()
    assert done.err == "app-1: it is off\n"
    assert "front shop/app" in done.out
    assert "caf\u00e9 \\x1b[31m red" in done.out
    with pytest.raises(UserError, match="--process nope: no machine has a log of such a process"):
        logs.logs(Stack("qa", stack.machines[:1]), log_choice.Choice(process="nope"), None)


def test_entries_of_several_machines_are_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_streams, "_LATE", 0.1)
    streams = Streams([], {})
    streams.readers = [SimpleNamespace()]  # type: ignore[list-item]
    for seconds in (3.0, 1.0, 2.0):
        streams._live.put(Entry(seconds, False, "front", "", "app", 0, ("x",)))
    live = streams.live()
    assert [entry.time for entry in (next(live), next(live), next(live)) if isinstance(entry, Entry)] == [1, 2, 3]


def test_nothing_in_a_log_steers_the_terminal() -> None:
    hostile = "a\x1b[2J\x9b31m\r\x07\x7f\u202eb\u2028\tc\n\udc80 \u4f60"
    shown = harmless(hostile)
    assert shown == "a\\x1b[2J\\x9b31m\\r\\x07\\x7f\\u202eb\\u2028\tc\\n\\udc80 \u4f60"
    entry = Entry(NOON, False, "app-1", "shop", "x\x1b[0m", 500, (hostile, "second"))
    plain = View(["app-1"], False).text(entry)
    assert "\x1b" not in plain
    assert plain.count("\n") == 2
    assert View(["app-1"], True).text(entry).count("\x1b") == 8


def test_a_time_is_shown_in_the_zone_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    assert time_text(NOON, False) == " 2024-11-29 20:00:05    "
    assert time_text(NOON + 0.25, True) == "~2024-11-29 20:00:05.250"
    monkeypatch.undo()
    time.tzset()


def test_a_choice_is_checked() -> None:
    now = datetime(2024, 11, 29, 12)
    assert log_choice.parse_since("10m", now) == (now - timedelta(minutes=10)).timestamp()
    assert log_choice.parse_since("2024-11-29T20:00:05+08:00", now) == NOON
    assert log_choice.statuses("404,5XX") == ("404", "5xx")
    nothing: dict[str, Any] = dict.fromkeys(("since", "lines", "site", "process", "grep", "status"))
    assert log_choice.choice_of(follow=False, **nothing).lines == 40
    assert log_choice.choice_of(follow=False, **{**nothing, "since": "1h"}).lines is None
    for wrong, said in (
        ({"since": "yesterday"}, "--since yesterday: no time; allowed: 30s, 10m"),
        ({"since": "99999999d"}, "--since"),
        ({"status": "600"}, "--status 600: allowed: statuses such as 404 or 5xx"),
        ({"grep": "("}, r"--grep \(: .*; allowed: a regular expression"),
        ({"process": "a;b"}, "--process a;b: allowed: "),
        ({"since": "1h", "lines": 5}, "--lines with --since; allowed: one of them"),
    ):
        with pytest.raises(UserError, match=said):
            log_choice.choice_of(follow=False, **{**nothing, **wrong})
