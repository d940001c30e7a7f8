"""What a run prints: a line for each finished resource, and what is under way.

On a terminal the last lines show what is under way and for how many seconds. Otherwise a line reports it every 15
seconds.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text

from contract.resources import MACHINES
from rehearsal.engine.compare import Op

COLOURS = {Op.CREATE: "green", Op.UPDATE: "yellow", Op.REPLACE: "magenta", Op.DELETE: "red", Op.SAME: "dim"}
_EVERY = 15.0


def short(type_: str) -> str:
    """`alicloud:ecs/instance:Instance` → `alicloud:Instance`; `command:remote:Command` stays."""
    parts = type_.split(":")
    return f"{parts[0]}:{parts[2]}" if "/" in parts[1] else type_


def heading(op: Op, type_: str, name: str) -> str:
    """The beginning of a line about a resource."""
    return f"{op.value:>2} {short(type_):<27} {name}"


# A line of a secret with several lines is masked from this length on: shorter ones, such as END, are no secrets.
_LINE = 8


def masked(text: str, secrets: Collection[str]) -> str:
    """A text with `[secret]` in place of each secret, as Pulumi's CLI prints it.

    Short secrets are not masked, because any text may contain them by chance.
    """
    hidden = {secret for secret in secrets if len(secret.encode()) >= 3 and secret.lower() not in ("true", "false")}
    # Add the single lines of secrets, because a text is shown line by line.
    hidden |= {line for secret in hidden for line in secret.splitlines() if len(line) >= _LINE}
    hidden |= {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in hidden}
    pattern = "|".join(re.escape(secret) for secret in sorted(hidden, key=len, reverse=True))
    return re.sub(pattern, "[secret]", text) if pattern else text


def _names(value: Any) -> Any:
    """The names of the output machines, which are enough for a reader; another program's output as it is."""
    try:
        return ", ".join(each["name"] for each in value)
    except (KeyError, TypeError):
        return value


class Show:
    """A run's output. It shows no secret. Safe to use from several threads."""

    def __init__(self, console: Console | None = None, secrets: Collection[str] = ()) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.secrets = secrets
        self.counts: dict[Op, int] = {}
        self.failures = 0
        self._lock = threading.RLock()
        self._under_way: dict[str, tuple[str, float]] = {}
        self._live: Live | None = None
        self._stop = threading.Event()
        self._spinner = Spinner("dots")
        self._noted: set[str] = set()

    def __enter__(self) -> "Show":
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=8, transient=True)
            self._live.start()
        else:
            threading.Thread(target=self._remind, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop showing what is under way. Lines can still be printed."""
        self._stop.set()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def line(self, text: str, style: str = "") -> None:
        with self._lock:
            self.console.print(Text(masked(text, self.secrets), style=style))

    def note(self, text: str) -> None:
        """Print something that the user should know, once."""
        with self._lock:
            if text not in self._noted:
                self._noted.add(text)
                self.line(f"  {text}", "cyan")

    def say(self, text: str) -> None:
        """Print progress, such as the output of a command."""
        self.line(f"    {text}", "dim")

    def started(self, key: str, op: Op, type_: str, name: str) -> None:
        with self._lock:
            self._under_way[key] = (f"{short(type_)} {name}", time.monotonic())

    def finished(self, key: str, op: Op, type_: str, name: str, seconds: float, note: str) -> None:
        with self._lock:
            self._under_way.pop(key, None)
            self.counts[op] = self.counts.get(op, 0) + 1
            if op is Op.SAME:
                return
            text = Text(heading(op, type_, name))
            text.stylize(COLOURS[op], 0, 2)
            text.append(f" {seconds:.1f} s", style="dim")
            if note:
                text.append(f"  {masked(note, self.secrets)}", style="dim")
            self.console.print(text)

    def failed(self, key: str, type_: str, name: str, message: str) -> None:
        with self._lock:
            self._under_way.pop(key, None)
            self.failures += 1
            text = Text.from_markup(f"[bold red] ✗[/] {escape(short(type_)):<27} {escape(name)}\n")
            text.append("".join(f"    {line}\n" for line in masked(message, self.secrets).splitlines()), style="red")
            text.rstrip()
            self.console.print(text)

    def summary(self) -> str:
        """One line of counts, such as `3 created, 9 unchanged`."""
        words = {
            Op.CREATE: "created", Op.UPDATE: "updated", Op.REPLACE: "replaced", Op.DELETE: "deleted",
            Op.SAME: "unchanged",
        }  # fmt: skip
        return ", ".join(f"{self.counts[op]} {word}" for op, word in words.items() if self.counts.get(op)) or "nothing"

    def outputs(self, values: Mapping[str, Any]) -> None:
        if values:
            self.line("Outputs", "bold")
            width = max(map(len, values))
            for name, value in values.items():
                self.line(f"  {name:<{width}}  {_names(value) if name == MACHINES else value}")

    def _render(self) -> RenderableType:
        with self._lock:
            now = time.monotonic()
            lines = [f"{what} {now - since:.0f} s" for what, since in self._under_way.values()]
        if not lines:
            return Text("")
        self._spinner.update(text=Text(lines[0]))
        return Group(self._spinner, *(Text(f"  {line}") for line in lines[1:]))

    def _remind(self) -> None:
        while not self._stop.wait(_EVERY):
            with self._lock:
                now = time.monotonic()
                lines = [
                    f"{what} ({now - since:.0f} s)" for what, since in self._under_way.values() if now - since > 10
                ]
                if lines:
                    self.line(f"    still running: {', '.join(lines)}", "dim")


class _ToNotes(logging.Handler):
    def __init__(self, note: Callable[[str], object]) -> None:
        super().__init__(logging.INFO)
        self.note = note

    def emit(self, record: logging.LogRecord) -> None:
        # Leave errors out, because they are shown as the failure of a run.
        if record.levelno < logging.ERROR:
            self.note(record.getMessage())


def logger_of(note: Callable[[str], object]) -> logging.Logger:
    """A logger that hands the text of each warning and of each line for the user to `note`."""
    logger = logging.Logger("rehearsal", logging.INFO)
    logger.addHandler(_ToNotes(note))
    return logger
