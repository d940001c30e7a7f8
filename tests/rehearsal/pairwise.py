"""All pairs: few rows in which every two values that go together stand side by side. Pure and deterministic.

factors (key → values, the first is the default) ─┐
                                                  ├─▶ Cover (rows; refused values and pairs, with the reason)
refusal (row → why it makes no sense, or None) ───┘

The method is the greedy one of https://www.pairwise.org/: a row begins with a pair that no row has yet,
and each other factor takes the value that brings the most new pairs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

Row = dict[str, str]
# One or two (key, value), in the order of the factors.
Part = tuple[tuple[str, str], ...]

# Other factors that may leave their default to make a pair possible.
DEPTH = 2


@dataclass(frozen=True)
class Cover:
    """rows: whole rows, none of them refused. refused: value or pair → the reason beside the defaults."""

    rows: list[Row]
    refused: dict[Part, str]


def parts(factors: Mapping[str, Sequence[str]], size: int) -> Iterator[Part]:
    """Every value (size 1) or every pair of values of two factors (size 2), in the order of the factors."""
    for keys in combinations(factors, size):
        for values in product(*(factors[key] for key in keys)):
            yield tuple(zip(keys, values, strict=True))


def has(row: Row, part: Part) -> bool:
    return all(row[key] == value for key, value in part)


def cover(factors: Mapping[str, Sequence[str]], refusal: Callable[[Row], str | None]) -> Cover:
    """Rows for every pair that a row can have. Raises ValueError when the row of defaults is refused.

    A pair counts as refused when no row has it, as far as DEPTH reaches; so does a value, whose pairs
    are then left out.
    """
    default = {key: values[0] for key, values in factors.items()}
    if (reason := refusal(default)) is not None:
        raise ValueError(f"the defaults are refused: {reason}")
    known: dict[tuple[str, ...], str | None] = {}

    def why(row: Row) -> str | None:
        key = tuple(row.values())
        if key not in known:
            known[key] = refusal(row)
        return known[key]

    left = {key: list(values) for key, values in factors.items()}
    refused: dict[Part, str] = {}
    for part in parts(factors, 1):
        if _complete(default, part, left, why) is None:
            refused[part] = why({**default, **dict(part)}) or ""
            left[part[0][0]].remove(part[0][1])

    wanted = dict.fromkeys(parts(left, 2))
    rows: list[Row] = []
    while wanted:
        pair = next(iter(wanted))
        row = _complete(default, pair, left, why)
        if row is None:
            refused[pair] = why({**default, **dict(pair)}) or ""
            del wanted[pair]
            continue
        row = _fill(row, pair, left, wanted, why)
        rows.append(row)
        for done in combinations(row.items(), 2):
            wanted.pop(done, None)
    return Cover(rows, refused)


def _complete(
    default: Row, part: Part, factors: Mapping[str, Sequence[str]], why: Callable[[Row], str | None]
) -> Row | None:
    """The row nearest to the defaults that has the part, None when there is none."""
    start = {**default, **dict(part)}
    for depth in range(DEPTH + 1):
        found = _repair(start, frozenset(key for key, _ in part), factors, why, depth)
        if found is not None:
            return found
    return None


def _repair(
    row: Row, fixed: frozenset[str], factors: Mapping[str, Sequence[str]], why: Callable[[Row], str | None], depth: int
) -> Row | None:
    reason = why(row)
    if reason is None:
        return row
    if depth == 0:
        return None
    for key, values in factors.items():
        if key in fixed:
            continue
        for value in values:
            changed = {**row, key: value}
            # A change that leaves the same reason standing is no help.
            if value != row[key] and why(changed) != reason:
                found = _repair(changed, fixed | {key}, factors, why, depth - 1)
                if found is not None:
                    return found
    return None


def _fill(
    row: Row,
    pair: Part,
    factors: Mapping[str, Sequence[str]],
    wanted: Mapping[Part, None],
    why: Callable[[Row], str | None],
) -> Row:
    """Give each factor outside the pair the value that brings the most pairs that are still wanted."""

    def gain(candidate: Row) -> int:
        return sum(done in wanted for done in combinations(candidate.items(), 2))

    fixed = {key for key, _ in pair}
    best, most = row, gain(row)
    for key, values in factors.items():
        for value in values if key not in fixed else ():
            candidate = {**best, key: value}
            if (more := gain(candidate)) > most and why(candidate) is None:
                best, most = candidate, more
    return best
