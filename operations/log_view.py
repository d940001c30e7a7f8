"""How an entry of a log looks on a terminal and in a file."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

# What a client of the site may have written into a log to steer a terminal, or the order in which it shows letters.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|[\n]")
_COLOURS = ("cyan", "magenta", "blue", "yellow", "green")


@dataclass(frozen=True)
class Entry:
    """time: seconds since 1970. about: whether it is only the time of the file. status: of a request, 0 for none."""

    time: float
    about: bool
    machine: str
    site: str
    source: str
    status: int
    lines: tuple[str, ...]


def entry_of(machine: str, message: dict[str, Any]) -> Entry:
    """An entry from a message of the reader on a server."""
    return Entry(
        float(message["time"]),
        bool(message.get("about")),
        machine,
        str(message["site"]),
        str(message["source"]),
        int(message.get("status", 0)),
        tuple(map(str, message["lines"])),
    )


def harmless(text: str) -> str:
    """A text in which control characters, and those that turn the direction of writing, are shown as escapes."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


# The year 2100, in seconds since 1970.
_LAST = 4102444800


def time_text(seconds: float, about: bool) -> str:
    """A time in the time zone of this process. Logs of requests have whole seconds."""
    # An application may give its own log any time.
    moment = datetime.fromtimestamp(min(max(seconds, 0), _LAST))
    fraction = f".{moment.microsecond // 1000:03}" if seconds % 1 else ""
    return f"{'~' if about else ' '}{moment:%Y-%m-%d %H:%M:%S}{fraction:<4}"


class View:
    """Formats entries. machines: all names, for their width and colour. coloured: whether a terminal shows them."""

    def __init__(self, machines: Iterable[str], coloured: bool) -> None:
        names = list(machines)
        self._width = max(map(len, names), default=0)
        self._colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
        self._coloured = coloured

    def text(self, entry: Entry) -> str:
        """The lines of an entry, each with time, machine, site and source in front."""
        place = harmless(f"{entry.site}/{entry.source}" if entry.site else entry.source)
        start = f"{time_text(entry.time, entry.about)} {entry.machine:<{self._width}} {place:<18} "
        colour = {4: "yellow", 5: "red"}.get(entry.status // 100)
        if self._coloured:
            start = click.style(start, fg=self._colours.get(entry.machine))
        lines = (harmless(line) for line in entry.lines)
        shown = (click.style(line, fg=colour) if self._coloured and colour else line for line in lines)
        return "".join(f"{start}{line}\n" for line in shown)
