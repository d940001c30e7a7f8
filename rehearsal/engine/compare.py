"""What has to be done to a resource: recorded + registered → Step, without I/O, so a preview uses the same code.

The rules are those of Pulumi's engine: https://www.pulumi.com/docs/iac/concepts/options/
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import zip_longest
from typing import Any

# Replaces values in comparable inputs that a preview cannot know, such as the id of a resource that is not made yet.
KNOWN_LATER = {"known": "later"}
# Characters: a longer value is not shown in a reason.
_LONGEST = 60


class Op(StrEnum):
    """What happens to a resource. The values are the signs that Pulumi shows."""

    CREATE = "+"
    UPDATE = "~"
    REPLACE = "+-"
    SAME = " "
    DELETE = "-"


@dataclass(frozen=True)
class Schema:
    """How a resource type takes a change of its inputs. Names as the provider has them, in camelCase.

    replaces: inputs whose change makes a new object. updates: inputs that are changed in place → what that interrupts,
    "" for nothing. grows: inputs in `updates` that the cloud makes larger and never smaller. recorded: inputs that
    are accepted and kept, without an effect in a rehearsal. away: what is unavailable from the deletion of an object
    until everything that depends on its successor is done, "" for nothing. words: input, or `replacement_trigger`, →
    what a reason calls its change, perhaps by its old and its new value. without_secret: secret input → the part of its
    text that is no secret, which is recorded in place of a digest.
    """

    replaces: frozenset[str] = frozenset()
    grows: frozenset[str] = frozenset()
    updates: Mapping[str, str] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    delete_before_replace: bool = False
    away: str = ""
    words: Mapping[str, str | Callable[[Any, Any], str]] = field(default_factory=dict)
    without_secret: Mapping[str, Callable[[str], str]] = field(default_factory=dict)

    def changed(self, key: str, old: Any, new: Any) -> str:
        """A change in words with its values, such as `a new release (a → b)`."""
        words = self.words.get(key, key)
        return changed(words if isinstance(words, str) else words(old, new), old, new)

    @property
    def known(self) -> frozenset[str]:
        return self.replaces | frozenset(self.updates) | self.recorded


@dataclass(frozen=True)
class Recorded:
    """What the state holds of a resource: comparable inputs and the value of its replacement trigger."""

    inputs: Mapping[str, Any]
    trigger: str | None = None


@dataclass(frozen=True)
class Options:
    """Resource options that affect a change. trigger: JSON text of replacement_trigger. retain: leave the object."""

    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    trigger: str | None = None
    delete_before_replace: bool | None = None
    protect: bool = False
    retain: bool = False


@dataclass(frozen=True)
class Step:
    """What to do. keys: inputs that differ, without ignored ones. inputs: what to record, ignored inputs unchanged.

    reason: why the object is replaced, or what an update interrupts. refused: why the step is not allowed.
    """

    op: Op
    keys: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    delete_first: bool = False
    refused: str | None = None


def compare(recorded: Recorded | None, inputs: Mapping[str, Any], options: Options, schema: Schema) -> Step:
    """Recorded state, comparable inputs and options of one resource → Step. No I/O."""
    if recorded is None:
        return Step(Op.CREATE, inputs=dict(inputs))
    effective = with_ignored(recorded.inputs, inputs, options.ignore_changes)
    keys = tuple(
        key for key in sorted({*recorded.inputs, *effective}) if recorded.inputs.get(key) != effective.get(key)
    )
    triggered = None not in (recorded.trigger, options.trigger) and recorded.trigger != options.trigger
    forced = {path.split("[")[0].split(".")[0] for path in options.replace_on_changes}
    replacing = [key for key in keys if key in schema.replaces or key in forced or "*" in forced]
    if triggered or replacing:
        values = {"replacement_trigger": (_read(recorded), _read(options))} if triggered else {}
        values |= {key: (recorded.inputs.get(key), inputs.get(key)) for key in replacing}
        reason = ", ".join(schema.changed(key, old, new) for key, (old, new) in values.items())
        first = options.delete_before_replace
        first = schema.delete_before_replace if first is None else first
        return Step(
            Op.REPLACE,
            keys,
            # A new object is made from all registered values: ignore_changes is about changes in place.
            dict(inputs),
            f"replaced for {reason}{', the old one goes first' if first else ''}",
            delete_first=first,
            refused=f"it is protected, and this replaces it for {reason}" if options.protect else None,
        )
    if not keys:
        return Step(Op.SAME, inputs=effective)
    smaller = [
        schema.changed(key, recorded.inputs.get(key), effective.get(key))
        for key in keys
        if key in schema.grows and _less(effective.get(key), recorded.inputs.get(key))
    ]
    refused = f"the cloud makes nothing smaller: {', '.join(smaller)}" if smaller else None
    interrupts: dict[str, bool] = {}
    for key in keys:
        if text := schema.updates.get(key):
            interrupts[text] = interrupts.get(text, False) or effective.get(key) != KNOWN_LATER
    reasons = (text if certain else f"perhaps {text}" for text, certain in interrupts.items())
    return Step(Op.UPDATE, keys, effective, ", ".join(reasons), refused=refused)


def _less(new: Any, old: Any) -> bool:
    return isinstance(new, int) and isinstance(old, int) and new < old


def changed(key: str, old: Any, new: Any) -> str:
    """An input and its change, such as `zone (a → b)`; only its name where the values are long or secret."""
    texts = [(_short_text(before), _short_text(after)) for before, after in differing(old, new)]
    if not texts or not all(before and after for before, after in texts):
        return f"{key} (known later)" if new == KNOWN_LATER else key
    return f"{key} ({', '.join(f'{before} → {after}' for before, after in texts)})"


def differing(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """The values that differ, old and new: those of two lists one by one."""
    if not isinstance(old, list) or not isinstance(new, list):
        return [(old, new)]
    removed, added = old, new
    if len(old) != len(new):
        removed, added = [item for item in old if item not in new], [item for item in new if item not in old]
    return [(before, after) for before, after in zip_longest(removed, added) if before != after]


def _read(holder: Recorded | Options) -> Any:
    return json.loads(holder.trigger or "null")


def _short_text(value: Any) -> str:
    """A value as text; "" when it is long or has several lines."""
    if value == KNOWN_LATER:
        return "known later"
    if value is None or value == "":
        return "none"
    if isinstance(value, dict | list) or "\n" in str(value) or len(str(value)) > _LONGEST:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def with_ignored(old: Mapping[str, Any], new: Mapping[str, Any], ignore: tuple[str, ...]) -> dict[str, Any]:
    """The new inputs, but recorded values for the inputs named in `ignore`."""
    merged = {key: value for key, value in new.items() if key not in ignore}
    return merged | {key: old[key] for key in ignore if key in old}


def delete_order(records: Mapping[str, tuple[str, frozenset[str]]]) -> list[list[str]]:
    """Key → (urn, urns that it depends on), to waves of keys: dependents first, each wave at the same time.

    A cycle, which no program can register, ends as one last wave.
    """
    left = dict(records)
    waves: list[list[str]] = []
    while left:
        needed = {urn for _, depends in left.values() for urn in depends}
        wave = [key for key, (urn, _) in left.items() if urn not in needed] or list(left)
        waves.append(wave)
        for key in wave:
            del left[key]
    return waves
