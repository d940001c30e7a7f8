"""What a line of a log says: when it was written, and with which status a request was answered.

Python 3.6, standard library only: it runs on the server.
"""

import calendar
import json
import os
import re
import time
from typing import Any, Dict, Optional, Tuple

_MONTHS = {name: number for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_CLOCK = r"(?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d)"
_OFFSET = r"(?P<offset>Z|[+-]\d\d:?\d\d)"
_WEEKDAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_CTIME = _WEEKDAY + r" (?P<b>[A-Z][a-z]{2}) {1,2}(?P<d>\d{1,2}) " + _CLOCK + r" (?P<Y>\d{4})"
# The place of a time is fixed, because a request may have another time in its user's name or in its path.
_TIMES = [
    re.compile(form)
    for form in (
        # nginx's errors, supervisor, gunicorn, Granian, MariaDB, and Python's logging, maybe with its level before it.
        r"(?:\[?(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL)\]?:?\s+)?\[?(?P<Y>\d{4})[-/](?P<m>\d\d)[-/](?P<d>\d\d)[T ]"
        + _CLOCK + r"(?:[.,](?P<f>\d+))?\s?" + _OFFSET + "?",
        # Requests: nginx and gunicorn escape a quote, so nobody else's text has a bracket, a space and a quote.
        r'.*?\[(?P<d>\d\d)/(?P<b>[A-Z][a-z]{2})/(?P<Y>\d{4})[: ]' + _CLOCK + "(?: " + _OFFSET + r')?\] "',
        # uWSGI's requests, start, and other lines.
        r"(?:\{.*?\} )?\[pid: .*?\{\d+ vars in \d+ bytes\} \[" + _CTIME + r"\] ",
        r"\*\*\* Starting uWSGI .* on \[" + _CTIME + r"\]",
        _CTIME + " - ",
        r"Cloud-init v\. .* at " + _WEEKDAY + r", (?P<d>\d\d) (?P<b>[A-Z][a-z]{2}) (?P<Y>\d{4}) " + _CLOCK + " "
        + _OFFSET,
        # Redis.
        r"\d+:[A-Z] (?P<d>\d\d) (?P<b>[A-Z][a-z]{2}) (?P<Y>\d{4}) " + _CLOCK + r"\.(?P<f>\d+) ",
    )
]  # fmt: skip
_STATUSES = [
    re.compile(form)
    for form in (
        r'.*?\] "(?:[^"\\]|\\.)*" (\d{3}) ',
        r"(?:\{.*?\} )?\[pid: .* => generated .* \(HTTP/[\d.]+ (\d{3})\)",
    )
]
_JSON_TIMES = ("time", "time_iso8601", "timestamp", "@timestamp", "ts", "msec", "time_local")
# No line of a log that we write is longer before its time.
_START = 4096
_minutes: Dict[Tuple[Any, ...], float] = {}
# The years from 1990 to 2099, in seconds since 1970.
_FIRST, _END = 631152000, 4102444800


def epoch(line: str, zone: str = "") -> Optional[float]:
    """Seconds since 1970 at which a line was written; None if it does not say.

    zone: name of the time zone of times without an offset; "" for the server's.
    """
    if line.startswith("{"):
        found = _json(line)
        seconds = next(filter(None, (_of_json(found.get(key), zone) for key in _JSON_TIMES)), None)
    else:
        match = _match(line)
        seconds = _seconds(match, zone) if match else None
    # Whoever writes into a log may write any time into it.
    return seconds if seconds is not None and _FIRST <= seconds < _END else None


def status(line: str) -> Optional[int]:
    """Status of the answer that a line of an access log tells of; None for other lines."""
    if line.startswith("{"):
        value = str(_json(line).get("status", ""))
        return int(value) if re.match(r"[1-5]\d\d\Z", value) else None
    for form in _STATUSES:
        match = form.match(line)
        if match:
            return int(match.group(1))
    return None


def _match(line: str) -> Optional[Dict[str, Any]]:
    for form in _TIMES:
        match = form.match(line[:_START])
        if match:
            return match.groupdict()
    return None


def _json(line: str) -> Dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_json(value: Any, zone: str) -> Optional[float]:
    """A time of a line of JSON: seconds or milliseconds since 1970, ISO 8601, or as nginx's $time_local."""
    if re.match(r"\d{9,14}(\.\d+)?\Z", str(value)):
        number = float(value)
        return number / 1000 if number > 1e11 else number
    match = _match(value) or _match('[{}] "'.format(value)) if isinstance(value, str) else None
    return _seconds(match, zone) if match else None


def _seconds(parts: Dict[str, Any], zone: str) -> Optional[float]:
    """Seconds since 1970. parts: what a form of a time has found."""
    month = _MONTHS.get(parts["b"]) if "b" in parts else int(parts["m"])
    offset = parts.get("offset")
    minute = (parts["Y"], month, parts["d"], parts["H"], parts["M"], offset, zone)
    if minute not in _minutes:
        try:
            moment = (int(parts["Y"]), month or 0, int(parts["d"]), int(parts["H"]), int(parts["M"]))
            start = _minute(moment, offset, zone)
        except (ValueError, OverflowError):
            return None
        if len(_minutes) > 10000:
            _minutes.clear()
        _minutes[minute] = start
    return _minutes[minute] + int(parts["S"]) + float("0." + (parts.get("f") or "0"))


def _minute(moment: Tuple[int, int, int, int, int], offset: Optional[str], zone: str) -> float:
    """Seconds since 1970 of a minute. Raises ValueError or OverflowError."""
    year, month, day, hour, minute = moment
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60):
        raise ValueError(month)
    if offset:
        digits = "+0000" if offset == "Z" else offset.replace(":", "")
        shift = (int(digits[1:3]) * 60 + int(digits[3:])) * 60 * (-1 if digits[0] == "-" else 1)
        return calendar.timegm((year, month, day, hour, minute, 0)) - shift
    before = os.environ.get("TZ")
    if zone:
        os.environ["TZ"] = zone
        time.tzset()
    try:
        return time.mktime((year, month, day, hour, minute, 0, 0, 0, -1))
    finally:
        if zone:
            os.environ.pop("TZ")
            os.environ.update({"TZ": before} if before is not None else {})
            time.tzset()
