"""The logs of a server as files: which there are, their end, and what was written since a time.

A file may be large, so its end is looked for from behind, and a time by bisection. Python 3.6, standard library only.
"""

import glob
import gzip
import json
import os
import re
import stat
from collections import deque
from typing import IO, Any, Deque, Iterator, List, NamedTuple, Optional

import log_lines

LOGS = "/var/log/wsgi-ecs"
ENVIRONMENTS = "/etc/wsgi-ecs"
# Path → source, for the logs that no site has.
_OF_HOST = {
    "/var/log/nginx/*.log": "nginx-{}",
    "/var/log/supervisor/supervisord.log": "supervisor",
    "/var/log/cloud-init-output.log": "cloud-init",
    "/var/log/mysql/error.log": "mysql",
    "/var/log/mariadb/mariadb.log": "mysql",
}
_BLOCK = 1 << 16
# Bytes in which a time must be found, bytes of a line, and lines of an entry that has no end.
_NEAR, _LONGEST, _MOST = 1 << 20, 1 << 15, 100


class Source(NamedTuple):
    """A log. site: "" for the host's. name: what writes it, such as app. zone: of its times without an offset."""

    site: str
    name: str
    path: str
    zone: str = ""


class Entry(NamedTuple):
    """A line with a time, and the lines after it without one. about: whether the time is the file's last change."""

    time: float
    about: bool
    source: Source
    lines: List[str]


def sources(site: Optional[str], process: Optional[str]) -> List[Source]:
    """The logs that are wanted. site, process: None for all."""
    found = []
    for path in sorted(glob.glob(LOGS + "/*/*.log")):
        own, stem = os.path.basename(os.path.dirname(path)), os.path.basename(path)[: -len(".log")]
        worker = re.match(r"[ab]\.(.+)\.(\d+)\Z", stem)
        job = re.match(r"schedule\.(.+)\Z", stem)
        name = worker.group(1) if worker else job.group(1) if job else None
        if site not in (None, own) or process not in (None, name):
            continue
        shown = "{}-{}".format(*worker.groups()) if worker else "app" if stem in ("a", "b") else stem
        is_nginx = stem in ("access", "error")
        found.append(Source(own, "nginx-" + stem if is_nginx else shown, path, "" if is_nginx else _zone(own)))
    if site is None and process is None:
        for pattern, name in sorted(_OF_HOST.items()):
            for path in sorted(glob.glob(pattern)):
                found.append(Source("", name.format(os.path.basename(path)[: -len(".log")]), path))
    return found


def _zone(site: str) -> str:
    """The time zone of a site's application; "" for the server's."""
    try:
        with open("{}/{}.env.json".format(ENVIRONMENTS, site), encoding="utf-8") as file:
            return str(json.load(file).get("TZ", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def opened(path: str) -> Optional[IO[bytes]]:
    """A log. None for what is none: a site's user may have put a link or a pipe there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def text(raw: bytes) -> str:
    """A line without its end; what is no UTF-8 is escaped."""
    return raw[:_LONGEST].rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def read_lines(file: IO[bytes], end: Optional[int] = None) -> Iterator[bytes]:
    """The lines from where the file stands to a position."""
    while end is None or file.tell() < end:
        raw = file.readline(_NEAR if end is None else min(_NEAR, end - file.tell()))
        if not raw:
            return
        yield raw


def entries(raw_lines: Iterator[bytes], source: Source) -> Iterator[Any]:
    """Time and lines of each entry; None and a line for each line before the first time."""
    when: Optional[float] = None
    lines: List[str] = []
    for raw in raw_lines:
        line = text(raw)
        found = log_lines.epoch(line, source.zone)
        if lines and (found is not None or when is None or len(lines) >= _MOST):
            yield when, lines
            lines = []
        when = when if found is None else found
        lines.append(line)
    if lines:
        yield when, lines


def last(source: Source, number: int, wanted: Any, file: IO[bytes], end: int) -> List[Entry]:
    """The entries with the last lines of a file. wanted: tells of the lines of an entry whether they are asked for."""
    window = _BLOCK
    while True:
        start = max(0, end - window)
        found: Deque[Entry] = deque()
        count = 0
        for when, lines in entries(_whole_lines(file, start, end), source):
            if when is None and start > 0 and window < _NEAR:
                # The line that these belong to may be found with a larger window.
                continue
            if wanted(lines):
                about = when is None
                found.append(Entry(os.fstat(file.fileno()).st_mtime if when is None else when, about, source, lines))
                count += len(lines)
                while count - len(found[0].lines) >= number:
                    count -= len(found.popleft().lines)
        if start == 0 or count >= number:
            if count > number:
                found[0] = found[0]._replace(lines=found[0].lines[count - number :])
            return list(found)
        window *= 4


def _whole_lines(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    """The lines between two positions, without the rest of a line that begins before the first."""
    file.seek(max(0, start - 1))
    if start:
        file.readline()
    return read_lines(file, end)


def since(source: Source, when: float, number: int, file: IO[bytes], end: int) -> Iterator[Entry]:
    """The entries since a time, those of rotated files too. number: of lines that have no time and may be newer."""
    changed = os.fstat(file.fileno()).st_mtime
    start = _position(source, when, file, end)
    if start == 0:
        for older in _rotated(source, when):
            yield older
    if changed < when or not end:
        return
    if start == 0 and end > _NEAR and _first_time(source, file, end - _NEAR, end)[0] is None:
        # Nothing in it has a time.
        start = end - _NEAR
    rest: Deque[str] = deque(maxlen=number)
    for found, lines in entries(_whole_lines(file, start, end), source):
        if found is not None and found >= when:
            rest.clear()
            yield Entry(found, False, source, lines)
        elif found is None:
            rest.extend(lines)
        else:
            rest.clear()
            rest.extend(lines[1:])
    for line in rest:
        yield Entry(changed, True, source, [line])


def _position(source: Source, when: float, file: IO[bytes], end: int) -> int:
    """A position before the first line that was written since a time, and not long before it."""
    low, high = 0, end
    while high - low > _BLOCK:
        middle = (low + high) // 2
        found, position = _first_time(source, file, middle, high)
        if found is None or found >= when:
            high = middle
        else:
            low = position
    return low


def _first_time(source: Source, file: IO[bytes], start: int, end: int) -> Any:
    """Time and position of the first line with a time after a position; None where none is near."""
    file.seek(start)
    file.readline()
    while file.tell() < min(end, start + _NEAR):
        position = file.tell()
        found = log_lines.epoch(text(file.readline(_NEAR)), source.zone)
        if found is not None:
            return found, position
    return None, end


def _rotated(source: Source, when: float) -> Iterator[Entry]:
    """The entries since a time in the files that were moved away, the oldest first."""
    moved = []
    for path in glob.glob(glob.escape(source.path) + ".*"):
        number = re.match(r"\.(\d+)(\.gz)?\Z", path[len(source.path) :])
        if number and not os.path.islink(path) and os.path.getmtime(path) >= when:
            moved.append((-int(number.group(1)), path))
    for _, path in sorted(moved):
        file = opened(path)
        if file is None:
            continue
        with file:
            if path.endswith(".gz"):
                lines = read_lines(gzip.GzipFile(fileobj=file))  # type: ignore[arg-type]
            else:
                end = os.fstat(file.fileno()).st_size
                lines = _whole_lines(file, _position(source, when, file, end), end)
            for found, group in entries(lines, source):
                if found is not None and found >= when:
                    yield Entry(found, False, source, group)
