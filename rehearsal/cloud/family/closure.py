"""Which of Debian's packages another one needs, among those that an image lacks."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Deb:
    """A package of Debian's. depends: groups of alternatives, each a name. provides: its other names."""

    name: str
    version: str
    depends: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]


def parse(fields: Mapping[str, str]) -> Deb:
    """The package that the fields of its control file describe."""
    depends = [fields.get(key, "") for key in ("Pre-Depends", "Depends")]
    groups = [tuple(map(_name, group.split("|"))) for text in depends for group in text.split(",") if group.strip()]
    provides = tuple(_name(part) for part in fields.get("Provides", "").split(",") if part.strip())
    return Deb(fields["Package"], fields["Version"], tuple(groups), provides)


def _name(text: str) -> str:
    return re.split(r"[\s(:\[]", text.strip())[0]


def closure(names: Iterable[str], debs: Mapping[str, Deb]) -> set[str]:
    """Names of packages and of all that they need, of those in `debs`; all others are in the image."""
    providers = {name: deb.name for deb in debs.values() for name in deb.provides}
    found: set[str] = set()
    waiting = [*names]
    while waiting:
        name = waiting.pop()
        name = name if name in debs else providers.get(name, "")
        if not name or name in found:
            continue
        found.add(name)
        for group in debs[name].depends:
            # An alternative that neither is there nor comes is one that the image has another of.
            there = [each for each in group if each in debs or each in providers]
            waiting += there[:1]
    return found
