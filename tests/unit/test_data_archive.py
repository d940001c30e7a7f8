"""Copies of a data folder: SQLite files while they are written, and archives that are not taken."""

import contextlib
import io
import os
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract import paths
from tests.unit.machine import module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a site without a release."""
    for tool in (module("data_archive").paths, paths):
        monkeypatch.setattr(tool, "ROOT", str(tmp_path))
    monkeypatch.setattr(module("data_archive").data, "run_as", lambda name, act: act())
    monkeypatch.setattr(module("data_archive"), "owner", lambda site: "nobody")
    found = tmp_path / "sites/app/data"
    found.mkdir(parents=True)
    return found


def saved(tool: Any) -> bytes:
    out = io.BytesIO()
    tool.save("app", out)
    return out.getvalue()


def load(tool: Any, content: bytes) -> None:
    tool.load("app", io.BytesIO(content))


def packed(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, to
        archive.addfile(member)
    return out.getvalue()


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_copy_has_every_row_and_no_log_and_comes_back(folder: Path, mode: str) -> None:
    tool = module("data_archive")
    (folder / "media/empty").mkdir(parents=True)
    (folder / "media/a.png").write_bytes(b"a")
    (folder / "media/link").symlink_to("/etc/passwd")
    writer = sqlite3.connect(folder / "db.sqlite3")
    writer.execute(f"pragma journal_mode={mode}")
    writer.execute("create table row (number integer)")
    with writer:
        writer.execute("insert into row values (1)")
    copy = saved(tool)
    with writer:
        writer.execute("insert into row values (2)")
    writer.close()
    (folder / "later").touch()
    load(tool, copy)
    assert contents(folder) == {"db.sqlite3", "media", "media/a.png", "media/empty", "media/link"}
    assert (folder / "media/link").readlink() == Path("/etc/passwd")
    assert sqlite3.connect(folder / "db.sqlite3").execute("select number from row").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive",
        packed("../out"),
        packed("/out"),
        packed("a", tarfile.CHRTYPE),
        packed("a", tarfile.LNKTYPE, "/etc/passwd"),
    ],
    ids=["empty", "other", "up", "absolute", "device", "hard-link"],
)
def test_another_archive_changes_nothing(folder: Path, content: bytes) -> None:
    (folder / "a.txt").write_text("kept")
    with pytest.raises(OSError, match="archive of a data folder"):
        load(module("data_archive"), content)
    assert contents(folder) == {"a.txt"}
    assert not (folder.parent / "out").exists()


def renames(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The process ends, as by kill -9, instead of renaming for the given time."""
    known, left = os.rename, [number]

    def rename(source: str, target: str) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        known(source, target)

    monkeypatch.setattr(module("data_archive").os, "rename", rename)


@pytest.mark.parametrize("killed", range(6))
@pytest.mark.parametrize("again", [None, 0, 1, 2, 3])
def test_a_restore_that_was_killed_is_undone_by_whatever_comes_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch, killed: int, again: int | None
) -> None:
    tool = module("data_archive")
    (folder / "..new").write_text("of the archive")
    (folder / "both").write_text("of the archive")
    copy = saved(tool)
    (folder / "..new").unlink()
    for name in ("both", "old"):
        (folder / name).write_text("kept")
    new = folder / ".wsgi-ecs-new"
    tool._unpack(io.BytesIO(copy), str(new))
    killed_at: list[tuple[int, Callable[[], object]]] = [(killed, lambda: tool._exchange(str(folder), str(new)))]
    if again is not None:
        killed_at.append((again, lambda: tool.undo_restore(str(folder))))
    for number, act in killed_at:
        with monkeypatch.context() as patch:
            renames(patch, number)
            with contextlib.suppress(KeyboardInterrupt):
                act()
    with pytest.raises(OSError, match="not a whole archive"):
        load(tool, b"nonsense")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"both": "kept", "old": "kept"}


@pytest.mark.parametrize("missing", [1, 8, 20, 60, 1000])
def test_an_archive_that_is_cut_changes_nothing(folder: Path, missing: int) -> None:
    for name in ("a.txt", "b.txt"):
        (folder / name).write_bytes(bytes(range(256)) * 4096)
    whole = saved(module("data_archive"))
    (folder / "b.txt").write_text("later")
    with pytest.raises(OSError, match="not a whole archive"):
        load(module("data_archive"), whole[:-missing])
    assert contents(folder) == {"a.txt", "b.txt"}
    assert (folder / "b.txt").read_text() == "later"
