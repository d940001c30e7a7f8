"""Redis: what a stack with it has, and how the release tool changes a Redis that runs."""

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.codec import decode, encode
from contract.documents import Host, Packages
from kinds.systems import SYSTEMS
from serving import bootstrap, host_files, make_plan, release_files
from settings.loader import parse
from tests.unit.machine import module

commands, facts, redis_server = (module(name) for name in ("commands", "facts", "redis_server"))
FILE = "stacks/Pulumi.dev.yaml"


def host_of(**redis: Any) -> Any:
    host = make_plan(parse({"redis": redis, "server": {"os": "debian12"}}, FILE)).host
    assert isinstance(host, Host)
    return host


def test_an_empty_section_is_a_redis_for_jobs() -> None:
    found = decode(Host, encode(host_of())).redis
    assert found is not None
    wanted: dict[str, str] = {
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
        "port": "6379",
    }
    assert wanted.items() <= found.directives.items()
    assert found.packages == Packages("debian12", "apt-get", [], ["redis-server"])
    assert make_plan(parse({}, FILE)).host.redis is None  # type: ignore[union-attr]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_server_is_not_replaced_by_it_and_its_user_data_stay(system: str) -> None:
    before, after = parse({"server": {"os": system}}, FILE), parse({"server": {"os": system}, "redis": {}}, FILE)
    old, new = make_plan(before), make_plan(after)
    assert bootstrap.version(old, before) == bootstrap.version(new, after)
    assert bootstrap.user_data(old, before) == bootstrap.user_data(new, after)
    assert host_files(old) != host_files(new)


def test_another_port_is_a_release_of_each_site() -> None:
    plans = [
        make_plan(parse({"redis": {"port": port}, "sites": {"a": {}, "b": {"site": {"location": "/b/"}}}}, FILE))
        for port in (6379, 6380)
    ]
    for old, new in zip(*(plan.sites for plan in plans), strict=True):
        assert release_files(old)["release.json"] != release_files(new)["release.json"]


class Store:
    """A Redis of a test: it keeps its directives, and what it was asked."""

    def __init__(self) -> None:
        self.password, self.asked, self.rewrites = "secret", list[list[str]](), ["1", "0"]
        self.status, self.foreign = "ok", ""
        store = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline():
                    words = []
                    for _ in range(int(line[1:])):
                        words.append(self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2].decode())
                    self.wfile.write(store.answer(words).encode())

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = str(self.server.server_address[1])

    def answer(self, words: list[str]) -> str:
        if self.foreign:
            return self.foreign
        if words[0] == "AUTH":
            return "+OK\r\n" if words[1] == self.password else "-WRONGPASS secret\r\n"
        self.asked.append(words)
        if words[0] == "INFO":
            rewrite = self.rewrites.pop(0) if len(self.rewrites) > 1 else self.rewrites[0]
            text = f"aof_rewrite_in_progress:{rewrite}\r\naof_rewrite_scheduled:0\r\n"
            text += f"aof_last_bgrewrite_status:{self.status}\r\n"
            return f"${len(text)}\r\n{text}\r\n"
        return "+PONG\r\n" if words[0] == "PING" else "+OK\r\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(redis_server.paths, "REDIS_CONFIG", str(tmp_path / "redis.conf"))
    monkeypatch.setattr(redis_server, "USER", "root")
    made = Store()
    yield made
    made.server.shutdown()
    made.server.server_close()


def directives(store: Store, **changed: str) -> dict[str, str]:
    found = {"port": store.port, "requirepass": "secret", "appendonly": "no", "save": "60 1", "maxmemory": "64mb"}
    return {**found, **changed}


def test_a_configuration_reads_back_as_it_was_written(store: Store) -> None:
    wanted = directives(store, save="")
    redis_server.write(wanted)
    text = Path(redis_server.paths.REDIS_CONFIG).read_text()
    assert 'save ""\n' in text
    assert redis_server.read(text) == wanted
    assert redis_server.url() == f"redis://:secret@127.0.0.1:{store.port}/0"


def test_data_are_in_their_new_form_before_the_configuration_says_so(store: Store) -> None:
    old, new = directives(store), directives(store, appendonly="yes", save="")
    assert redis_server.change(old, new)
    sets = [words for words in store.asked if words[0] != "PING"]
    assert sets == [
        ["CONFIG", "SET", "save", ""],
        ["CONFIG", "SET", "appendonly", "yes"],
        ["INFO", "persistence"],
        ["INFO", "persistence"],
    ]
    store.asked.clear()
    assert redis_server.change(new, old)
    assert [words[-1] for words in store.asked] == ["PING", "60 1", "SAVE", "no"]


def test_data_that_were_not_written_refuse_the_release(store: Store) -> None:
    store.status = "err"
    with pytest.raises(commands.ReleaseError, match="did not write its data"):
        redis_server.change(directives(store), directives(store, appendonly="yes"))
    assert not Path(redis_server.paths.REDIS_CONFIG).exists()


def test_only_what_it_can_change_while_it_runs_is_changed_so(store: Store) -> None:
    old = directives(store)
    assert redis_server.change(old, directives(store, maxmemory="128mb"))
    assert not redis_server.change(old, directives(store, port="1"))
    assert not redis_server.change({**old, "port": "1"}, {**old, "port": "1", "maxmemory": "1mb"}), "nobody listens"
    assert not redis_server.change({**old, "requirepass": "old"}, {**old, "maxmemory": "1mb"}), "another password"


def test_a_refusal_does_not_repeat_the_password(store: Store) -> None:
    with pytest.raises(commands.ReleaseError) as error:
        redis_server.Client(directives(store, requirepass="hunter2"))
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("answer", ["<!DOCTYPE HTML>\r\n", "-WRONGPASS another's\r\n"])
def test_another_program_on_its_port_is_not_taken_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(redis_server.time, "sleep", lambda _: None)
    store.foreign = answer
    with pytest.raises(commands.ReleaseError, match="Redis does not answer"):
        redis_server.wait_for(directives(store))


@pytest.mark.parametrize(
    ("present", "wanted", "first"),
    [
        ((), "yes", "yes"),
        (("dump.rdb",), "yes", "no"),
        (("appendonlydir",), "no", "yes"),
        (("appendonly.aof",), "yes", "yes"),
        (("dump.rdb",), "no", "no"),
        (("dump.rdb", "appendonlydir"), "yes", "yes"),
    ],
)
def test_it_starts_with_the_form_of_the_data_that_is_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], wanted: str, first: str
) -> None:
    started: list[str] = []

    def run(*command: str) -> str:
        started.append(redis_server.read(_text())["appendonly"])
        return ""

    monkeypatch.setattr(redis_server, "run", run)
    for name in present:
        (tmp_path / name).touch()
    redis_server.start(directives(store, dir=str(tmp_path), appendonly=wanted))
    assert started == [first]
    assert redis_server.read(_text())["appendonly"] == wanted
    assert (["CONFIG", "SET", "appendonly", wanted] in store.asked) == (first != wanted)


def _text() -> str:
    return Path(redis_server.paths.REDIS_CONFIG).read_text()
