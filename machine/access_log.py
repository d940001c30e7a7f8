"""What nginx's log of a site says of the last minutes. Python 3.6, standard library only."""

import calendar
import json
import os
import re
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

SECONDS = 300
# Of a log that grows faster, less than SECONDS are read.
_MOST = 16 << 20
_BLOCK = 1 << 18
# The combined format; nginx writes a quotation mark in a request as \x22.
_COMBINED = re.compile(r'\[(\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4})\] "[^"]*" (\d{3}) ')


class Requests(NamedTuple):
    """Requests of the last `seconds`. rate: requests a second. errors: share of 5xx, 0 to 1.

    p95: seconds within which 95 % of the requests were answered, None without requests or their times, which only the
    JSON format has.
    """

    seconds: int
    number: int
    rate: float
    errors: float
    p95: Optional[float]


def recent(path: str, now: Optional[float] = None) -> Optional[Requests]:
    """The last requests in a log, None without a log. now: seconds since 1970."""
    now = time.time() if now is None else now
    statuses: List[int] = []
    times: List[float] = []
    oldest, is_all = now, False
    try:
        for when, status, took in _entries(path):
            # A request is logged at its end, so the order of the lines is that of their times.
            if when < now - SECONDS:
                is_all = True
                break
            oldest = when
            statuses.append(status)
            times += [] if took is None else [took]
        is_all = is_all or os.path.getsize(path) <= _MOST
    except OSError:
        return None
    seconds = SECONDS if is_all else max(1, int(now - oldest))
    number = len(statuses)
    failed = sum(status >= 500 for status in statuses)
    times.sort()
    # The nearest rank: https://en.wikipedia.org/wiki/Percentile
    p95 = times[-(-len(times) * 95 // 100) - 1] if times else None
    return Requests(seconds, number, round(number / seconds, 3), round(failed / number, 4) if number else 0.0, p95)


def _entries(path: str) -> Iterator[Tuple[float, int, Optional[float]]]:
    """Yield time, status and seconds of each request, the last request first."""
    known: Dict[str, float] = {}
    for line in _backwards(path):
        if line.startswith("{"):
            try:
                found = json.loads(line)
                yield _seconds(found["time"], known), int(found["status"]), float(found["request_time"])
            except (ValueError, KeyError, TypeError):
                # A line that was cut, or a format that nginx.extra has brought.
                continue
        else:
            match = _COMBINED.search(line)
            if match:
                yield _seconds(match.group(1), known), int(match.group(2)), None


def _seconds(text: str, known: Dict[str, float]) -> float:
    """Time of a line in seconds since 1970. known: the times that were read, because many lines have the same."""
    if text not in known:
        is_json = "T" in text[:11]
        zone = text[-6:].replace(":", "") if is_json else text[-5:]
        bare = text[:19] if is_json else text[:-6]
        offset = (int(zone[1:3]) * 3600 + int(zone[3:5]) * 60) * (-1 if zone[0] == "-" else 1)
        known[text] = _epoch(bare, is_json) - offset
    return known[text]


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _epoch(text: str, is_json: bool) -> float:
    """Seconds since 1970 of a time in UTC. strptime would read the month's name in the machine's language."""
    numbers = re.findall(r"\d+", text)
    if is_json:
        year, month, day, hour, minute, second = map(int, numbers)
    else:
        day, year, hour, minute, second = map(int, numbers)
        month = _MONTHS.index(text[3:6]) + 1
    return calendar.timegm((year, month, day, hour, minute, second, 0, 0, 0))


def _backwards(path: str) -> Iterator[str]:
    """Yield the lines at the end of a file, the last line first; _MOST bytes at most."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        start, rest = end, b""
        while start > max(0, end - _MOST):
            size = min(_BLOCK, start)
            start -= size
            file.seek(start)
            first, *lines = (file.read(size) + rest).split(b"\n")
            rest = first
            for line in reversed(lines):
                if line:
                    yield line.decode("utf-8", "replace")
        if start == 0 and rest:
            yield rest.decode("utf-8", "replace")
