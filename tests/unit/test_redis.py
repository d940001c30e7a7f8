"""Redis: what a stack with it has, and how the release tool changes a Redis that runs."""

import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.network import groups
from contract.codec import decode, encode
from contract.documents import Host, HostState
from contract.service_documents import Packages, Redis
from kinds.systems import SYSTEMS
from reference.samples import CLOUD
from serving import bootstrap, host_files, machines, make_plan, release_files
from settings.loader import parse
from tests.builders.program import Run, secret
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


ALONE = {"redis": {"own_server": True, "password": "hunter2-hunter2-hunter2"}}


@pytest.mark.parametrize("servers", [0, 2])
def test_a_server_of_its_own_lets_only_the_application_in(servers: int) -> None:
    redis = {"password": ALONE["redis"]["password"], "port": 6400, **({} if servers else {"own_server": True})}
    stack = parse({**CLOUD, "redis": redis, "topology": {"app_servers": servers}}, FILE)
    found = machines(stack)
    app, first = ("app", "front") if servers else ("", "")
    rules = groups(found, stack.access)
    assert [(rule.port, rule.source) for rule in rules["redis"]] == [(6400, app), (22, first)]
    assert all(rule.port != 6400 for name, of in rules.items() if name != "redis" for rule in of)
    plan = found[-1].plan
    assert (found[-1].name, plan.sites, plan.users) == ("redis", (), ())
    document = decode(Redis, host_files(plan)["host.json"])
    wanted = {"bind": "0.0.0.0", "maxmemory": "@@half_memory@@mb"}  # noqa: S104
    assert wanted.items() <= document.directives.items()
    text = bootstrap.user_data(plan, stack)
    assert f"disable --now -q {stack.system.redis_service}" in text
    assert stack.system.redis_packages[0] in text
    assert "hunter2" not in text + str(host_files(plan))
    # The application's servers have none beside them.
    beside = [machine.plan.host for machine in found if isinstance(machine.plan.host, Host)]
    assert [host.redis for host in beside] == [None] * len(beside)
    (site,) = stack.sites
    assert stack.env(site)["REDIS_URL"].get_secret_value() == "redis://:hunter2-hunter2-hunter2@redis:6400/0"


def test_it_is_ready_before_the_application_and_its_old_password_ends_last(run_program: Run) -> None:
    program = run_program({**CLOUD, "redis": ALONE["redis"], "topology": {"app_servers": 2}})
    assert " wsgi-ecs redis " in program.inputs("remote:Command", "redis-host-apply")["create"]
    for later in ("app-1-host-apply", "app-2-host-apply", "front-host-apply"):
        urns = program.request("remote:Command", later).dependencies
        assert [urn for urn in urns if urn.endswith("redis-host-apply")], later
    settled = program.request("remote:Command", "redis-settle").dependencies
    for before in ("app-1-site-app-apply", "app-2-site-app-apply", "front-site-app-apply"):
        assert [urn for urn in settled if urn.endswith(before)], before
    hosts = json.loads(secret(program.inputs("remote:Command", "app-2-host-apply")["stdin"]))["hosts"]
    assert set(hosts) == {"redis"}
    assert not [name for name in program.requests if "EcsDisk" in name], "it has no data disk"


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


def test_a_password_is_valid_until_all_have_the_next_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = directives(store)
    monkeypatch.setattr(redis_server, "run", lambda *_: "Redis server v=7.0.15 sha=00000000:0")
    value = redis_server.user(["next", "secret"], redis_server.version())
    assert value == "default on ~* &* +@all >next >secret"
    assert "&" not in redis_server.user(["next"], (6, 0)), "Redis 6.0 knows no channels"
    new = directives(store, requirepass="next", user=value)
    assert redis_server.change(old, new)
    assert store.asked[-1] == ["ACL", "SETUSER", "default", "resetpass", *value.split()[1:]]
    assert not [words for words in store.asked if words[:3] == ["CONFIG", "SET", "requirepass"]]
    assert redis_server.read(_text()) == new
    assert redis_server.passwords(new) == ["next", "secret"]
    store.password = "next"
    redis_server.drop_old_credentials(None, "next", print)
    assert store.asked[-1] == ["ACL", "SETUSER", "default", "resetpass", ">next"]
    assert redis_server.read(_text()) == directives(store, requirepass="next")


def test_it_goes_only_when_no_site_has_its_url(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, said = tmp_path / "unit", list[str]()
    unit.touch()
    monkeypatch.setattr(redis_server, "UNIT_FILE", str(unit))
    monkeypatch.setattr(redis_server, "run", lambda *_, **__: "")
    monkeypatch.setattr(redis_server.paths, "env_file", lambda name: str(tmp_path / name))
    monkeypatch.setattr(redis_server.files, "site_names", lambda: ["blog", "shop"])
    monkeypatch.setattr(redis_server.files, "host_state", lambda: HostState(written={str(unit): "digest"}))
    redis_server.write(directives(store))
    (tmp_path / "shop").write_text(json.dumps({"REDIS_URL": redis_server.url()}))
    # The sites' new environment comes with their releases, after what they share.
    assert redis_server.prepare(None, said.append) == []
    assert said == ["Redis goes when no site uses it any more"]
    redis_server.remove_unused(said.append)
    (tmp_path / "shop").write_text("{}")
    redis_server.remove_unused(said.append)
    assert unit.exists(), "the sites share it still"
    monkeypatch.setattr(redis_server.files, "host_state", lambda: HostState())
    redis_server.remove_unused(said.append)
    assert said[1:] == ["Redis is removed; its data stay in /var/lib/wsgi-ecs/redis"]
    assert not unit.exists()
    redis_server.remove_unused(said.append)
    assert len(said) == 2


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
