"""An LXD that does not answer as it should, played on a socket, and what it keeps of a stack that is damaged."""

import contextlib
import http.client as http_client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud import lxd
from rehearsal.cloud.store import ProjectStore, all_records, values_of
from rehearsal.engine.errors import UserError
from rehearsal.engine.state import Record, State, encode

KEY = "00" * 32
GOOD = json.loads(encode(Record("7", "urn", "type", "name", "id", {})))


@pytest.fixture(autouse=True)
def lxd_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LXD, and neither Incus nor the one of this host."""
    monkeypatch.delenv("INCUS_DIR", raising=False)
    monkeypatch.setenv("LXD_DIR", str(tmp_path))


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Makes each connection get the next answer, after some seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "unix.socket"))
        listening.listen()

        def serve(answers: tuple[bytes, ...], seconds: float) -> None:
            for answer in answers:
                connection = listening.accept()[0]
                with connection, contextlib.suppress(BrokenPipeError):
                    # The body comes on its own, and a client that still sends it would find the connection closed.
                    request = connection.makefile("rb")
                    request.readline()
                    request.read(int(http_client.parse_headers(request)["Content-Length"] or 0))
                    time.sleep(seconds)
                    connection.sendall(answer)

        def begin(*answers: bytes, seconds: float = 0) -> None:
            threading.Thread(target=serve, args=(answers, seconds), daemon=True).start()

        yield begin


def http(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize("answer", [http("<html>"), http("[1]"), http(""), b"220 smtp ready\r\n", http("{}")[:-1]])
def test_a_socket_that_does_not_speak_as_lxd_does_is_one_line(answering: Callable[..., None], answer: bytes) -> None:
    for ask in (lambda: lxd.Lxd().get("/1.0"), lambda: lxd.Lxd().write("one", "/etc/motd", "")):
        answering(answer)
        with pytest.raises(lxd.LxdError, match=r"unix\.socket: what answers is not LXD, or is broken; .*again$"):
            ask()
    answering(answer)
    assert not lxd.reachable()


def test_a_daemon_that_hangs_is_not_waited_for(answering: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lxd, "_PATIENCE", 0.2)
    answering(http("{}"), seconds=60)
    with pytest.raises(lxd.LxdError, match=r"^LXD does not answer on .*unix\.socket: timed out$"):
        lxd.Lxd().get("/1.0")


def test_an_operation_is_awaited_however_long_it_takes(
    answering: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lxd, "_PATIENCE", 0.2)
    begun = {"type": "async", "operation": "/1.0/operations/1"}
    ended = {"type": "sync", "metadata": {"status_code": 200}}
    answering(http(json.dumps(begun)), http(json.dumps(ended)), seconds=0.5)
    assert lxd.Lxd().post("/1.0/instances", {}) == ended["metadata"]


def test_the_output_of_a_command_is_what_lxd_has_recorded(answering: Callable[..., None]) -> None:
    begun, nothing = http(json.dumps({"type": "async", "operation": "/1.0/operations/1"})), http("{}")

    def ended(**metadata: Any) -> bytes:
        return http(json.dumps({"type": "sync", "metadata": metadata}))

    def recorded(code: int) -> bytes:
        return ended(status_code=200, metadata={"return": code, "output": {"1": "/1.0/out", "2": "/1.0/err"}})

    answering(begun, recorded(0), http("{"), nothing, http("why"), nothing)
    assert lxd.Lxd().exec("one", ["cat"]) == "{"
    for answers, said in (
        ((recorded(3), http(""), nothing, http("why"), nothing), "one: cat exited 3: why"),
        ((ended(status_code=103),), "one: cat took more than 30 s"),
        ((ended(status_code=400, err="Command not found"),), "one: cat Command not found"),
    ):
        answering(begun, *answers)
        with pytest.raises(lxd.LxdError, match=said):
            lxd.Lxd().exec("one", ["cat"])


def test_a_network_of_others_that_goes_away_meanwhile_is_no_answer(answering: Callable[..., None]) -> None:
    raced = {"type": "error", "error_code": 404, "error": "Failed getting ACL usage: Network not found"}
    there = {"type": "sync", "metadata": {"name": "mine"}}
    answering(http(json.dumps(raced)), http(json.dumps(raced)), http(json.dumps(there)))
    assert lxd.Lxd().find("/1.0/network-acls/mine") == {"name": "mine"}


@pytest.mark.parametrize(
    ("serial", "text"),
    [
        ("7", "{"),
        ("7", "[]"),
        ("7", "null"),
        ("7", "[" * 100_000),
        ("7", json.dumps({key: value for key, value in GOOD.items() if key != "urn"})),
        *(
            ("7", json.dumps({**GOOD, key: value}))
            for key, value in {"serial": "x", "facts": [], "inputs": "a", "status": "lost", "dependencies": 1}.items()
        ),
        ("8", json.dumps(GOOD)),
        ("x", json.dumps({**GOOD, "serial": "x"})),
    ],
)
def test_a_damaged_record_is_one_line_that_says_what_to_do(serial: str, text: str) -> None:
    config = {"user.key": KEY, f"user.resource.{serial}": text}
    with pytest.raises(UserError) as raised:
        State(ProjectStore("dev"), values_of(config))
    assert str(raised.value) == (
        f"LXD's project wsgi-ecs-dev: user.resource.{serial}: damaged; "
        f"run lxc project unset wsgi-ecs-dev user.resource.{serial}, then ./rehearse destroy --stack dev"
    )
    # Another stack that looks for a free address goes on.
    good = {"user.key": KEY, "user.resource.7": json.dumps(GOOD)}
    assert [record.serial for record in all_records({"dev": config, "other": good})] == ["7"]


@pytest.mark.parametrize("text", ["{", "[]", "null"])
def test_damaged_outputs_are_one_line_where_they_are_asked_for(text: str) -> None:
    state = State(ProjectStore("dev"), {"key": KEY, "outputs": text})
    with pytest.raises(UserError, match=r"^LXD's project wsgi-ecs-dev: user\.outputs: damaged; .*--stack dev$"):
        _ = state.outputs


def test_a_damaged_key_is_one_line_where_it_is_asked_for() -> None:
    state = State(ProjectStore("dev"), {"key": "no hex"})
    with pytest.raises(UserError, match=r"^LXD's project wsgi-ecs-dev: user\.key: damaged; .*--stack dev$"):
        _ = state.key


def test_records_of_all_stacks_are_found() -> None:
    record = Record("1", "urn", "type", "name", "id", {}, facts={"address": "198.18.0.1"})
    config = {"user.key": KEY, "user.resource.1": encode(record)}
    assert all_records({"one": config, "two": {"features.images": "false"}}) == [record]


def test_a_project_keeps_its_features_and_its_keys(
    answering: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the version before has written is read, and written again under the same keys."""
    config = {"user.key": KEY, "user.folder": "/old", "user.resource.7": json.dumps(GOOD), "features.images": "false"}
    sent: list[Any] = []
    monkeypatch.setattr(lxd.Lxd, "put", lambda self, path, body: sent.append((path, body)))
    answering(http(json.dumps({"type": "sync", "metadata": {"config": config}})))
    state = State.load(ProjectStore("dev"))
    assert [record.serial for record in state.records()] == ["7"]
    state.ensure("/new")
    description = "Rehearsal of stack dev"
    body = {"description": description, "config": {**config, "user.folder": "/new"}}
    assert sent == [("/1.0/projects/wsgi-ecs-dev", body)]
