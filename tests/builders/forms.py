"""Secrets that a search finds in whatever form they were written."""

import base64
import re
from collections.abc import Mapping

# Beside a mark in a secret: what a shell, SQL, JSON, YAML, a URL, nginx, Python and configparser write in another way.
AWKWARD = ' it\'s "so" \\ `$HOME` %(s)s;--\n\t{{}} @@venv@@ &<é密\U0001f511'


def forms(mark: str) -> frozenset[bytes]:
    """A secret's mark as it is, as hex, and as what it leaves in base64 wherever it begins there.

    mark: letters and digits alone, which every way of quoting leaves as they are: JSON's, a URL's, a shell's.
    """
    plain = mark.encode()
    found = {plain, plain.hex().encode(), plain.hex().upper().encode()}
    for before in range(3):
        # Three bytes are four characters, and those at the ends belong to the neighbours, too.
        whole = slice(-(-8 * before // 6), 8 * (before + len(plain)) // 6)
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(bytes(before) + plain)[whole])
    return frozenset(found)


def mark_of(line: str) -> str:
    """What is searched for of a key: the most of a line of its base64 that is letters and digits."""
    return max(re.split("[^A-Za-z0-9]", line), key=len)


class Marks:
    """Finds secrets. marks: a secret's name → its mark. forms: each form → the secret's name."""

    def __init__(self, marks: Mapping[str, str]) -> None:
        self.forms = {form: name for name, mark in marks.items() for form in forms(mark)}
        self._pattern = re.compile(b"|".join(map(re.escape, self.forms)))

    def within(self, data: bytes | str) -> set[str]:
        """Names of the secrets in a text."""
        raw = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        return {self.forms[found] for found in self._pattern.findall(raw)}
