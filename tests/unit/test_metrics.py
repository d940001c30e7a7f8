"""The numbers of wsgi-ecs-status for Prometheus: their text, the answer to a request, the units, and who gets in."""

import socket
import threading
import time
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_fd_to_metric_families, text_string_to_metric_families

from components.network import groups
from contract import paths
from kinds.systems import SYSTEMS
from reference.samples import FILE
from serving import bootstrap, host_files, machines, make_plan
from settings.loader import parse
from tests.unit.machine import module
from tests.unit.machine.server import Server

metrics, metrics_text, status = (module(name) for name in ("metrics", "metrics_text", "status"))
UNITS = tuple(f"config/{paths.METRICS_UNIT}{end}" for end in (".socket", "@.service"))
ON: dict[str, Any] = {"metrics": {"port": 9464}}
OPEN = {**ON, "access": {"metrics": ["10.76.0.0/20", "192.168.7.0/24"]}}


def site(name: str, **known: Any) -> dict[str, Any]:
    """A site of which no more is known."""
    unknown = ("release", "rolled_back", "since", "maintenance", "workers", "requests", "certificate", "backup")
    return {"name": name, **dict.fromkeys(unknown), **known}


STATUS: dict[str, Any] = {
    "cpus": 2,
    "load": 0.25,
    "memory": {"size": 2 << 30, "free": 1 << 30},
    "disks": [
        {"name": "the server's disk", "path": "/srv/wsgi-ecs", "size": 40 << 30, "free": 5},
        {"name": "the data disk", "path": "/srv/data", "size": 20 << 30, "free": 0},
    ],
    "redis": False,
    "database": {"backup": 1795960000, "dumps": [{"time": 1795965000}, {"time": 1795960000}]},
    "sites": [
        site(
            "shop",
            release="0123456789ab",
            rolled_back="ba9876543210",
            since=1795980000,
            maintenance={"since": 1795980001, "by": "hand"},
            workers={"processes": 4, "busy": 0, "idle": None, "queue": 7, "memory": 5 << 20},
            requests={"seconds": 300, "number": 30, "rate": 0.1, "errors": 0.0333, "p95": None},
            certificate={"domain": "*.example.com", "ends": 1800000000},
            backup=1795970000,
        ),
        site("blog"),
    ],
    "edited": None,
}


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Name and values of the labels of each sample, as Prometheus' own client reads them."""
    families = list(text_string_to_metric_families(text))
    assert {(family.type, bool(family.documentation)) for family in families} == {("gauge", True)}
    assert len({family.name for family in families}) == len(families), "each family is one block"
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_every_known_number_is_a_line_and_no_other_is() -> None:
    found = samples(metrics_text.text(STATUS))
    assert found == {
        ("wsgi_ecs_cpus",): 2,
        ("wsgi_ecs_load1",): 0.25,
        ("wsgi_ecs_memory_size_bytes",): 2 << 30,
        ("wsgi_ecs_memory_free_bytes",): 1 << 30,
        ("wsgi_ecs_redis_up",): 0,
        ("wsgi_ecs_database_backup_timestamp_seconds",): 1795960000,
        ("wsgi_ecs_database_nightly_dump_timestamp_seconds",): 1795965000,
        ("wsgi_ecs_disk_size_bytes", "/srv/wsgi-ecs"): 40 << 30,
        ("wsgi_ecs_disk_size_bytes", "/srv/data"): 20 << 30,
        ("wsgi_ecs_disk_free_bytes", "/srv/wsgi-ecs"): 5,
        ("wsgi_ecs_disk_free_bytes", "/srv/data"): 0,
        ("wsgi_ecs_release_info", "shop", "0123456789ab"): 1,
        ("wsgi_ecs_release_timestamp_seconds", "shop"): 1795980000,
        ("wsgi_ecs_release_rolled_back", "shop"): 1,
        ("wsgi_ecs_maintenance", "shop"): 1,
        ("wsgi_ecs_maintenance", "blog"): 0,
        ("wsgi_ecs_processes", "shop"): 4,
        ("wsgi_ecs_workers_busy", "shop"): 0,
        ("wsgi_ecs_queue_connections", "shop"): 7,
        ("wsgi_ecs_application_memory_bytes", "shop"): 5 << 20,
        ("wsgi_ecs_requests_window_seconds", "shop"): 300,
        ("wsgi_ecs_requests_per_second", "shop"): 0.1,
        ("wsgi_ecs_request_errors_ratio", "shop"): 0.0333,
        ("wsgi_ecs_certificate_end_timestamp_seconds", "shop", "*.example.com"): 1800000000,
        ("wsgi_ecs_backup_timestamp_seconds", "shop"): 1795970000,
    }


def test_the_status_of_a_server_has_all_that_the_text_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", str(tmp_path))
    (tmp_path / "sites/shop").mkdir(parents=True)
    found = samples(metrics_text.text(status.of_machine(finds_edits=False)))
    assert found["wsgi_ecs_memory_size_bytes",] > found["wsgi_ecs_memory_free_bytes",] > 0
    assert found["wsgi_ecs_disk_size_bytes", str(tmp_path)] > 0
    assert found["wsgi_ecs_maintenance", "shop"] == 0


def test_no_text_ends_its_label() -> None:
    for text in ('"} 1', "\\", "\n", '\\"\n# HELP x', "{}", "网站"):
        found = samples(metrics_text.text({**STATUS, "sites": [site(text)]}))
        assert found["wsgi_ecs_maintenance", text] == 0


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The other end of a connection on which one request is answered."""
    monkeypatch.setattr(metrics, "_PATIENCE", 0.3)
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with theirs:
            metrics.answer(theirs, lambda: metrics_text.text(STATUS))

    thread = threading.Thread(target=answer)
    thread.start()
    ours.settimeout(5)
    yield ours
    ours.close()
    thread.join()


def test_a_scrape_is_answered(client: socket.socket) -> None:
    client.sendall(b"GET /metrics?collect=all HTTP/1.1\r\nHost: app-1")
    client.sendall(b":9464\r\nAccept: text/plain\r\n\r\n")
    with client.makefile(encoding="utf-8", newline="") as answer:
        assert answer.readline() == "HTTP/1.1 200 OK\r\n"
        headers = dict(line.rstrip().split(": ", 1) for line in iter(answer.readline, "\r\n"))
        assert len(list(text_fd_to_metric_families(answer))) == 22
    assert headers == {
        "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
        "Content-Length": str(len(metrics_text.text(STATUS).encode())),
        "Connection": "close",
    }


@pytest.mark.parametrize(
    ("request_", "status_line"),
    [
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 Method Not Allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"GET /metrics/../x HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"GET /metrics\r\n\r\n", "400 Bad Request"),
        (b"\x16\x03\x01\xff\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 8192, "400 Bad Request"),
    ],
    ids=["head", "post", "elsewhere", "dots", "without-a-version", "tls", "long"],
)
def test_any_other_request_gets_its_status(client: socket.socket, request_: bytes, status_line: str) -> None:
    client.sendall(request_)
    head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).decode().partition("\r\n\r\n")
    assert head.split("\r\n")[0] == f"HTTP/1.1 {status_line}"
    assert "wsgi_ecs_" not in body
    assert ("Allow: GET, HEAD" in head) == (status_line[:3] == "405")
    # The answer to HEAD has the length of the body that it lacks.
    assert bool(body) == (request_[:4] != b"HEAD")


def test_a_client_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_PATIENCE", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="timed out"):
        metrics.answer(theirs, lambda: "")


def test_a_client_that_drips_is_left_in_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_PATIENCE", 0.3)
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.05):
            try:
                ours.sendall(b"x")
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()
    try:
        with theirs, pytest.raises(OSError, match="timed out"):
            metrics.answer(theirs, lambda: "")
    finally:
        ended.set()
        thread.join()
        ours.close()
    assert time.monotonic() - began < 5


def test_what_goes_wrong_is_said_here_and_not_to_the_client(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> str:
        raise FileNotFoundError(2, "No such file or directory", "/srv/wsgi-ecs/sites/shop")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        metrics.answer(theirs, fails)
        answer = ours.recv(65536)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"/srv" not in answer
    assert "no metrics: [Errno 2] No such file or directory: '/srv/wsgi-ecs/sites/shop'" in capfd.readouterr().err


def unit(text: str) -> RawConfigParser:
    read = RawConfigParser(strict=True)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(text)
    return read


FLEET = {**OPEN, "topology": {"app_servers": 1}, "mysql": {"password": "x"}, "redis": {"password": "x" * 24}}


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_server_has_the_units_and_its_user_data_stay(system: str) -> None:
    config = {**FLEET, "server": {"os": system}}
    stack = parse(config, FILE)
    without = parse({key: value for key, value in config.items() if key not in ("metrics", "access")}, FILE)
    found = machines(stack)
    assert [machine.name for machine in found] == ["front", "app-1", "db", "redis"]
    for machine, before in zip(found, machines(without), strict=True):
        listens, service = (host_files(machine.plan)[name] for name in UNITS)
        folder = paths.ROOT if machine.plan.service else f"{paths.host_root()}/current"
        assert unit(listens)["Socket"]["ListenStream"] == "0.0.0.0:9464"
        assert unit(listens)["Socket"]["Accept"] == "yes"
        start = f"-/usr/bin/python3 -B {folder}/tool/release.py metrics"
        assert unit(service)["Service"]["ExecStart"] == start
        assert set(unit(service)["Service"]["CapabilityBoundingSet"].split()) == {
            "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE",
        }  # fmt: skip
        assert not set(UNITS) & set(host_files(before.plan))
        assert bootstrap.user_data(machine.plan, stack) == bootstrap.user_data(before.plan, without)
        assert bootstrap.version(machine.plan, stack) == bootstrap.version(before.plan, without)


def test_without_access_only_the_server_itself_reaches_it() -> None:
    stack = parse({**ON, "serving": {"front": "none"}, "uwsgi": {"http": "0.0.0.0:8080"}}, FILE)
    assert unit(host_files(make_plan(stack))[UNITS[0]])["Socket"]["ListenStream"] == "127.0.0.1:9464"
    assert not [rule for rule in groups(machines(stack), stack.access, stack.metrics.port)[""] if rule.port == 9464]


def test_every_group_lets_in_exactly_the_networks_that_are_named() -> None:
    stack = parse(FLEET, FILE)
    rules = groups(machines(stack), stack.access, stack.metrics.port)
    assert set(rules) == {"front", "app", "db", "redis"}
    for each in rules.values():
        assert {rule.source for rule in each if rule.port == 9464} == {"10.76.0.0/20", "192.168.7.0/24"}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server({"sites": {"shop": {}}})
    server.prepare()
    yield server
    server.close()


def asked(server: Server, verb: str) -> bool:
    return any(command.startswith(f"systemctl {verb}") and "metrics" in command for command in server.commands)


def test_the_units_come_and_go_with_the_setting(server: Server) -> None:
    units = server.root / "units"
    assert not asked(server, "")
    config = {**server.config, **ON}
    server.prepare(server.host(config))
    texts = {path.name: path.read_text() for path in units.glob("wsgi-ecs-metrics*")}
    assert set(texts) == {"wsgi-ecs-metrics.socket", "wsgi-ecs-metrics@.service"}
    assert asked(server, "enable")
    assert asked(server, "restart")
    written = set(module("files").document(dict, str(server.root / "srv/host/current/state.json"))["written"])
    assert {str(units / name) for name in texts} <= written, "an edit by hand is noticed"
    output = server.prepare(server.host(server.config, generation=2))
    assert "nothing answers with metrics any more" in output
    assert not [*units.glob("wsgi-ecs-metrics*")]
    assert asked(server, "stop")


def test_a_port_that_is_taken_leaves_what_listened(server: Server) -> None:
    socket_file = server.root / "units/wsgi-ecs-metrics.socket"
    server.refuses.add("restart")
    output = server.prepare(server.host({**server.config, **ON}), wanted=1)
    assert output.splitlines()[0].endswith("systemd does not start wsgi-ecs-metrics.socket, which answers with metrics")
    assert "Address already in use" in output
    assert output.splitlines()[-1].startswith("wsgi-ecs: next: set another metrics.port")
    assert not socket_file.exists()
    assert not asked(server, "enable"), "the next boot would look for it"
    server.refuses.clear()
    server.prepare(server.host({**server.config, **ON}))
    before = socket_file.read_text()
    server.refuses.add("restart")
    server.prepare(server.host({**server.config, "metrics": {"port": 9465}}), wanted=1)
    assert socket_file.read_text() == before
    server.refuses.clear()
    output = server.prepare(server.host({**server.config, "metrics": {"port": 9466}}))
    assert "edited by hand" not in output
