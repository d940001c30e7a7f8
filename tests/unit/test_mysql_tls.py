"""What MariaDB has loaded is what is on its disk, and its TLS ends after the applications have stopped verifying it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from contract.service_documents import Database
from tests.unit.machine import module

database, database_tls = module("database"), module("database_tls")
PLAIN = "# Written by wsgi-ecs.\n[mysqld]\nport = 3306\n"
TLS = PLAIN + "ssl_cert = /srv/data/tls/mysql.crt\nssl_key = /srv/data/tls/mysql.key\n"


class Killed(BaseException):
    pass


class Server:
    """A database's machine on which a release is applied. restarts: what MariaDB has loaded at each restart."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.folder = folder / "my.cnf", folder
        self.restarts: list[str] = []
        self.at_restart: Callable[[], None] = lambda: None
        self.tls = "offered"
        (folder / "tls").mkdir()
        for name, value in {
            "DROP_IN": str(folder / "units/wsgi-ecs.conf"),
            "LOG": str(folder / "log"),
            "_ACCOUNT": str(folder / "account.json"),
            "run": self.run,
            "sql": lambda *_: "10.11.6-MariaDB",
            "decode": lambda *_: self.document,
            "check_system": lambda name: None,
            "initialise": lambda *_: None,
            "apply_schema": lambda *_: None,
        }.items():
            monkeypatch.setattr(database, name, value)
        monkeypatch.setattr(database.disk, "mount", lambda say: None)
        monkeypatch.setattr(database.dumps, "end_unwanted", lambda unpacked: None)
        monkeypatch.setattr(database.dumps, "place", lambda unpacked: [])
        monkeypatch.setattr(database.paths, "DATABASE_COMMAND", str(folder / "command"))
        monkeypatch.setattr(database_tls, "FOLDER", str(folder / "tls"))
        monkeypatch.setattr(database_tls, "prepare", lambda: None)
        monkeypatch.setattr(database_tls, "tell", lambda say: None)
        self.certificate("one")

    @property
    def document(self) -> Database:
        return Database(
            "debian12", str(self.folder), str(self.config), "app", "app", "10.0.0.0/255.0.0.0", [], "t", "", 20, 0,
            tls=self.tls,
        )  # fmt: skip

    def run(self, *command: str, **_: object) -> str:
        if command[1] == "restart":
            self.at_restart()
            self.restarts.append(self.config.read_text())
        return "active\n"

    def certificate(self, text: str) -> None:
        (self.folder / "tls/mysql.crt").write_text(text)

    def _release(self) -> SimpleNamespace:
        return SimpleNamespace(
            files=(), text=lambda name: (PLAIN if self.tls == "none" else TLS) if name.endswith(".cnf") else ""
        )

    def prepare(self) -> int:
        """Returns how often MariaDB has started."""
        self.restarts.clear()
        database.prepare(self._release(), "x", print)
        return len(self.restarts)

    def settle(self) -> int:
        self.restarts.clear()
        database.drop_old_credentials(self._release(), "x", print)
        return len(self.restarts)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(tmp_path, monkeypatch)


def test_another_certificate_is_loaded(server: Server) -> None:
    assert [server.prepare(), server.prepare(), server.settle()] == [1, 0, 0]
    server.certificate("another")
    assert [server.prepare(), server.prepare()] == [1, 0]


def test_a_run_that_is_killed_before_the_restart_is_made_up_for(server: Server) -> None:
    def kill() -> None:
        raise Killed

    server.prepare()
    whole = server.config.read_text()
    server.certificate("another")
    with pytest.MonkeyPatch.context() as patch:
        # A killed run rolls nothing back.
        patch.setattr(database, "roll_back", lambda error, act: None)
        server.at_restart = kill
        with pytest.raises(Killed):
            server.prepare()
    server.at_restart = lambda: None
    assert [server.prepare(), server.prepare()] == [1, 0]
    assert len(server.config.read_text()) == len(whole)


def test_tls_ends_when_all_applications_have_their_release(server: Server) -> None:
    server.prepare()
    server.tls = "none"
    assert server.prepare() == 0, "what runs until its next release verifies the server"
    assert "ssl_cert = " in server.config.read_text()
    assert [server.settle(), server.config.read_text()] == [1, PLAIN]
    assert [server.prepare(), server.settle()] == [0, 0]


def test_lines_about_a_certificate_that_is_gone_are_not_kept(server: Server) -> None:
    server.prepare()
    server.tls = "none"
    (server.folder / "tls/mysql.crt").unlink()
    assert [server.prepare(), server.config.read_text()] == [1, PLAIN]
