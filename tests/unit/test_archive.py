"""A release archive: the same content gives the same bytes, and nothing else gets in."""

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.application import Rules, collect, left_behind, secret_files
from components.archive import Archive, build
from settings.loader import parse

TEXTS = {"config/nginx.conf": "user nginx;\n", "release.json": "{}\n"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "static").mkdir(parents=True)
    (folder / "app.py").write_text("app = None\n")
    (folder / "static" / "style.css").write_text("body {}\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


def pack(app: Path, *exclude: str, texts: dict[str, str] = TEXTS, out: str = "out") -> Archive:
    return build(texts, {}, app.parent / out, app, Rules(exclude))


def names(archive: Archive) -> list[str]:
    with tarfile.open(archive.path) as tar:
        return tar.getnames()


def test_it_holds_the_application_the_texts_and_a_manifest(app: Path) -> None:
    archive = pack(app)
    assert names(archive) == [
        "app/app.py",
        "app/run.sh",
        "app/static/style.css",
        "config/nginx.conf",
        "manifest.json",
        "release.json",
    ]
    with tarfile.open(archive.path) as tar:
        modes = {entry.name: entry.mode for entry in tar}
        manifest = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert modes["app/run.sh"] == 0o755
    assert modes["app/app.py"] == 0o644
    assert manifest["id"] == archive.id
    assert manifest["files"]["app/app.py"][0] == "644"


def test_the_files_of_secrets_stay_behind_wherever_they_lie(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("privkey.pem", "id_ed25519", "static/passphrase", "other.pem"):
        (app / name).write_text("secret\n")
    monkeypatch.chdir(app)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE_FILE", "static/passphrase")
    given = {"certificate": "cert.pem", "private_key": "./privkey.pem"}
    settings = parse(
        {
            "access": {"private_key_file": "id_ed25519"},
            "sites": {"www": {"site": {"server_name": "www.example.test"}, "tls": given}},
        },
        "stacks/Pulumi.test.yaml",
    )
    found = names(build(TEXTS, {}, app.parent / "out", Path(), Rules(secret=secret_files(settings))))
    assert "app/other.pem" in found
    assert not {"app/privkey.pem", "app/id_ed25519", "app/static/passphrase"} & set(found)


def test_the_same_content_gives_the_same_bytes_whatever_the_times_and_owners(app: Path) -> None:
    first = pack(app, out="first")
    for path in app.rglob("*"):
        os.utime(path, (1, 1))
    second = pack(app, out="second")
    assert first.id == second.id
    assert Path(first.path).read_bytes() == Path(second.path).read_bytes()
    with tarfile.open(first.path) as tar:
        assert {(entry.uid, entry.gid, entry.mtime, entry.uname) for entry in tar} == {(0, 0, 0, "")}


def test_the_id_follows_content_modes_names_and_texts(app: Path) -> None:
    ids = [pack(app).id]
    (app / "app.py").write_text("app = 1\n")
    ids.append(pack(app).id)
    (app / "app.py").chmod(0o755)
    ids.append(pack(app).id)
    (app / "app.py").rename(app / "other.py")
    ids.append(pack(app).id)
    ids.append(pack(app, texts={**TEXTS, "release.json": '{"generation": 1}\n'}).id)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".env",
        ".env.production",
        "venv/x",
        ".venv/x",
        "__pycache__/a.pyc",
        "a.pyc",
        "deep/.venv/x",
        ".rehearsal/local/id_ed25519",
        ".app.py.swp",
        "app.py~",
        ".#app.py",
    ],
)
def test_secrets_histories_and_environments_stay_at_home(app: Path, name: str) -> None:
    (app / name).parent.mkdir(exist_ok=True, parents=True)
    (app / name).write_text("x")
    assert f"app/{name}" not in names(pack(app))


@pytest.mark.parametrize(
    "name",
    [
        "stacks/cards.py",
        "shop/venv/__init__.py",
        "Pulumi.dev.yaml",
        "static/node_modules/lib/lib.js",
        ".build/x",
        "env/settings.py",
    ],
)
def test_a_name_that_only_looks_like_them_comes_along(app: Path, name: str) -> None:
    (app / name).parent.mkdir(exist_ok=True, parents=True)
    (app / name).write_text("x")
    assert f"app/{name}" in names(pack(app))


def test_a_virtual_environment_is_known_by_what_is_in_it(app: Path) -> None:
    for name in ("tools/env/pyvenv.cfg", "tools/env/lib/x.py", "old/bin/activate_this.py"):
        (app / name).parent.mkdir(exist_ok=True, parents=True)
        (app / name).touch()
    assert not [name for name in names(pack(app)) if "env" in name or "old" in name]


def test_what_javascript_installs_comes_along_only_where_nginx_serves_it(app: Path) -> None:
    for name in ("front/package.json", "front/node_modules/x.js", "static/package.json", "static/node_modules/x.js"):
        (app / name).parent.mkdir(exist_ok=True, parents=True)
        (app / name).touch()
    found = collect(app, Rules(served=("static",)))
    assert {"static/node_modules/x.js", "front/package.json"} <= set(found.files)
    assert list(found.left_out) == ["front/node_modules"]


def test_the_programs_own_files_stay_behind_where_the_application_is_its_folder_or_above(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stacks/Pulumi.dev.yaml", "sub/stacks/cards.py", ".build/x", "sub/.build/x"):
        (app / name).parent.mkdir(exist_ok=True, parents=True)
        (app / name).touch()
    monkeypatch.chdir(app)
    for source in (Path(), app):
        assert {"stacks", ".build"} <= set(collect(source, Rules()).left_out)
        assert {"sub/stacks/cards.py", "sub/.build/x"} <= set(collect(source, Rules()).files)
    monkeypatch.chdir(app / "sub")
    assert {"sub/stacks", "sub/.build"} <= set(collect(Path(".."), Rules()).left_out)


def test_what_stays_behind_is_named_once(app: Path) -> None:
    stack = parse({"app": {"source": str(app), "exclude": ["*.css"]}}, "stacks/Pulumi.test.yaml")
    (app / "a/__pycache__").mkdir(parents=True)
    (app / "a/__pycache__/x.pyc").touch()
    assert list(left_behind(stack)) == []
    for name in (".git/a", ".git/b/c", "shop/.DS_Store", ".DS_Store", ".env"):
        (app / name).parent.mkdir(exist_ok=True, parents=True)
        (app / name).touch()
    assert list(left_behind(stack)) == ["left out: .git/ (2 files), .DS_Store (in 2 folders), .env"]


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [("*.css", "app/static/style.css"), ("static/*", "app/static/style.css"), ("run.sh", "app/run.sh")],
)
def test_a_user_leaves_files_out(app: Path, pattern: str, gone: str) -> None:
    assert gone in names(pack(app))
    assert gone not in names(pack(app, pattern))


@pytest.mark.parametrize("target", ["/etc/passwd", "app.py", "../outside", "static"])
def test_a_link_is_refused_by_name(app: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (app / "link").symlink_to(target)
    with pytest.raises(pulumi.RunError, match=r"app\.source: .*app/link is a link or no plain file; allowed: plain"):
        pack(app)
    assert "app/link" not in names(pack(app, "link"))


def test_an_archive_that_is_there_is_not_written_again(app: Path) -> None:
    archive = pack(app)
    before = Path(archive.path).stat().st_ino
    assert pack(app) == archive
    assert Path(archive.path).stat().st_ino == before


def test_old_archives_are_forgotten_and_none_that_a_run_has_just_made(app: Path) -> None:
    shared, old = (build({"config": name}, {}, app.parent / "out") for name in ("shared", "old"))
    for archive in (shared, old):
        os.utime(archive.path, (0, 0))
    # The part that has not changed comes first, then those that have.
    assert build({"config": "shared"}, {}, app.parent / "out") == shared
    made = [build({"config": f"{number}"}, {}, app.parent / "out") for number in range(25)]
    assert all(Path(archive.path).is_file() for archive in (shared, *made))
    assert not Path(old.path).exists()


def test_what_cannot_be_read_is_not_left_out_in_silence(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is asked in the place of a mode, which stops nobody who is root."""
    known = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == "static":
            raise PermissionError(13, "Permission denied", path)
        return known(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(pulumi.RunError, match=r"app\.source: .*static: Permission denied; allowed: files and folders"):
        pack(app)
