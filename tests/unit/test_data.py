"""The data folder of a site on a fake server: what leads into it, and what a release leaves as it is."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.archive import build
from serving import machines
from settings.loader import parse
from tests.unit.machine import module
from tests.unit.machine.server import Server

CONFIG = {"app": {"persistent": ["instance", "var/media", "empty", "db.sqlite3", "seed.json"]}}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that is prepared. Parameter: what its settings say beside the persistent paths."""
    server = Server({**CONFIG, **getattr(request, "param", {})})
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


DISK = {**CONFIG, "data": {"disk_gib": 20}}


def prepare(server: Server, config: object, **options: object) -> str:
    """Put in place what these settings say the sites share."""
    server.config = config  # type: ignore[assignment]
    return server.prepare(**options)  # type: ignore[arg-type]


@pytest.fixture
def written(server: Server, tmp_path: Path) -> Server:
    """A server without a data disk whose application has written."""
    release(server, tmp_path / "one")
    (server.site / "data/instance/config.py").write_text("A = 2\n")
    return server


@pytest.mark.parametrize(
    "server",
    [{"serving": {"process_manager": name}} for name in ("supervisor", "systemd", "emperor")],
    ids=str,
    indirect=True,
)
def test_data_move_to_a_data_disk_and_back_while_the_site_stands_still(written: Server) -> None:
    data, moved, without = written.site / "data", written.root / "disk/sites/app", written.config
    output = prepare(written, {**without, **DISK})
    assert "the data of site app are on the data disk now" in output
    assert data.readlink() == moved
    assert (moved / "instance/config.py").read_text() == "A = 2\n"
    assert written.running == []
    assert len(written.programs) == 1
    assert (written.root / "srv/removed").readlink() == written.root / "disk/removed"
    assert {path.name for path in written.site.iterdir()} == {"current", "data", "releases", "slots"}
    assert "on the data disk now" not in prepare(written, {**without, "data": {"disk_gib": 40}})
    output = prepare(written, without)
    assert "the data of site app are on the server's own disk now" in output
    assert not data.is_symlink()
    assert (data / "instance/config.py").read_text() == "A = 2\n"
    assert written.running == []
    assert len(written.programs) == 1
    assert not moved.exists()


def test_a_new_server_finds_the_data_on_the_disk(written: Server, tmp_path: Path) -> None:
    prepare(written, DISK)
    new = Server(DISK)
    try:
        shutil.copytree(written.root / "disk", new.root / "disk", symlinks=True)
        (new.root / "disk/sites/gone").mkdir()
        new.prepare()
        app = release(new, tmp_path / "two", requirements="flask\ngunicorn\n")
        assert (app / "instance/config.py").read_text() == "A = 2\n"
        # A site that was removed in the same update is kept as any other.
        assert (new.root / "disk/removed/gone").is_dir()
    finally:
        new.close()


def test_a_site_that_is_removed_is_kept_on_the_disk_and_comes_back(written: Server) -> None:
    prepare(written, {"sites": {"app": CONFIG, "blog": {"site": {"location": "/blog/"}}}, "data": {"disk_gib": 20}})
    blog = written.folder("blog") / "data"
    (blog / "note").write_text("kept")
    prepare(written, DISK)
    assert (written.root / "disk/removed/blog/note").read_text() == "kept"
    assert not (written.root / "disk/sites/blog").exists()
    prepare(written, {"sites": {"app": CONFIG, "blog": {"site": {"location": "/blog/"}}}, "data": {"disk_gib": 20}})
    assert (blog / "note").read_text() == "kept"
    assert blog.is_symlink()


def test_a_disk_that_is_too_full_leaves_the_data_where_they_are(written: Server) -> None:
    written.refuses.add("cp")
    output = prepare(written, DISK, wanted=1)
    assert "No space left on device" in output
    assert "next: free space on the server's disk, or raise " in output
    data = written.site / "data"
    assert not data.is_symlink()
    assert (data / "instance/config.py").read_text() == "A = 2\n"
    assert len(written.programs) == 1
    assert not list((written.root / "disk/sites").iterdir())
    written.refuses.clear()
    prepare(written, DISK)
    assert data.is_symlink()


def test_a_file_that_the_sites_user_cannot_read_is_named_and_stays(written: Server) -> None:
    (written.root / "cp").write_text(
        "cp: cannot open '/srv/wsgi-ecs/sites/app/data/own' for reading: Permission denied"
    )
    written.refuses.add("cp")
    output = prepare(written, DISK, wanted=1)
    assert "the data of site app cannot be copied: cp: cannot open '/srv/wsgi-ecs/sites/app/data/own'" in output
    assert "next: give the file on the server to the owner of the folder (chown)" in output
    assert not (written.site / "data").is_symlink()
    assert len(written.programs) == 1


@pytest.mark.parametrize("moment", ["old", "link"])
def test_a_move_that_was_killed_begins_again(written: Server, moment: str) -> None:
    data = written.site / "data"
    draft = written.root / "disk/sites/app.moving"
    draft.mkdir(parents=True)
    data.rename(written.site / "data.moved")
    if moment == "link":
        data.symlink_to(written.root / "disk/sites/app")
    prepare(written, DISK)
    assert (written.root / "disk/sites/app/instance/config.py").read_text() == "A = 2\n"
    assert not draft.exists()
    assert not (written.site / "data.moved").exists()


def test_a_copy_that_lost_its_name_is_not_taken_for_an_unfinished_one(written: Server) -> None:
    """After a power failure the server's disk may know more than the data disk."""
    data, there = written.site / "data", written.root / "disk/sites/app"
    (written.root / "disk/sites").mkdir(parents=True, exist_ok=True)
    data.rename(written.root / "disk/sites/app.moving")
    data.symlink_to(there)
    prepare(written, DISK)
    assert (there / "instance/config.py").read_text() == "A = 2\n"


def test_data_in_two_places_are_refused_with_both(written: Server) -> None:
    other = written.root / "disk/sites/app"
    other.mkdir(parents=True)
    (other / "db.sqlite3").write_text("other rows")
    output = prepare(written, DISK, wanted=1)
    assert f"the data of site app are in {written.site}/data and in {other}" in output
    assert (other / "db.sqlite3").read_text() == "other rows"
    assert (written.site / "data/instance/config.py").read_text() == "A = 2\n"


def test_data_whose_disk_is_gone_are_not_begun_anew_in_silence(written: Server) -> None:
    prepare(written, DISK)
    shutil.rmtree(written.root / "disk")
    output = prepare(written, CONFIG, wanted=1)
    assert "the data of site app are on the data disk, which is not at" in output
    assert (written.site / "data").is_symlink()


def test_a_file_that_is_not_the_sites_own_refuses_no_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = module("data")
    file = tmp_path / "up"
    file.touch(0o600)

    def refused(path: str, *owner: int) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(data.os, "chown", refused)
    data._permit(str(file), file.stat().st_gid, 0o040)
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"wsgi-ecs: warning: {file} is not the site's own" in capfd.readouterr().out


def test_nginx_follows_no_link_that_the_application_puts_into_a_served_folder() -> None:
    served = {"/media/": "media", "/a/": "own/avatars"}
    (site,) = machines(parse({"data": {"served": served}}, "test"))[0].plan.sites
    blocks = {path: site.configs["server.conf"].split(f"location {path} {{")[1].split("\n    }")[0] for path in served}
    for path, folder in served.items():
        assert f"alias {site.place.data}/{folder}/;\n" in blocks[path]
        assert f"disable_symlinks on from={site.place.data};\n" in blocks[path]
