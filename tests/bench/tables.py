"""The tables of pages that scripts measure: a row of an earlier run is replaced, and the others stay."""

import re
from collections.abc import Iterable
from pathlib import Path


def put(page: Path, rows: Iterable[list[str]], order: Iterable[tuple[str, ...]], heading: str = "") -> None:
    """Put rows into the first table of a page that comes after a heading.

    order: the first cells of all rows that it may have, which name a row.
    """
    text, order = page.read_text(), list(order)
    form = re.compile(r"(?m)^\|.*\|\n\|[-|: ]+\|\n(?P<rows>(\|.*\|\n)*)")
    found = form.search(text, text.index(heading))
    assert found, page
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in found["rows"].splitlines()]
    table = {tuple(cells[: len(order[0])]): cells for cells in [*lines, *rows]}
    done = [f"| {' | '.join(table[key])} |\n" for key in order if key in table]
    page.write_text(text[: found.start("rows")] + "".join(done) + text[found.end("rows") :])
