"""The data folder of a site on a fake server: what leads into it, and what a release leaves as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.archive import build
from tests.unit.machine import module
from tests.unit.machine.server import Server

CONFIG = {"app": {"persistent": ["instance", "var/media", "empty", "db.sqlite3", "seed.json"]}}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(CONFIG)
    server.prepare()
    yield server
    server.close()


def release(server: Server, folder: Path, **options: object) -> Path:
    """Apply a release with these files of its own. Returns the folder of its application."""
    archive = server.archive(**options)  # type: ignore[arg-type]
    for name, text in {"instance/config.py": "A = 1\n", "seed.json": "{}", "var/other": "x"}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("behaviour", "requirements.txt"):
        (folder / name).write_bytes((server.unpack(archive) / "app" / name).read_bytes())
    unpacked = server.unpack(archive)
    texts = {
        str(path.relative_to(unpacked)): path.read_text()
        for path in unpacked.rglob("*")
        if path.is_file() and path.parts[len(unpacked.parts)] != "app" and path.name != "manifest.json"
    }
    own = build(texts, {}, folder.parent / "built", folder)
    server.apply(own)
    return server.site / "releases" / own.id / "app"


def test_persistent_paths_lead_into_the_data_folder_with_their_first_content(server: Server, tmp_path: Path) -> None:
    data = server.site / "data"
    app = release(server, tmp_path / "one")
    assert {name: (app / name).readlink() for name in CONFIG["app"]["persistent"]} == {
        name: data / name for name in CONFIG["app"]["persistent"]
    }
    assert (data / "instance/config.py").read_text() == "A = 1\n"
    assert (data / "seed.json").read_text() == "{}"
    assert list((data / "empty").iterdir()) == []
    assert list((data / "var/media").iterdir()) == []
    assert (app / "var/other").read_text() == "x"
    # The application makes its database, and SQLite its journal beside the file.
    assert not (data / "db.sqlite3").exists()
    (app / "db.sqlite3").write_text("rows")
    assert (data / "db.sqlite3").read_text() == "rows"


def test_a_later_release_leaves_what_the_application_has_written(server: Server, tmp_path: Path) -> None:
    release(server, tmp_path / "one")
    (server.site / "data/instance/config.py").write_text("A = 2\n")
    (server.site / "data/seed.json").unlink()
    (server.site / "data/instance/more").write_text("")
    app = release(server, tmp_path / "two", requirements="flask\ngunicorn\n")
    assert (app / "instance/config.py").read_text() == "A = 2\n"
    # A file that the application has removed comes back as the release has it.
    assert (app / "seed.json").read_text() == "{}"
    assert "edited by hand" not in server.run(Path(), "", verb="status")[1]


def test_the_same_release_again_needs_nothing(server: Server, tmp_path: Path) -> None:
    release(server, tmp_path / "one")
    (server.site / "data/instance/config.py").write_text("A = 2\n")
    assert (release(server, tmp_path / "one") / "instance/config.py").read_text() == "A = 2\n"


def test_nginx_reads_the_served_folders_and_no_other(tmp_path: Path) -> None:
    server = Server({"app": {"persistent": ["media"]}, "data": {"served": {"/media/": "media", "/a/": "own/avatars"}}})
    try:
        server.prepare()
        server.apply(server.archive())
        data = server.site / "data"
        modes = {name: (data / name).stat().st_mode & 0o7770 for name in ("", "media", "own", "own/avatars")}
        assert modes == {"": 0o710, "media": 0o2750, "own": 0o2750, "own/avatars": 0o2750}
        (data / "media/link").symlink_to("/etc/passwd")
        (data / "media/a.png").write_text("")
        (data / "media/a.png").chmod(0o600)
        server.apply(server.archive(generation=2))
        assert (data / "media/a.png").stat().st_mode & 0o777 == 0o640
        server.apply(server.archive(config={}))
        assert data.stat().st_mode & 0o777 == 0o750
    finally:
        server.close()


@pytest.mark.parametrize(
    ("lines", "is_named"),
    [
        ("PermissionError: [Errno 13] Permission denied: '/srv/…/app/instance'", True),
        ("sqlite3.OperationalError: unable to open database file", True),
        ("OSError: [Errno 30] Read-only file system: 'x'", True),
        ("sqlite3.OperationalError: attempt to write a readonly database", True),
        ("ModuleNotFoundError: No module named 'flask'", False),
    ],
)
def test_a_release_that_may_not_write_is_told_where_it_may(lines: str, is_named: bool) -> None:
    text = module("data").advice("app", lines)
    assert all(name in text for name in ("DATA_DIR", "app.persistent", "/srv/wsgi-ecs/sites/app/data")) == is_named
