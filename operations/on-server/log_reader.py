"""Read the logs of this server: print their entries as lines of JSON, merged by time, and then what is added.

The request is the client's: since, lines, follow, site, process, grep, statuses. An empty map ends the entries that
were there. The reader ends when its standard input does, which is when the client's ssh ends, however it ends.
Python 3.6, standard library only.
"""

import glob
import heapq
import json
import os
import re
import subprocess
import sys
import threading
import time
from typing import IO, Any, Dict, Iterator, List, NoReturn, Optional

import log_files
import log_lines
from log_files import Entry, Source

# Seconds between two looks at the files, and between two looks for new files.
_PAUSE, _NEW = 0.3, 1.0
_UNITS = ("wsgi-*", "nginx", "supervisor", "supervisord", "mariadb", "mysqld")
# Debian's supervisord prints the lines of its log, too.
_OF_LOG = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
# Entries of the journal that are searched if no time is given.
_SEARCHED = 20000
_out_lock = threading.Lock()


class Wanted:
    """Which entries are asked for."""

    def __init__(self, request: Dict[str, Any]) -> None:
        self.site = request.get("site")
        self.process = request.get("process")
        self.since = request.get("since")
        self.lines = request.get("lines")
        self.grep = re.compile(request["grep"]) if request.get("grep") else None
        self.statuses = request.get("statuses") or []

    def __call__(self, lines: List[str]) -> bool:
        if self.statuses:
            status = str(log_lines.status(lines[0]) or "")
            if not any(status == each or (each[1:] == "xx" and status[:1] == each[0]) for each in self.statuses):
                return False
        return self.grep is None or self.grep.search("\n".join(lines)) is not None

    @property
    def has_journal(self) -> bool:
        """Whether units are asked for: their messages have no status, and a process has a log of its own."""
        return not self.process and not self.statuses


def show(entry: Entry) -> None:
    """Print an entry."""
    message = {"time": entry.time, "site": entry.source.site, "source": entry.source.name, "lines": entry.lines}
    if entry.about:
        message["about"] = True
    status = log_lines.status(entry.lines[0])
    if status:
        message["status"] = status
    say(message)


def say(message: Dict[str, Any]) -> None:
    with _out_lock:
        sys.stdout.write(json.dumps(message) + "\n")


class Followed:
    """A file that is followed, over its rotation. entry: the last one, to which more lines may come."""

    def __init__(self, source: Source, file: IO[bytes], position: int) -> None:
        self.source, self.file, self.position = source, file, position
        self.part = b""
        self.entry: Optional[Entry] = None

    def grown(self) -> List[Entry]:
        """The entries that are complete since the last call."""
        lines = self._lines()
        done = []
        if not lines and self.entry:
            done, self.entry = [self.entry], None
        for line in lines:
            found = log_lines.epoch(line, self.source.zone)
            if found is None and self.entry and len(self.entry.lines) < 100:
                self.entry.lines.append(line)
                continue
            if self.entry:
                done.append(self.entry)
            self.entry = Entry(time.time() if found is None else found, found is None, self.source, [line])
        return done

    def _lines(self) -> List[str]:
        try:
            now = os.stat(self.source.path)
        except OSError:
            now = None
        own = os.fstat(self.file.fileno())
        if own.st_size < self.position:
            # The file was copied away and cut.
            self.position = 0
        self.file.seek(self.position)
        added = self.file.read(1 << 20)
        raw = self.part + added
        self.position = self.file.tell()
        *whole, self.part = raw.split(b"\n")
        if len(self.part) >= 1 << 16:
            whole, self.part = whole + [self.part], b""
        # Only a file to which nothing is added any more is left for the new one of its name.
        if not added and now and (now.st_ino, now.st_dev) != (own.st_ino, own.st_dev):
            file = log_files.opened(self.source.path)
            if file is not None:
                self.file.close()
                self.file, self.position = file, 0
        return [log_files.text(line) for line in whole]


def journal(wanted: Wanted, follow: bool) -> "List[str]":
    """The command line that prints the journal's entries."""
    command = ["journalctl", "-q", "-a", "-o", "json", "--no-pager"]
    units = ("wsgi-{}[-.]*".format(wanted.site),) if wanted.site else _UNITS
    command += [word for unit in units for word in ("-u", unit)]
    if follow:
        return command + ["-f", "-n", "0"]
    if wanted.since is not None:
        return command + ["--since", "@{:.0f}".format(wanted.since)]
    return command + ["-n", str(_SEARCHED if wanted.grep else wanted.lines)]


def journal_entries(lines: Iterator[bytes], wanted: Wanted, sites: List[str]) -> Iterator[Entry]:
    """The journal's entries from journalctl's lines."""
    for raw in lines:
        try:
            fields = json.loads(raw.decode("utf-8", "replace"))
        except ValueError:
            continue
        message = fields.get("MESSAGE") or ""
        if isinstance(message, list):
            # What is no plain text is a list of bytes.
            message = bytes(message).decode("utf-8", "backslashreplace")
        unit = str(fields.get("UNIT") or fields.get("_SYSTEMD_UNIT") or fields.get("SYSLOG_IDENTIFIER") or "journal")
        if unit.startswith("supervisor") and _OF_LOG.match(str(message)):
            continue
        owners = [site for site in sites if re.match("wsgi-{}[-.]".format(re.escape(site)), unit)]
        site = max(owners, key=len) if owners else ""
        found = [line[: 1 << 15] for line in str(message).split("\n")]
        if wanted.site in (None, site) and wanted(found):
            name = unit[: -len(".service")] if unit.endswith(".service") else unit
            yield Entry(int(fields["__REALTIME_TIMESTAMP"]) / 1e6, False, Source(site, name, ""), found)


def history(wanted: Wanted, followed: List[Followed]) -> Iterator[Entry]:
    """The entries that are there, by time."""
    streams = []
    for each in followed:
        number = wanted.lines or 40
        if wanted.since is None:
            stream = iter(log_files.last(each.source, number, wanted, each.file, each.position))
        else:
            found = log_files.since(each.source, wanted.since, number, each.file, each.position)
            stream = (entry for entry in found if wanted(entry.lines))
        streams.append(_in_order(stream))
    if wanted.has_journal:
        done = subprocess.Popen(journal(wanted, False), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert done.stdout is not None  # noqa: S101
        found = journal_entries(done.stdout, wanted, _sites())
        streams.append(_in_order(_last(found, wanted)))
    for _, _, entry in heapq.merge(*(map(_numbered(number), stream) for number, stream in enumerate(streams))):
        yield entry


def _last(found: Iterator[Entry], wanted: Wanted) -> Iterator[Entry]:
    return found if wanted.since is not None else iter(list(found)[-(wanted.lines or 40) :])


def _sites() -> List[str]:
    return [os.path.basename(folder) for folder in glob.glob(log_files.LOGS + "/*")]


def _in_order(entries: Iterator[Entry]) -> Iterator[Any]:
    """Each entry with a key that never falls: the lines of a log stay in their order."""
    key = 0.0
    for entry in entries:
        key = max(key, entry.time)
        yield key, entry


def _numbered(number: int) -> Any:
    return lambda pair: (pair[0], number, pair[1])


def follow(wanted: Wanted, followed: List[Followed]) -> NoReturn:
    """Print what is added."""
    if wanted.has_journal:
        process = subprocess.Popen(journal(wanted, True), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        _children.append(process)
        threading.Thread(target=_follow_journal, args=(process, wanted), daemon=True).start()
    known = {each.source.path for each in followed}
    looked = time.time()
    while True:
        if time.time() - looked > _NEW:
            looked = time.time()
            for source in log_files.sources(wanted.site, wanted.process):
                file = log_files.opened(source.path) if source.path not in known else None
                if file is not None:
                    known.add(source.path)
                    followed.append(Followed(source, file, 0))
        for each in followed:
            for entry in each.grown():
                if wanted(entry.lines):
                    show(entry)
        sys.stdout.flush()
        time.sleep(_PAUSE)


def _follow_journal(process: Any, wanted: Wanted) -> None:
    for entry in journal_entries(iter(process.stdout.readline, b""), wanted, _sites()):
        show(entry)


_children: List[Any] = []


def _end_with_client() -> None:
    """End this process when the client's ssh has ended."""
    sys.stdin.buffer.read()
    end()


def end() -> NoReturn:
    for process in _children:
        process.kill()
    os._exit(0)


def main(request: Dict[str, Any]) -> None:
    """Print the entries. Never returns if they are followed."""
    threading.Thread(target=_end_with_client, daemon=True).start()
    wanted = Wanted(request)
    followed = []
    for source in log_files.sources(wanted.site, wanted.process):
        file = log_files.opened(source.path)
        if file is not None:
            # What is written from here on is not history any more.
            followed.append(Followed(source, file, os.fstat(file.fileno()).st_size))
    say({"processes": not wanted.process or bool(followed)})
    try:
        for entry in history(wanted, followed):
            show(entry)
        say({})
        sys.stdout.flush()
        if request.get("follow"):
            follow(wanted, followed)
    except BrokenPipeError:
        pass
    end()
