"""cron's five fields → OnCalendar= of systemd, as crontab(5) means them.

https://www.freedesktop.org/software/systemd/man/latest/systemd.time.html#Calendar%20Events
"""

import re

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Days of the longest month of each name.
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# Name, lowest and highest number, and names that stand for numbers.
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name.lower(): number for number, name in enumerate(_DAYS)}),
)
_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_ALLOWED = f'allowed: five fields such as "0 3 * * *" (minute, hour, day, month, day of the week), {", ".join(_SHORT)}'


def on_calendar(at: str, timezone: str | None = None) -> tuple[str, ...]:
    """cron's text → the lines of OnCalendar=, of which any may come true.

    timezone: None for the server's own. There are two lines if both days are restricted, because cron then takes
    either. Raises ValueError with what is allowed.
    """
    fields = _fields(at)
    day, weekday = fields[2], fields[4]
    minutes, hours, days, months, weekdays = map(_numbers, fields, _FIELDS)
    weekdays = sorted({number % 7 for number in weekdays})
    clock = f"{_listed(hours, 0, 23)}:{_listed(minutes, 0, 59)}:00"
    zone = f" {timezone}" if timezone else ""
    of_month = f"*-{_listed(months, 1, 12)}-{_listed(days, 1, 31)} {clock}{zone}"
    # Monday comes first in systemd's week.
    named = ",".join(_DAYS[number] for number in sorted(weekdays, key=lambda number: (number - 1) % 7))
    of_week = named if len(weekdays) < len(_DAYS) else ""
    if day.startswith("*") or weekday.startswith("*"):
        if min(days) > max(_LENGTHS[number - 1] for number in months):
            raise ValueError(f"{' '.join(fields)}: none of these months has such a day; {_ALLOWED}")
        return (f"{of_week} {of_month}".strip(),)
    either = f"*-{_listed(months, 1, 12)}-* {clock}{zone}"
    return (of_month, f"{of_week} {either}".strip())


def _fields(at: str) -> list[str]:
    found = _SHORT.get(at.strip().lower(), at).split()
    if len(found) != len(_FIELDS):
        what = "systemd's timers know no start of the machine" if at.strip().lower() == "@reboot" else "not five fields"
        raise ValueError(f"{what}; {_ALLOWED}")
    return found


def _numbers(text: str, field: tuple[str, int, int, dict[str, int]]) -> list[int]:
    """The numbers that a field names, sorted."""
    return sorted({number for part in text.split(",") for number in _part(part, field)})


def _part(text: str, field: tuple[str, int, int, dict[str, int]]) -> range:
    name, low, high, names = field
    match = re.fullmatch(r"(?:\*|([A-Za-z]{3}|[0-9]{1,2})(?:-([A-Za-z]{3}|[0-9]{1,2}))?)(?:/([0-9]{1,2}))?", text)
    if not match:
        raise ValueError(f"{name}: {text!r} is neither *, a number, a range nor a step; {_ALLOWED}")
    first, last, step = match.groups()
    bounds = []
    for word, default in ((first, low), (last or first, high)):
        number = default if word is None else int(word) if word.isdigit() else names.get(word.lower(), -1)
        if not low <= number <= high:
            known = f", or {', '.join(names)}" if names else ""
            raise ValueError(f"{name}: {word} is none; allowed: {low} to {high}{known}")
        bounds.append(number)
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name}: {text} ends before it begins; allowed: a range such as {low}-{high}")
    if step is not None and (int(step) == 0 or (first and not last)):
        raise ValueError(f"{name}: {text} is no step; allowed: */{step if int(step) else 2}, or a range with a step")
    return range(bounds[0], bounds[1] + 1, int(step or 1))


def _listed(numbers: list[int], low: int, high: int) -> str:
    return "*" if len(numbers) == high - low + 1 else ",".join(f"{number:02d}" for number in numbers)
