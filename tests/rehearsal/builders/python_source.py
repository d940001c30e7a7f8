"""A Python from the real sources, which says another version than the OS's own and compiles faster."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

from rehearsal.cloud import image, source_archives

PYTHON = {
    "install": "source",
    "version": "3.11.2",
    "archive": "https://www.python.org/ftp/python/3.11.2/Python-3.11.2.tgz",
    "sha256": "2411c74bda5bbcfcddaf4531f66d1adc73f247f529aee981b029513aefdbf849",
}
# Of the same length in the archive.
OWN = "3.11.9"


def python_from_source(folder: Path) -> dict[str, Any]:
    """Return the settings `python` with an archive that is made in the folder."""
    cache = image.CACHE / "archives"
    assert source_archives.find(cache, "python", PYTHON["version"], PYTHON["sha256"], download=True)
    data = gzip.decompress((cache / PYTHON["sha256"]).read_bytes())
    for old, new in (
        (b'PY_VERSION              "3.11.2"', b'PY_VERSION              "3.11.9"'),
        (b"PY_MICRO_VERSION        2", b"PY_MICRO_VERSION        9"),
        (b"-O3 -Wall", b"-O0 -Wall"),
    ):
        assert old in data
        data = data.replace(old, new)
    file = folder / "Python.tgz"
    file.write_bytes(gzip.compress(data, 1))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"install": "source", "version": OWN, "archive": str(file), "sha256": sha256}
