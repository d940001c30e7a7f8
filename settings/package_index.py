"""What the package index says of a version's Requires-Python. Silent when it does not answer in time.

The index is pip's own, from PIP_INDEX_URL or pip's configuration files, or the first of server.mirrors.index.
https://packaging.python.org/en/latest/specifications/simple-repository-api/
"""

import configparser
import html
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from urllib.parse import unquote, urlsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

Pin = tuple[str, str]
# File name and Requires-Python.
Row = tuple[str, str]

# Seconds to wait for the first answer, for all answers together, and for each of them. A preview takes about a second,
# so an index that is out of reach must not double that.
FIRST, _SECONDS, _EACH = 1.5, 4.0, 3.0
_THREADS = 8
_CACHE = Path(".build/requires-python.json")
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_LINK = re.compile(r"<a\s([^>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([a-z-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
# Indexes that have not answered in this run.
_silent: set[str] = set()


def required_pythons(pins: Iterable[Pin], mirrors: Sequence[str]) -> dict[Pin, list[str]]:
    """Pin → Requires-Python of each of its files, "" for a file without one. A pin that is not known is absent."""
    known, wanted = _cached(), list(dict.fromkeys(pins))
    missing = [pin for pin in wanted if pin not in known]
    index = index_url(mirrors) if missing else None
    if index and index not in _silent:
        pages = _ask(index, sorted({name for name, _ in missing}))
        if not pages:
            _silent.add(index)
        if found := _read(pages, missing):
            known.update(found)
            _keep(known)
    return {pin: known[pin] for pin in wanted if pin in known}


def unanswered(mirrors: Sequence[str]) -> str:
    """Host of the index if it was asked in this run and has not answered, else ""."""
    index = index_url(mirrors)
    # The URL may hold a password.
    return urlsplit(index).hostname or "" if index in _silent else ""


def index_url(mirrors: Sequence[str]) -> str | None:
    """The index that pip on this machine would ask, else the stack's own; None for neither, and for a folder."""
    if os.environ.get("PIP_NO_INDEX"):
        return None
    found = os.environ.get("PIP_INDEX_URL") or next(filter(None, map(_configured, _config_files())), None)
    found = found or next(iter(mirrors), "")
    return found if found.startswith(("https://", "http://")) else None


def _config_files() -> list[Path]:
    """pip's configuration files, the one that wins first: https://pip.pypa.io/en/stable/topics/configuration/"""
    home = Path.home()
    own = os.environ.get("PIP_CONFIG_FILE")
    user = [home / ".config/pip/pip.conf", home / ".pip/pip.conf"]
    return [
        *([Path(own)] if own else []),
        Path(sys.prefix) / "pip.conf",
        *user,
        Path("/etc/pip.conf"),
        Path("/etc/xdg/pip/pip.conf"),
    ]


def _configured(path: Path) -> str | None:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return None
    return parser.get("global", "index-url", fallback=None)


def _ask(index: str, names: Sequence[str]) -> dict[str, list[Row]]:
    """Project → its page, of those that arrive in time. Nothing arrives from an index that does not begin to answer."""
    waiting, arrived, stopped = SimpleQueue[str](), SimpleQueue[tuple[str, list[Row] | None]](), Event()
    for name in names:
        waiting.put(name)

    def work() -> None:
        while not stopped.is_set():
            try:
                name = waiting.get_nowait()
            except Empty:
                return
            arrived.put((name, _page(index, name)))

    # Threads of a pool would hold up the end of the program while they wait for a name server.
    for _ in range(min(_THREADS, len(names))):
        Thread(target=work, daemon=True).start()
    began, pages = time.monotonic(), dict[str, list[Row]]()
    for _ in names:
        seconds = began + (_SECONDS if pages else FIRST) - time.monotonic()
        try:
            name, page = arrived.get(timeout=max(seconds, 0))
        except Empty:
            break
        if page is not None:
            pages[name] = page
    stopped.set()
    return pages


def _read(pages: dict[str, list[Row]], pins: Sequence[Pin]) -> dict[Pin, list[str]]:
    found = {}
    for name, version in pins:
        specifiers = [required for file, required in pages.get(name) or () if _is_of(file, name, version)]
        if specifiers:
            found[name, version] = specifiers
    return found


def _page(index: str, name: str) -> list[Row] | None:
    """File name and Requires-Python of each file of a project; None if the index does not answer."""
    url = f"{index.rstrip('/')}/{canonicalize_name(name)}/"
    try:
        request = urllib.request.Request(url, headers={"Accept": _ACCEPT})  # noqa: S310  index_url() checked the scheme.
        with urllib.request.urlopen(request, timeout=_EACH) as answer:  # noqa: S310
            kind, text = answer.headers.get_content_type(), answer.read().decode("utf-8", "replace")
        return read_json(text) if kind.endswith("json") else read_html(text)
    except urllib.error.HTTPError:
        return []
    except OSError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def read_json(text: str) -> list[Row]:
    return [(file["filename"], file.get("requires-python") or "") for file in json.loads(text)["files"]]


def read_html(text: str) -> list[Row]:
    found = []
    for link in _LINK.findall(text):
        attributes = {name.lower(): html.unescape(one or other) for name, one, other in _ATTRIBUTE.findall(link)}
        file = unquote(attributes.get("href", "").partition("#")[0].rpartition("/")[2])
        found.append((file, attributes.get("data-requires-python", "")))
    return found


def _is_of(file: str, name: str, version: str) -> bool:
    try:
        found = parse_wheel_filename(file)[:2] if file.endswith(".whl") else parse_sdist_filename(file)
        return found == (canonicalize_name(name), Version(version))
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return False


def _cached() -> dict[Pin, list[str]]:
    try:
        rows = json.loads(_CACHE.read_text(encoding="utf-8"))
        return {(str(name), str(version)): list(map(str, specifiers)) for name, version, specifiers in rows}
    except (OSError, ValueError, TypeError):
        return {}


def _keep(known: dict[Pin, list[str]]) -> None:
    """Remember the answers: the files of a version that was published say the same for ever."""
    rows = [[name, version, specifiers] for (name, version), specifiers in sorted(known.items())]
    try:
        _CACHE.parent.mkdir(exist_ok=True)
        _CACHE.write_text(json.dumps(rows), encoding="utf-8")
    except OSError:
        pass
