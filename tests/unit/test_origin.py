"""Where an application comes from, as git knows it, and as the server notes it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from components.origin import origin
from tests.unit.machine.server import Server


def files() -> set[str]:
    return {"app.py", "new.py"}


def nothing() -> set[str]:
    raise AssertionError("the application's folder is walked a second time")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of the user's."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


def git(folder: Path, *arguments: str) -> str:
    own = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    done = subprocess.run(["git", "-C", folder, *own, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "project").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "project/app.py").write_text("one")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


def test_the_commit_is_the_last_one_of_the_folder(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    found = {"by": "ann@example.com", "commit": commit, "clean": "yes"}
    assert origin(repository / "project", files) == found
    (repository / "elsewhere").write_text("of no matter")
    assert origin(repository / "project", nothing) == found
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "two")
    assert origin(repository / "project", files) == found
    clone = repository.with_name("clone")
    git(repository, "clone", "-q", str(repository), str(clone))
    assert origin(clone / "project", files) == found


@pytest.mark.parametrize("change", ["changed", "new", "missing", "staged"])
def test_what_is_in_no_commit_is_of_nobody_that_git_knows(repository: Path, change: str) -> None:
    project, commit = repository / "project", git(repository, "rev-parse", "HEAD")
    if change == "missing":
        (project / "app.py").unlink()
    else:
        (project / ("new.py" if change == "new" else "app.py")).write_text("two")
    if change == "staged":
        git(repository, "add", ".")
    assert origin(project, files) == {"commit": commit, "clean": "no"}


def test_what_stays_behind_is_no_change(repository: Path) -> None:
    (repository / "project/notes.txt").write_text("stays behind")
    assert origin(repository / "project", files)["clean"] == "yes"


def test_without_git_nothing_is_known(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert origin(tmp_path, files) == {}
    (repository / "ignored").mkdir()
    assert origin(repository / "ignored", files) == {}, "no commit has it"
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert origin(empty, files) == {}
    monkeypatch.setenv("PATH", "/nowhere")
    assert origin(repository / "project", files) == {}


def test_a_signature_that_git_is_told_to_show_is_not_read(repository: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {marker}\necho Good\n")
    program.chmod(0o755)
    found = origin(repository / "project", files)
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "gpg.program", str(program))
    assert origin(repository / "project", files) == found
    assert not marker.exists()


def test_a_shallow_clone_says_nothing(repository: Path) -> None:
    (repository / "project/app.py").write_text("two")
    git(repository, "commit", "-qam", "two")
    clone = repository.with_name("clone")
    git(repository, "clone", "-q", "--depth", "1", f"file://{repository}", str(clone))
    assert origin(clone / "project", files) == {}


def test_the_server_notes_it_and_another_origin_alone_starts_nothing() -> None:
    server = Server()
    try:
        archive = server.archive()
        folder = server.unpack(archive)
        parts: dict[str, object] = {"env": {}, "files": {}}

        def apply(origin: dict[str, str], wanted: int = 0) -> str:
            return server.run(folder, json.dumps({**parts, "origin": origin}), wanted=wanted)[1]

        apply({"by": "ann@laptop", "commit": "0123456789abcdef", "clean": "no"})
        (row,) = json.loads(server.kept("list --json"))
        assert (row["by"], row["commit"], row["clean"]) == ("ann@laptop", "0123456789abcdef", False)
        assert "0123456789ab and changes" in server.kept("list")
        assert "serves already" in apply(
            {"by": "ann@example.com\n\x1b[2J", "commit": "0123456789abcdef", "clean": "yes"}
        )
        assert "ann@example.com[2J" in server.kept("list")
        assert "and changes" not in server.kept("list")
        assert "serves already" in server.apply(archive), "an older program says nothing of it"
        assert "ann@example.com" in server.kept("list")
        assert "edited by hand" not in server.run(server.root, "", verb="status")[1]
        assert "not JSON as" in apply({"by": 1}, wanted=1)  # type: ignore[dict-item]
    finally:
        server.close()
