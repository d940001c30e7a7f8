"""A preview as text: what happens to each resource, which files change, and what is away for how long."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network
from typing import Any

from rehearsal.compare import KNOWN_LATER, Op
from rehearsal.preview import CODE, Change, Preview, Rendered
from rehearsal.resources import TYPES, pairs
from rehearsal.resources.machine import USER_DATA_LIMIT
from rehearsal.show import COLOURS, heading
from schema.base import printable

# Lines of differences that are shown unasked.
_SHORT = 40
# So many of them are named.
_NAMED = 5
_COMMAND = "command:remote:Command"
_RELEASE = re.compile(".*-site-(.+)-apply$")
_DATABASE = "the database"
# What is away → names of the commands that bring it back.
_BACK = {"the site": _RELEASE, _DATABASE: re.compile(".*-db-host-apply$")}
_MYSQL = "config/mysql.cnf"
# Measured: 5 s for a machine of a rehearsal; in the cloud 6 s for another type and 3 s for another key.
_RESTART = 6
Line = tuple[str, str]


def lines(preview: Preview, details: bool = False) -> Iterator[Line]:
    """A preview → (text, style). details: all differences and changed inputs, however many."""
    for change in preview.changes:
        if change.op is not Op.SAME:
            note = f" [{change.note}]" if change.note else ""
            yield f"  {heading(change.op, change.record.type, change.record.name)}{note}", COLOURS[change.op]
            if details:
                yield from ((f"       {text}", "dim") for text in _inputs(change))
    yield from _shown(preview.files, details)
    yield from ((text, "yellow") for text in away(preview))
    yield counted(preview.changes), "bold"


def counted(changes: Iterable[Change]) -> str:
    """One line, such as `3 to create, 9 unchanged`."""
    words = {
        Op.CREATE: "to create", Op.UPDATE: "to update", Op.REPLACE: "to replace", Op.DELETE: "to delete",
        Op.SAME: "unchanged",
    }  # fmt: skip
    ops = [change.op for change in changes]
    return ", ".join(f"{ops.count(op)} {word}" for op, word in words.items() if op in ops) or "nothing"


def _inputs(change: Change) -> Iterator[str]:
    """The inputs of what is made, or those that change, without the texts that are shown as files."""
    if change.new is None:
        return
    old = change.old.inputs if change.old else {}
    for key in sorted({*old, *change.new.inputs}):
        one, other = old.get(key), change.new.inputs.get(key)
        if one != other and key != "userData":
            yield f"{key}: {_value(other)}" if change.old is None else f"{key}: {_value(one)} → {_value(other)}"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(_readable(value), ensure_ascii=False, sort_keys=True)
    first, *others = text.splitlines() or [""]
    return f"{first} … ({len(others) + 1} lines)" if others else first.strip('"')


def _readable(value: Any) -> Any:
    if value == KNOWN_LATER:
        return "known later"
    if isinstance(value, dict):
        return "[secret]" if set(value) == {"secret"} else {key: _readable(item) for key, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list) else value


def _shown(files: Sequence[Rendered], details: bool) -> Iterator[Line]:
    texts = [len(text) for one in files for name, text in one.differences.items() if not name.startswith(CODE)]
    # What is new as a whole is long and tells nothing of a change.
    short = sum(texts) <= _SHORT and all(one.old is not None for one in files)
    for one in files:
        if not one.differences:
            continue
        yield one.title, "bold"
        for name, difference in one.differences.items():
            if not name.startswith(CODE):
                yield f"  {_summary(one, name, difference)}", ""
                if details or short:
                    yield from ((f"    {text}", _colour(text)) for text in difference[2:])
        for folder in CODE:
            if names := [printable(name.removeprefix(folder)) for name in one.differences if name.startswith(folder)]:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                yield f"  {'~' if one.old else '+'} {folder}: {', '.join(names[:_NAMED])}{more}", ""
    if texts and not details and not short:
        yield "  --diff shows the texts", "dim"


def _summary(files: Rendered, name: str, difference: Sequence[str]) -> str:
    size = f", {len(files.new[name].encode())} of {USER_DATA_LIMIT} bytes" if name == "user data" else ""
    if files.old is None or name not in files.old:
        return f"+ {name}: {len(difference) - 3} lines{size}"
    if name not in files.new:
        return f"- {name}"
    more, less = (sum(line.startswith(sign) for line in difference[2:]) for sign in "+-")
    return f"~ {name}: +{more} -{less} lines{size}"


def _colour(text: str) -> str:
    return {"+": "green", "-": "red", "@": "cyan"}.get(text[:1], "")


def away(preview: Preview) -> Iterator[str]:
    """What is out of reach meanwhile, from when to when, and how long that took when it was measured."""
    changes = preview.changes
    dependents: dict[str, list[Change]] = {}
    for change in changes:
        for urn in change.record.dependencies:
            dependents.setdefault(urn, []).append(change)

    def path(change: Change, end: re.Pattern[str]) -> list[Change]:
        """The longest way from it to the last command of that name, by the time that it took; to its end without."""
        others = (other for other in dependents.get(change.record.urn, []) if other.op not in (Op.SAME, Op.DELETE))
        after = [path(other, end) for other in others]
        ended = [steps for steps in after if end.match(steps[-1].record.name)]
        if end.match(change.record.name) and not ended:
            return [change]
        return [change, *max(ended or after, key=_seconds, default=[])]

    told: list[str] = []
    broken = False
    for change in changes:
        what, name = TYPES[change.record.type].schema.away, change.record.name
        if change.op is Op.DELETE and what:
            told.append(f"{what} is away from when {name} is deleted")
        elif change.op is Op.REPLACE and what:
            steps = path(change, _BACK[what])
            until = f"until {steps[-1].record.name} is done: {_long(steps)}"
            told.append(f"{what} is away from when {name} goes {until}")
        elif _restarts(change):
            lost = [TYPES[other.record.type].schema.away for other in dependents.get(change.record.urn, [])]
            told.append(f"{next(filter(None, lost), name)} is away until {name} has booted: about {_RESTART} s")
        elif (change.op is Op.CREATE and change.old) or _drifted(change):
            # What is broken now is said by its line.
            broken = True
    running = any(change.old for change in changes)
    released = any(change.op in (Op.REPLACE, Op.UPDATE) and _site(change) for change in changes)
    if released and not preview.front and not told and not broken:
        told.append("without nginx the site is away while its program is started anew: some seconds")
    if not any(line.startswith(_DATABASE) for line in told):
        told += _restarted(preview.files)
    told += [*_sites(preview), *_closed(changes)]
    yield from told
    if preview.anything and running and not told and not broken:
        yield "the site goes on answering"


def _site(change: Change) -> str:
    """The site whose release a command applies; "" for any other change."""
    found = _RELEASE.search(change.record.name) if change.record.type == _COMMAND else None
    return found.group(1) if found else ""


def _sites(preview: Preview) -> Iterator[str]:
    """Sites that come and go on machines that serve."""
    ops: dict[str, set[Op]] = {}
    for change in preview.changes:
        if site := _site(change):
            ops.setdefault(site, set()).add(change.op)
    if set().union(*ops.values()) - {Op.CREATE}:
        first = "503" if preview.front else "nothing answers"
        yield from (f"site {site} is new: {first} until its first release" for site in ops if ops[site] == {Op.CREATE})
        yield from (f"site {site} goes" for site in ops if ops[site] == {Op.DELETE})


def _closed(changes: Iterable[Change]) -> Iterator[str]:
    """Ports that no longer let somebody in."""
    rules = [(change.op, change.record.inputs) for change in changes if change.record.type == pairs.RULE]
    ports = [(op, rule["portRange"], IPv4Network(rule["cidrIp"])) for op, rule in rules if rule.get("cidrIp")]
    for gone, port, who in ports:
        kept = (other for op, same, other in ports if op is not Op.DELETE and same == port)
        if gone is Op.DELETE and not any(who.subnet_of(other) for other in kept):
            yield f"port {port.partition('/')[0]} closes to {who}"


def _restarted(files: Iterable[Rendered]) -> Iterator[str]:
    for one in files:
        if _MYSQL in (one.differences if one.old is not None else one.new if one.lost else ()):
            perhaps = "perhaps " if one.lost else ""
            yield f"{_DATABASE} is {perhaps}away while it starts with another {_MYSQL.partition('/')[2]}: some seconds"


def _different(change: Change) -> set[str]:
    old, new = (record.inputs if record else {} for record in (change.old, change.new))
    return {key for key in {*old, *new} if old.get(key) != new.get(key)}


def _restarts(change: Change) -> bool:
    """Whether a machine is changed in place in a way that interrupts it."""
    updates = TYPES[pairs.INSTANCE].schema.updates
    in_place = change.op is Op.UPDATE and change.record.type == pairs.INSTANCE
    return in_place and any(updates.get(key) for key in _different(change))


def _drifted(change: Change) -> bool:
    return change.op is Op.UPDATE and not _different(change)


def _seconds(steps: Iterable[Change]) -> float:
    return sum(step.old.seconds or 0 for step in steps if step.old)


def _long(steps: Sequence[Change]) -> str:
    known = [step.old is not None and step.old.seconds is not None for step in steps]
    if not any(known):
        return "not measured yet"
    return f"{'about' if all(known) else 'more than'} {_seconds(steps):.0f} s, as it took the last time"
