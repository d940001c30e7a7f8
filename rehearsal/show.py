"""What a run prints: a line for each resource as it is done, and what is under way.

On a terminal the last lines show what is under way with its seconds; elsewhere a
line does so every 15 seconds.
"""

import json
import re
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text

from rehearsal.compare import Op

COLOURS = {Op.CREATE: "green", Op.UPDATE: "yellow", Op.REPLACE: "magenta", Op.DELETE: "red", Op.SAME: "dim"}
_EVERY = 15.0


def short(type_: str) -> str:
    """`alicloud:ecs/instance:Instance` → `alicloud:Instance`; `command:remote:Command` stays."""
    parts = type_.split(":")
    return f"{parts[0]}:{parts[2]}" if "/" in parts[1] else type_


def heading(op: Op, type_: str, name: str) -> str:
    """How a line about a resource begins."""
    return f"{op.value:>2} {short(type_):<27} {name}"


# Of a secret of several lines those that are its own, and not END or a bracket, are as long as this.
_LINE = 8


def masked(text: str, secrets: Collection[str]) -> str:
    """`[secret]` in place of each secret, as Pulumi's CLI prints it: not of those that any text may hold by chance."""
    hidden = {secret for secret in secrets if len(secret.encode()) >= 3 and secret.lower() not in ("true", "false")}
    # A text is shown line by line.
    hidden |= {line for secret in hidden for line in secret.splitlines() if len(line) >= _LINE}
    hidden |= {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in hidden}
    pattern = "|".join(re.escape(secret) for secret in sorted(hidden, key=len, reverse=True))
    return re.sub(pattern, "[secret]", text) if pattern else text


class Show:
    """A run's output, in which no secret is shown. Safe to use from several threads."""

    def __init__(self, console: Console | None = None, secrets: Collection[str] = ()) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.secrets = secrets
        self.unchanged = 0
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
        """Stop showing what is under way; lines can still be printed."""
        self._stop.set()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def line(self, text: str, style: str = "") -> None:
        with self._lock:
            self.console.print(Text(masked(text, self.secrets), style=style))

    def note(self, text: str) -> None:
        """Something that the user should know, once."""
        with self._lock:
            if text not in self._noted:
                self._noted.add(text)
                self.line(f"  {text}", "cyan")

    def say(self, text: str) -> None:
        """Progress, such as what a command prints."""
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
                self.line(f"  {name:<{width}}  {value}")

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
                    self.line(f"    still at it: {', '.join(lines)}", "dim")
