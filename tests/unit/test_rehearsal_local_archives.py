"""Archives of a stack from the cache and the package index, with the real pip and no network."""

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud import lock, source_archives, trust
from rehearsal.commands.local_archives import replace_urls
from rehearsal.engine.stack import Stack

URL = "https://example.com/uwsgi.tar.gz"
# Builds nothing and needs nothing from an index; that its code ran is told by a file.
PROJECT = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """import pathlib
pathlib.Path({ran!r}).touch()
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder, "uwsgi-2.0.31.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: uWSGI\\nVersion: 2.0.31\\n")
    return info.name
"""
Index = Callable[[], Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Root's lock is no other user's to take.
    monkeypatch.setattr(lock, "_FOLDER", tmp_path)
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package index, with one uWSGI. Returns its archive."""
    source = tmp_path / "uwsgi-2.0.31"
    source.mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "backend.py").write_text(BACKEND.format(ran=str(tmp_path / "ran")))
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: uWSGI\nVersion: 2.0.31\n")
    (tmp_path / "index").mkdir()
    file = tmp_path / "index/uwsgi-2.0.31.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        tar.add(source, source.name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(trust, "packages", lambda suite: trust.Packages("", []))
    return file


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def stack(name: str, **server: str) -> Stack:
    given = {"install": "source", "version": "2.0.31", "archive": URL, **server}
    return Stack("wsgi-ecs", "x", {f"wsgi-ecs:{name}": json.dumps(given)})


def archive_of(made: Stack, name: str = "uwsgi") -> Any:
    return json.loads(made.config[f"wsgi-ecs:{name}"])["archive"]


def test_an_archive_comes_from_the_index_once_and_from_the_cache_then(index: Path, cache: Path) -> None:
    given = stack("uwsgi", sha256=sha256(index))
    made, notes = replace_urls(given, cache)
    assert notes == ["uwsgi.archive: taken from the package index, the same checksum"]
    assert archive_of(made) == str(cache / sha256(index))
    assert (cache / sha256(index)).read_bytes() == index.read_bytes()
    index.unlink()
    again, notes = replace_urls(given, cache)
    assert notes == ["uwsgi.archive: taken from the rehearsal's cache, the same checksum"]
    assert again == made


def test_a_damaged_file_of_the_cache_is_not_taken(index: Path, cache: Path) -> None:
    (cache / sha256(index)).write_bytes(b"damaged")
    _, notes = replace_urls(stack("uwsgi", sha256=sha256(index)), cache)
    assert notes == ["uwsgi.archive: taken from the package index, the same checksum"]
    assert (cache / sha256(index)).read_bytes() == index.read_bytes()


def test_another_checksum_leaves_the_url_and_runs_no_code_of_the_archive(
    index: Path, cache: Path, tmp_path: Path
) -> None:
    given = stack("uwsgi", sha256="ab" * 32)
    made, notes = replace_urls(given, cache)
    assert notes == ["uwsgi.archive: not in the package index, so the machine downloads it"]
    assert made == given
    assert not (tmp_path / "ran").exists()
    assert [path.name for path in cache.iterdir()] == [f"{'ab' * 32}.absent"]


def test_what_was_not_there_is_not_asked_for_again_at_once(
    index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = index.rename(index.with_name("hidden"))
    given = stack("uwsgi", sha256=sha256(right))
    assert replace_urls(given, cache)[0] == given
    right.rename(index)
    assert replace_urls(given, cache)[0] == given
    monkeypatch.setattr(source_archives, "_ABSENT", 0)
    assert archive_of(replace_urls(given, cache)[0]) == str(cache / sha256(index))


def test_a_host_that_is_not_debian_leaves_nginx_to_the_machine(index: Path, cache: Path) -> None:
    given = stack("nginx", sha256="cd" * 32)
    made, notes = replace_urls(given, cache)
    assert (made, notes) == (given, ["nginx.archive: not in Debian's source package, so the machine downloads it"])


@pytest.mark.parametrize(
    "given",
    [
        Stack("wsgi-ecs", "x", {}),
        Stack("wsgi-ecs", "x", {"wsgi-ecs:uwsgi": '{"install": "index"}'}),
        stack("uwsgi", archive="../uwsgi.tar.gz", sha256="ab" * 32),
    ],
    ids=["none", "index", "file"],
)
def test_what_is_not_downloaded_is_left_alone(given: Stack, cache: Path) -> None:
    assert replace_urls(given, cache) == (given, [])
    assert not list(cache.iterdir())
