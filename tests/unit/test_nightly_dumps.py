"""The database machine's own command, as a release writes it: what it keeps, removes and notes."""

import gzip
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from contract import paths
from contract.documents import CONFIG_FOLDER
from kinds.databases import Mysql
from kinds.systems import SYSTEMS
from tests.unit.machine import module

commands, database, dumps = (module(name) for name in ("commands", "database", "dumps"))
OLD = [f"app-2026010{day}T033000Z.sql.gz" for day in (3, 2, 1)]


class Command:
    """The command with a folder in place of the data disk, and a mysqldump that has one row."""

    def __init__(self, folder: Path, kept: int) -> None:
        self.folder = folder
        (folder / "dumps").mkdir(exist_ok=True)
        text = Mysql(password=SecretStr("x"), dumps=kept).configs(SYSTEMS["debian12"])["wsgi-ecs-database"]
        text = text.replace(paths.DATA, str(folder)).replace("/run/", f"{folder}/")
        (folder / "command").write_text(text)
        for name in ("mariadb-dump", "mysqldump"):
            (folder / name).write_text("#!/bin/sh\necho 'INSERT 1;'\necho '-- Dump completed on 2026-01-04'\n")
            (folder / name).chmod(0o755)

    def __call__(self, *arguments: str) -> bytes:
        env = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", str(self.folder / "command"), *arguments], env=env, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def kept(self) -> list[str]:
        return sorted((file.name for file in (self.folder / "dumps").iterdir()), reverse=True)

    @property
    def backup(self) -> float | None:
        file = self.folder / "backup"
        return file.stat().st_mtime if file.exists() else None


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "dumps").mkdir()
    for days, name in enumerate(OLD):
        (tmp_path / "dumps" / name).write_bytes(gzip.compress(name.encode()))
        os.utime(tmp_path / "dumps" / name, (1_000_000_000 - days * 86400,) * 2)
    return tmp_path


def test_the_nightly_dump_takes_the_place_of_the_oldest(disk: Path) -> None:
    command = Command(disk, kept=2)
    assert command("nightly") == b""
    made, *others = command.kept
    assert others == OLD[:1]
    assert b"INSERT 1;" in gzip.decompress((disk / "dumps" / made).read_bytes())
    assert command.backup is None, "it has not left the machine"


def test_without_a_number_of_dumps_none_is_removed(disk: Path) -> None:
    command = Command(disk, kept=0)
    command("nightly")
    assert command.kept[1:] == OLD


def test_a_backup_is_as_old_as_the_newest_dump_that_has_left_the_machine(disk: Path) -> None:
    command = Command(disk, kept=7)
    for name, time in ((OLD[1], 999_913_600), ("latest", 1_000_000_000), (OLD[2], 1_000_000_000)):
        command("dump", name)
        assert command.backup == time
    command("dump")
    assert command.backup is not None
    assert command.backup > 1_700_000_000


class Sent:
    """A release without a timer."""

    files = (CONFIG_FOLDER + "wsgi-ecs-database",)

    def text(self, name: str) -> str:
        return ""


def test_the_timer_ends_before_anything_of_the_release_can_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(dumps.timers.drop_ins, "UNITS", str(tmp_path))
    monkeypatch.setattr(dumps.timers, "run", lambda *command, **_: ran.append(" ".join(command)))
    for name in (dumps.SERVICE, dumps.TIMER):
        (tmp_path / name).touch()

    def refuse(*_: object) -> None:
        raise commands.ReleaseError("no space left")

    monkeypatch.setattr(database, "decode", lambda *_: SimpleNamespace(system="debian12", datadir=""))
    monkeypatch.setattr(database.disk, "mount", lambda say: None)
    monkeypatch.setattr(database, "check_system", lambda system: None)
    monkeypatch.setattr(database, "initialise", refuse)
    with pytest.raises(commands.ReleaseError):
        database.prepare(Sent(), "x", print)
    assert list(tmp_path.iterdir()) == []
    assert ran[:2] == ["systemctl disable -q wsgi-ecs-dump.timer", "systemctl stop wsgi-ecs-dump.timer"]
