"""What an application sees of a request is the same under every app server, over unix sockets and TCP."""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.stack import Stack, new_stack, until

GUNICORN, GRANIAN = ({"app_server": name} for name in ("gunicorn", "granian"))
GTHREAD = {"worker_class": "gthread", "threads": 4, "workers": 1, "bind": "127.0.0.1:8100"}
SITES: dict[str, dict[str, Any]] = {
    "uwsgi": {"uwsgi": {"lazy_apps": True, "enable_threads": True}},
    "uwsgi-tcp": {"uwsgi": {"socket": "127.0.0.1:8090"}, "app": {"callable": "application"}},
    "uwsgi-http": {"uwsgi": {"http_socket": "unix"}},
    "uwsgi-file": {"uwsgi": {"http_socket": "unix"}, "app": {"wsgi_file": "seen.wsgi", "callable": "application"}},
    "gunicorn": {"serving": GUNICORN, "gunicorn": {"workers": 2}},
    "gunicorn-tcp": {"serving": GUNICORN, "gunicorn": GTHREAD, "nginx": {"websocket": ["/ws/"]}},
    "granian": {"serving": GRANIAN},
    "granian-tcp": {"serving": GRANIAN, "granian": {"bind": "127.0.0.1:8110"}},
    "granian-asgi": {"serving": GRANIAN, "granian": {"interface": "asgi"}, "app": {"callable": "asgi"}},
}
# Answers to a client that claims to be a proxy.
CLAIMS = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "shop.example.org",
    "X-Forwarded-Ssl": "on",
    "X-Real-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9;proto=https",
    "Proxy": "http://203.0.113.9:3128",
}
EVIL = "evil.test"
# What a client writes: its request's target, and its Host → the status, and the port in the Host that is passed on.
ASKED: tuple[tuple[str, str, int, str], ...] = (
    ("/", "{host}", 200, ""),
    ("/", "{host}:8000", 200, ":8000"),
    ("/", "{HOST}.", 200, ""),
    ("/", "{host}:", 200, ""),
    # RFC 9112, 3.2.2: a server ignores Host where the target has the name.
    ("http://{host}/", EVIL, 200, ""),
    ("http://{host}:8000/", f"{EVIL}:9", 200, ":8000"),
    (f"http://{EVIL}/", "{host}", 404, ""),
    ("http://evil@{host}/", "{host}", 400, ""),
    ("/", f"{{host}}:80@{EVIL}", 400, ""),
    ("/", f"{{host}}:{EVIL}", 400, ""),
    ("/", "{host}:80:90", 400, ""),
    ("/", '{host}:80"<b>', 400, ""),
    ("/", f"{{host}}\r\nHost: {EVIL}", 400, ""),
    ("/", EVIL, 404, ""),
    ("/", "[::1]:80", 404, ""),
)
each = pytest.mark.parametrize("name", SITES)


class Seen:
    """A stack of a site for each way, whose proxies are trusted or not."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.trust([])

    def trust(self, networks: list[str]) -> None:
        nginx = {"large_client_header_buffers": "4 16k", "set_real_ip_from": networks}
        app = {"source": "seen", "callable": "create_app()", "pythonpath": ["src"], "health": "/"}
        self.stack.settings = {
            "app": {**app, "timezone": "Asia/Shanghai"},
            "nginx": nginx,
            "sites": {name: self._site(name) for name in SITES},
        }
        self.address = self.stack.up().output("address")

    def _site(self, name: str) -> dict[str, Any]:
        own = SITES[name]
        app = own.get("app", {})
        module = {} if "wsgi_file" in app else {"module": "seen"}
        return {"site": {"server_name": f"{name}.example.com"}, **own, "app": {**module, **app}}

    def get(self, name: str, path: str = "/", **headers: str) -> httpx.Response:
        given = {"Host": f"{name}.example.com", **headers}
        return httpx.get(f"http://{self.address}{path}", headers=given, trust_env=False, timeout=30)

    def raw(self, data: str) -> tuple[int, dict[str, Any]]:
        """Status and environ that bytes get which no client library sends; {} from nginx itself."""
        with socket.create_connection((self.address, 80), timeout=30) as client:
            client.sendall(data.encode())
            answer = http.client.HTTPResponse(client)
            answer.begin()
            body = answer.read()
        return answer.status, json.loads(body) if answer.getheader("Content-Type") == "application/json" else {}

    def environ(self, name: str, **headers: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(name, **headers).json()
        return found


@pytest.fixture(scope="module")
def seen(project_copy: Path) -> Iterator[Seen]:
    stack = new_stack(project_copy, "sees")
    shutil.copytree(Path(__file__).parent / "sees", stack.folder / "seen")
    try:
        yield Seen(stack)
    finally:
        stack.run("destroy")


@each
def test_a_client_is_who_it_is_and_no_header_makes_it_another(seen: Seen, name: str) -> None:
    plain, claimed = seen.environ(name), seen.environ(name, **CLAIMS)
    client, host = plain["REMOTE_ADDR"], f"{name}.example.com"
    assert client.count(".") == 3 and not client.startswith(("0.", "127."))
    for found in (plain, claimed):
        assert {found[key] for key in ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP")} == {client}
        assert {found[key] for key in ("HTTP_HOST", "SERVER_NAME", "HTTP_X_FORWARDED_HOST")} == {host}
        assert {found[key] for key in ("SERVER_PORT", "HTTP_X_FORWARDED_PORT")} == {"80"}
        assert {found[key] for key in ("wsgi.url_scheme", "HTTP_X_FORWARDED_PROTO")} == {"http"}
        assert not {"HTTPS", "HTTP_FORWARDED", "HTTP_X_FORWARDED_SSL", "HTTP_PROXY"} & set(found)


@each
def test_the_host_is_the_name_that_nginx_has_found_with_its_port(seen: Seen, name: str) -> None:
    host = f"{name}.example.com"
    for target, header, status, port in ASKED:
        target, header = (text.format(host=host, HOST=host.upper()) for text in (target, header))
        got, found = seen.raw(f"GET {target} HTTP/1.1\r\nHost: {header}\r\nConnection: close\r\n\r\n")
        assert got == status, (target, header)
        if status == 200:
            assert (found["SERVER_NAME"], found["HTTP_HOST"]) == (host, host + port), (target, header)
            assert found["HTTP_X_FORWARDED_HOST"] == host + port, (target, header)
        else:
            assert found == {}, (target, header)
    assert seen.raw("GET / HTTP/1.0\r\n\r\n") == (404, {})


@each
def test_as_many_headers_as_nginx_accepts_reach_the_application(seen: Seen, name: str) -> None:
    statuses = []
    for count in (90, 91, 99, 110, 200, 2000):
        # Two more lines are Host and Connection.
        headers = "".join(f"A{number}: v\r\n" for number in range(count - 2))
        status, found = seen.raw(f"GET / HTTP/1.1\r\nHost: {name}.example.com\r\nConnection: close\r\n{headers}\r\n")
        statuses.append(status)
        if status == 200:
            assert len([key for key in found if key.startswith("HTTP_A") and key[6:].isdigit()]) == count - 2
    assert statuses == [200, 400, 400, 400, 400, 400]


@each
def test_the_application_is_what_its_settings_say(seen: Seen, name: str) -> None:
    found = seen.environ(name)
    assert found["name"] == "beside"
    assert found["zone"] == "CST"
    if not name.startswith("uwsgi-"):
        until(lambda: seen.environ(name)["ticks"] > 10)


@each
def test_headers_that_nginx_accepts_reach_the_application(seen: Seen, name: str) -> None:
    many = {"Cookie": "c" * 14000, "X-A": "a" * 14000, "X-B": "b" * 14000}
    assert seen.get(name, **many).status_code == 200
    assert seen.get(name, f"/?{'q' * 14000}").status_code == 200
    assert seen.get(name, **{"X-A": "a" * 17000}).status_code == 400


@each
def test_an_answer_arrives_though_the_application_leaves_the_body_unread(seen: Seen, name: str) -> None:
    def post(_: int) -> int:
        url, headers = f"http://{seen.address}/", {"Host": f"{name}.example.com"}
        return httpx.post(url, headers=headers, content=b"x" * 300_000, trust_env=False, timeout=30).status_code

    with ThreadPoolExecutor(8) as several:
        assert set(several.map(post, range(80))) == {200}


@each
def test_what_it_prints_is_in_its_log_at_once(seen: Seen, name: str) -> None:
    assert seen.get(name, f"/print?{name}").status_code == 200
    until(lambda: f"printed for {name}\n" in seen.stack.shell(f"cat /var/log/wsgi-ecs/{name}/[ab].log") + "\n", 10)


@each
def test_events_arrive_one_by_one(seen: Seen, name: str) -> None:
    connection = http.client.HTTPConnection(seen.address, timeout=30)
    connection.request("GET", "/events", headers={"Host": f"{name}.example.com"})
    answer, times = connection.getresponse(), []
    while answer.read1(100):
        times.append(time.monotonic())
    assert times[-1] - times[0] > 1


def test_a_websocket_talks(seen: Seen) -> None:
    with socket.create_connection((seen.address, 80), timeout=30) as client:
        client.sendall(
            b"GET /ws/echo HTTP/1.1\r\nHost: gunicorn-tcp.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        data = client.recv(4096)
        assert data.startswith(b"HTTP/1.1 101 ")
        # A frame of text, masked with zeros.
        client.sendall(b"\x81\x85\0\0\0\0world")
        while b"hello world" not in data:
            part = client.recv(4096)
            assert part
            data += part


def test_a_trusted_proxy_is_believed(seen: Seen) -> None:
    client = seen.environ("uwsgi")["REMOTE_ADDR"]
    seen.trust([f"{client}/32"])
    for name in SITES:
        found = seen.environ(name, **CLAIMS)
        assert {found[key] for key in ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP")} == {"203.0.113.9"}
        hosts = {found[key] for key in ("HTTP_HOST", "SERVER_NAME", "HTTP_X_FORWARDED_HOST")}
        assert hosts == {"shop.example.org"}
        assert {found[key] for key in ("SERVER_PORT", "HTTP_X_FORWARDED_PORT")} == {"443"}
        assert (found["wsgi.url_scheme"], found["HTTPS"]) == ("https", "on")
        assert not {"HTTP_FORWARDED", "HTTP_X_FORWARDED_SSL", "HTTP_PROXY"} & set(found)
        # A proxy that sends no X-Forwarded-Host is like any client.
        line = f"GET http://{name}.example.com:8000/ HTTP/1.1\r\nHost: {EVIL}\r\nConnection: close\r\n\r\n"
        _, plain = seen.raw(line)
        assert (plain["HTTP_HOST"], plain["SERVER_NAME"]) == (f"{name}.example.com:8000", f"{name}.example.com")
        own = seen.environ(name, **{"X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443"})
        assert (own["SERVER_PORT"], own["SERVER_NAME"]) == ("8443", f"{name}.example.com")
        assert seen.environ(name, **{"X-Forwarded-Host": "a b;c"})["HTTP_HOST"] == f"{name}.example.com"
