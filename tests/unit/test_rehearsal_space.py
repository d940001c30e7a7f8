"""Disks without room, package sources that do not answer, and LXD's other filter: one line each."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rehearsal import cli
from rehearsal.cloud import host, image, lock, space, trust
from rehearsal.cloud.images.debian12 import DEBIAN12
from rehearsal.engine.errors import UserError
from tests.builders.stack import PROJECT


def test_what_goes_to_one_file_system_is_added_up_and_held_against_its_room(tmp_path: Path) -> None:
    """Others write to it meanwhile."""
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    part = free * 2 // 3
    space.check({tmp_path: part})
    with pytest.raises(UserError) as raised:
        space.check({tmp_path / "not" / "there": part, tmp_path: part})
    figures = re.fullmatch(
        re.escape(str(tmp_path))
        + r": ([\d.]+) GiB free, and this takes ([\d.]+) GiB there; make room and run the same again",
        str(raised.value),
    )
    assert figures
    assert [float(figure) * space.GIB for figure in figures.groups()] == pytest.approx([free, 2 * part], rel=0.1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_system_without_figures_is_not_refused(tmp_path: Path) -> None:
    """A tmpfs without a limit, in a mount namespace of its own."""
    program = (
        "import sys; from pathlib import Path; from rehearsal.cloud import space; space.check({Path(sys.argv[1]): 1})"
    )
    script = 'mount -t tmpfs -o size=0 none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", tmp_path, sys.executable, program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_disk_that_is_full_ends_a_command_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device that is always full, written to as the cache is."""

    def write(*_: object) -> int:
        Path("/dev/full").write_bytes(b"x" * 100)
        return 0

    monkeypatch.setattr("rehearsal.commands.status.status", write)
    done = CliRunner().invoke(cli.main, ["status"])
    assert done.exit_code == 1
    assert done.output == f"rehearse: a disk: {os.strerror(errno.ENOSPC)}; make room and run the same again\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Err:1 http://a x\nE: Failed to fetch http://a/x\nE: Some index files failed", "E: Some index files failed"),
        ("Err:1 http://a bookworm\n  Could not connect\n", "Err:1 http://a bookworm"),
        ("dpkg: no\n\n", "dpkg: no"),
        ("", "no reason"),
    ],
)
def test_apts_reason_is_one_line(text: str, line: str) -> None:
    assert trust.reason(text) == line


def test_a_package_source_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real apt-get, with lists and a source of its own."""
    if not shutil.which("apt-get"):
        pytest.skip("needs apt-get")
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "status").touch()
    (tmp_path / "sources.list").write_text("deb [trusted=yes] http://127.0.0.1:9/debian bookworm main\n")
    places = {"State": "state", "State::status": "status", "Cache": "cache", "Etc::sourcelist": "sources.list"}
    lines = [f'Dir::{key} "{tmp_path / name}";' for key, name in places.items()]
    lines += ['Dir::Etc::sourceparts "/dev/null";', 'Acquire::Retries "0";']
    (tmp_path / "apt.conf").write_text("\n".join(lines))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setattr(lock, "_FOLDER", tmp_path)
    said: list[str] = []
    with pytest.raises(UserError, match=r"^apt-get \w+ fails: E: .*; put right this host's network") as raised:
        host.install({"nftables": "no-such-program"}, said.append)
    assert "\n" not in str(raised.value)
    assert said == ["installing nftables"]


def test_without_a_package_index_the_script_says_what_to_do(tmp_path: Path) -> None:
    shutil.copy2(PROJECT / "rehearse", tmp_path)
    (tmp_path / "requirements.txt").write_text("no-such-package-in-any-index==1\n")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [tmp_path / "rehearse", "graph"], env={**os.environ, **nowhere}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("rehearse: pip cannot install requirements.txt, see above; put")
    # The next run tries again.
    assert not (tmp_path / ".venv/requirements.sha256").exists()


@pytest.mark.skipif(not shutil.which("mmdebstrap") or os.geteuid() != 0, reason="needs root and the command mmdebstrap")
def test_a_base_image_without_a_mirror_is_one_line(tmp_path: Path) -> None:
    """By the real mmdebstrap, of a mirror that is not there."""
    packages = trust.Packages("deb http://127.0.0.1:9/debian bookworm main\n", ['Acquire::Retries "0";'])
    with pytest.raises(
        UserError, match=r"^no base image: mmdebstrap fails: .*; put right this host's network"
    ) as raised:
        image._build(DEBIAN12, tmp_path, {}, packages)
    assert "\n" not in str(raised.value)


def test_a_filter_by_which_groups_do_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LXD_DIR", "/var/lib/lxd")
    host._check_filter("nftables")
    with pytest.raises(UserError, match=r"LXD filters with xtables, .*; allowed: nftables"):
        host._check_filter("xtables")
