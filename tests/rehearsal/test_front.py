"""What nginx does for a site, asked with real clients: each promise with both protocols, on one machine."""

import base64
import contextlib
import gzip
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.stack import Stack, new_stack

KINDS = ("uwsgi", "http")
# sesame, as `openssl passwd -6` and `openssl passwd -apr1` print it; mellon.
SHA512 = "$6$saltsalt$g3uPFdehVnKoLXdidvSAg1zlVgYomPr0X/xgdXSBn2LuxZUOGgYW4IULZkguZ77fzYteIur49AGHmF9iek6Sf1"
APR1 = "$apr1$saltsalt$1wcO0UXrrrYuRqru5simD1"
MELLON = "$6$saltsalt$piTedxhN/2pKSWXijaNb4dYGCxQbrK7ZUOKv/GqIkDxLPVcgSZgQI7PtHqnXPyrFH9wjMpK0iYTUDptfxvYit1"
# This host is a proxy here: what it says in X-Forwarded-For is believed.
PROXY = {"set_real_ip_from": "10.76.0.0/16"}
OFFICE, BANNED, WORLD, LOOPBACK = (
    {"X-Forwarded-For": address} for address in ("203.0.113.9", "203.0.113.7", "198.51.100.1", "127.0.0.1")
)

ADA, BOB, WRONG = ("ada", "sesame"), ("bob", "sesame"), ("ada", "open")
AUTHORIZATION = f"Authorization: Basic {base64.b64encode(b'ada:sesame').decode()}"

SERVERS: dict[str, dict[str, Any]] = {
    "uwsgi": {"uwsgi": {"processes": 1, "threads": 4}},
    "http": {
        "serving": {"app_server": "gunicorn"},
        "gunicorn": {"workers": 1, "worker_class": "gthread", "threads": 4},
    },
}
# So long that nginx's own hash of names would not take it.
DOMAIN = "of-a-load-balancer-with-a-long-name.test"
FRONTS: dict[str, dict[str, Any]] = {
    "open": {
        "client_max_body_size": "1k",
        "send_timeout": 2,
        "error_page": {404: "errors/none.html", 502: "errors/down.html", 503: "errors/down.html"},
        "intercept_errors": True,
        "maintenance": {"page": "errors/closed.html", "retry_after": 60},
    },
    "cached": {"cache": {"valid": 5, "bypass_cookies": ["session"], "bypass_header": "X-Fresh"}},
    "closed": {
        **PROXY,
        "auth_basic": "Staff only",
        "auth_basic_users": {"ada": SHA512, "bob": APR1},
        "allow": ["203.0.113.0/24"],
        "deny": ["203.0.113.7/32"],
        "limit_req": {"rate": "1000r/s", "burst": 0},
        "gzip_types": [],
        "maintenance": {"allow": ["203.0.113.9/32"]},
    },
    "limited": {
        **PROXY,
        "auth_basic": "Staff",
        "auth_basic_users": {"ada": SHA512},
        "access_log_format": "json",
        "limit_req": {"rate": "1r/s", "burst": 3},
        "limit_conn": 2,
        "methods": ["GET", "POST"],
        "buffering": False,
        "request_buffering": False,
        "client_body_timeout": 2,
        "static_expires": "365d",
        "static_immutable": True,
        "add_header": {"x-frame-options": None, "Content-Security-Policy": "default-src 'self'; img-src *"},
        "extra": "location = /extra {\n    return 200 'as it is';\n}",
    },
}


@dataclass
class Front:
    """The stack that is up. clients: an address for each that must not be limited by another's requests."""

    stack: Stack
    address: str = ""
    clients: Iterator[int] = field(default_factory=lambda: iter(range(256, 65536)))

    def ask(self, site: str, path: str = "/", method: str = "GET", **options: Any) -> httpx.Response:
        headers = {"Host": f"{site}.{DOMAIN}", "Accept-Encoding": "identity", **options.pop("headers", {})}
        if site.startswith("limited"):
            headers.setdefault("X-Forwarded-For", self.client())
            options["auth"] = options.get("auth") or ADA
        options = {"timeout": 20, **options}
        return httpx.request(method, f"http://{self.address}{path}", headers=headers, trust_env=False, **options)

    def client(self) -> str:
        """The address of a client that was not here before."""
        number = next(self.clients)
        return f"198.18.{number // 256}.{number % 256}"

    @contextlib.contextmanager
    def connected(self, site: str, head: str) -> Iterator[socket.socket]:
        """A connection on which the beginning of a request was sent."""
        with socket.create_connection((self.address, 80), timeout=20) as client:
            client.sendall(
                f"{head}\r\nHost: {site}.{DOMAIN}\r\nX-Forwarded-For: {self.client()}\r\n{AUTHORIZATION}\r\n".encode()
            )
            yield client

    def inside(self, site: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and body of a request that the machine sends to itself."""
        script = (
            "import sys, urllib.error, urllib.request as r\n"
            f"q = r.Request('http://127.0.0.1{path}', headers={{'Host': '{site}.{DOMAIN}', **{headers or {}!r}}})\n"
            "try: a = r.urlopen(q)\n"
            "except urllib.error.HTTPError as error: a = error\n"
            "print(a.getcode(), a.read().decode())\n"
        )
        status, _, body = self.stack.shell(f'python3 -c "{script}"').partition(" ")
        return int(status), body


@pytest.fixture(scope="module")
def front(project_copy: Path) -> Iterator[Front]:
    stack = new_stack(project_copy, "front")
    application = stack.folder / "tests/rehearsal/front"
    static = application / "static"
    static.mkdir()
    (static / "small.txt").write_text("a few words")
    (application / "errors/closed.html").write_text("<h1>Closed until noon</h1>\n")
    (static / "page.css").write_text("b { color: red }\n" * 200)
    (static / "packed.js").write_text("let packed = false;")
    (static / "packed.js.gz").write_bytes(gzip.compress(b"let packed = true;"))
    stack.settings = {
        "app": {"source": "tests/rehearsal/front", "callable": "application"},
        "nginx": {"client_header_timeout": 2},
        "sites": {
            f"{name}-{kind}": {"site": {"server_name": f"{name}-{kind}.{DOMAIN}"}, "nginx": settings, **SERVERS[kind]}
            for name, settings in FRONTS.items()
            for kind in KINDS
        },
    }
    try:
        yield Front(stack, stack.up().output("address"))
    finally:
        stack.run("destroy")


@dataclass(frozen=True)
class Probe:
    """A promise: one request to a site of each kind, and what its answer has.

    has: header → pattern of its value, None where there is none. text: a pattern of the body.
    """

    promise: str
    site: str
    path: str
    want: int = 200
    has: dict[str, str | None] = field(default_factory=dict)
    text: str = ""
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    user: tuple[str, str] | None = None


GZIP = {"Accept-Encoding": "gzip"}
SAFE: dict[str, str | None] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
PROBES = (
    Probe("a file comes from disk, and a browser keeps it", "open", "/static/small.txt",
          has={"Cache-Control": "max-age=3600", "ETag": ".+"}, text="a few words"),
    Probe("a file under a name with a version is never asked for again", "limited", "/static/small.txt",
          has={"Cache-Control": "max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}),
    Probe("a file's .gz is sent as it is", "open", "/static/packed.js", has={"Content-Encoding": "gzip",
          "Vary": "Accept-Encoding"}, text="packed = true", headers=GZIP),
    Probe("a file's .gz is for those that take it", "open", "/static/packed.js", has={"Content-Encoding": None},
          text="packed = false"),
    Probe("a part of a file", "open", "/static/small.txt", 206, {"Content-Range": "bytes 2-4/11"}, "^few$",
          headers={"Range": "bytes=2-4"}),
    Probe("text is compressed", "open", "/static/page.css", has={"Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
          headers=GZIP),
    Probe("an answer of the application is compressed", "open", "/big?kilo=2", has={"Content-Encoding": "gzip"},
          headers=GZIP),
    Probe("what is short is not", "open", "/static/small.txt", has={"Content-Encoding": None}, headers=GZIP),
    Probe("a body at the limit", "open", "/upload", text='"bytes": 1024', method="POST", body=b"x" * 1024),
    Probe("a body over the limit", "open", "/upload", 413, SAFE, method="POST", body=b"x" * 1025),
    Probe("a page of the site's own for a missing file", "open", "/static/none", 404, SAFE, "Nothing is here"),
    Probe("a page in place of the application's", "open", "/status/404", 404, text="Nothing is here"),
    Probe("a page for an application that is down", "open", "/status/503", 503, text="Back in a minute"),
    Probe("an error without a page is the application's", "open", "/status/418", 418, text="of the application"),
    Probe("an error page has no address", "open", "/.error/errors/down.html", 404),
    Probe("the application's folder has no address", "open", "/.error/app.py", 404),
    Probe("sound headers", "open", "/", has={**SAFE, "Server": "nginx"}),
    Probe("the application's own headers go before", "open", "/own", has={"X-Frame-Options": "DENY"}),
    Probe("nothing tells what runs behind", "open", "/own", has={"Server": "nginx", "X-Powered-By": None}),
    Probe("a header changed, one dropped", "limited", "/", has={"X-Frame-Options": None,
          "Content-Security-Policy": r"default-src 'self'; img-src \*", "Referrer-Policy": ".+"}),
    Probe("a method that is not named", "limited", "/", 405, {"Allow": "GET, HEAD, POST",
          "X-Content-Type-Options": "nosniff"}, method="DELETE"),
    Probe("HEAD comes with GET", "limited", "/", method="HEAD"),
    Probe("a method that is named", "limited", "/seen", text='"POST"', method="POST"),
    Probe("directives as they are", "limited", "/extra", text="as it is"),
    Probe("a proxy's word for who asks", "limited", "/seen", text='_FOR": "203.0.113.9"', headers=OFFICE),
    Probe("the nearest address that is no proxy", "limited", "/seen", text='_FOR": "203.0.113.9"',
          headers={"X-Forwarded-For": "198.51.100.9, 203.0.113.9, 10.76.3.4"}),
    Probe("a proxy's word that TLS ended there", "limited", "/seen", text='_scheme": "https".*_PROTO": "https"',
          headers={"X-Forwarded-Proto": "https"}),
    Probe("a proxy's word that it came by HTTP", "limited", "/seen", text='_scheme": "http".*_PROTO": "http"',
          headers={"X-Forwarded-Proto": "HTTP"}),
    Probe("a proxy's word that is no scheme", "limited", "/seen", text='_scheme": "http".*_PROTO": "http"',
          headers={"X-Forwarded-Proto": "https, http"}),
    Probe("nobody's word for the scheme without trust", "open", "/seen", text='_scheme": "http".*_PROTO": "http"',
          headers={"X-Forwarded-Proto": "https"}),
    Probe("nobody's word without trust", "open", "/seen", text='_FOR": "10.76.', headers=OFFICE),
    Probe("an address that is not allowed", "closed", "/", 403, headers=WORLD, user=ADA),
    Probe("one that is denied of those that are", "closed", "/", 403, headers=BANNED, user=ADA),
    Probe("no address but the proxy's", "closed", "/", 403, user=ADA),
    Probe("no password", "closed", "/", 401, {"WWW-Authenticate": 'Basic realm="Staff only"'}, headers=OFFICE),
    Probe("a wrong password", "closed", "/", 401, headers=OFFICE, user=WRONG),
    Probe("a password by its SHA-512 hash", "closed", "/seen", 200, headers=OFFICE, user=ADA),
    Probe("a password by its apr1 hash", "closed", "/", 200, headers=OFFICE, user=BOB),
    Probe("a file wants the password too", "closed", "/static/small.txt", 401, headers=OFFICE),
    Probe("health wants the password too", "limited", "/healthz", 401, headers=LOOPBACK, user=WRONG),
    Probe("health wants an allowed address too", "closed", "/healthz", 403, headers=LOOPBACK, user=ADA),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.promise.replace(" ", "-"))
def test_nginx_keeps_its_promise(front: Front, probe: Probe, kind: str) -> None:
    answer = front.ask(
        f"{probe.site}-{kind}", probe.path, probe.method, headers=probe.headers, content=probe.body, auth=probe.user
    )
    assert answer.status_code == probe.want, answer.text
    for name, pattern in probe.has.items():
        found = answer.headers.get(name)
        assert found is None if pattern is None else re.fullmatch(pattern, found or ""), (name, found)
    assert re.search(probe.text, answer.text)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_file_that_has_not_changed_is_not_sent_again(front: Front, kind: str) -> None:
    site, path = f"open-{kind}", "/static/small.txt"
    first = front.ask(site, path)
    again = front.ask(site, path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert front.ask(site, path, headers={"If-None-Match": '"other"'}).status_code == 200


CACHED: tuple[tuple[str, str, dict[str, Any], bool], ...] = (
    ("a cookie that is not named", "/count", {"headers": {"Cookie": "color=red"}}, True),
    ("the cookie that is named", "/count", {"headers": {"Cookie": "session=1"}}, False),
    ("the header", "/count", {"headers": {"X-Fresh": "1"}}, False),
    ("a password", "/count", {"auth": ADA}, False),
    ("a POST", "/count", {"method": "POST"}, False),
    ("an answer that sets a cookie", "/count/cookie", {}, False),
    ("another address", "/count?other", {}, False),
    ("the same again", "/count", {}, True),
)


def test_an_answer_is_given_again_for_a_while_and_to_those_it_is_for(front: Front, kind: str) -> None:
    site = f"cached-{kind}"
    first = front.ask(site, "/count")
    assert first.headers["X-Cache"] == "MISS"
    began = time.monotonic()
    for what, path, options, same in CACHED:
        answer = front.ask(site, path, **options)
        assert (answer.text == first.text) == same, what
        assert (answer.headers.get("X-Cache") == "HIT") == same, what
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert time.monotonic() - began < 5
    # HEAD has an answer of its own, and GET none of HEAD's.
    assert front.ask(site, "/count?head", "HEAD").status_code == 200
    assert front.ask(site, "/count?head").text
    # The probe of a release sees the application alone.
    assert "X-Cache" not in front.ask(site, "/healthz").headers
    # nginx counts whole seconds.
    time.sleep(6.1)
    assert front.ask(site, "/count").text == first.text, "the old answer while a new one is fetched"
    time.sleep(0.3)
    assert front.ask(site, "/count").text != first.text


def test_an_application_that_is_gone(front: Front, kind: str) -> None:
    cached, plain = f"cached-{kind}", f"open-{kind}"
    kept = front.ask(cached, "/count?kept").text
    front.stack.shell(f"wsgi-ecs-app stop {cached}; wsgi-ecs-app stop {plain}")
    try:
        time.sleep(6.1)
        answer = front.ask(cached, "/count?kept")
        assert (answer.text, answer.headers["X-Cache"]) == (kept, "STALE")
        answer = front.ask(plain, "/")
        assert (answer.status_code, answer.text) == (502, "<h1>Back in a minute</h1>\n")
    finally:
        front.stack.shell(f"wsgi-ecs-app start {cached}; wsgi-ecs-app start {plain}")
    until(lambda: front.ask(plain).status_code == front.ask(cached, "/count?new").status_code == 200)


@contextlib.contextmanager
def maintenance(front: Front, site: str) -> Iterator[None]:
    """A site in maintenance."""
    done = front.stack.run("maintenance", "on", "--site", site)
    assert (done.code, done.out.partition(" since ")[0]) == (0, f"site {site}: in maintenance")
    try:
        yield
    finally:
        front.stack.run("maintenance", "off", "--site", site)
    assert front.ask(site, headers=OFFICE, auth=ADA).status_code == 200


def test_a_site_in_maintenance_answers_503_at_every_path_and_the_others_serve(front: Front, kind: str) -> None:
    site = f"cached-{kind}"
    front.ask(site, "/count?closed")
    with maintenance(front, site):
        for method, path in (
            ("GET", "/count?closed"),
            ("GET", "/static/small.txt"),
            ("POST", "/upload"),
            ("GET", "/.x"),
        ):
            answer = front.ask(site, path, method)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "300"), path
            assert (answer.headers["Cache-Control"], "X-Cache" in answer.headers) == ("no-store", False)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "<h1>Closed for maintenance</h1>" in answer.text
        assert front.ask(site, "/healthz").status_code == 200
        assert front.ask(f"open-{kind}").status_code == front.ask(f"limited-{kind}").status_code == 200


def test_a_page_of_the_application_has_its_files(front: Front, kind: str) -> None:
    site = f"open-{kind}"
    with maintenance(front, site):
        for method in ("GET", "POST"):
            answer = front.ask(site, "/status/503", method)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.text == "<h1>Closed until noon</h1>\n"
        assert front.ask(site, "/static/page.css").status_code == 200
        assert front.ask(site, "/.maintenance/errors/closed.html").status_code == 404, "it has no address"


def test_chosen_addresses_reach_a_site_in_maintenance(front: Front, kind: str) -> None:
    site = f"closed-{kind}"
    with maintenance(front, site):
        assert front.ask(site, headers=OFFICE, auth=ADA).status_code == 200
        # The nearest address that is no proxy counts.
        for claim in ("203.0.113.8", "203.0.113.9, 203.0.113.8", "127.0.0.1"):
            assert front.ask(site, headers={"X-Forwarded-For": claim}, auth=ADA).status_code == 503
        assert front.ask(site, auth=ADA).status_code == 503
        assert [front.inside(site, path)[0] for path in ("/healthz", "/")] == [200, 503]


def test_status_says_how_many_requests_wait(front: Front, kind: str) -> None:
    """Four at a time are in work under uWSGI; gunicorn accepts all of them."""
    site = f"open-{kind}"
    look = "wsgi-ecs-status --json --no-drift | tr -d '\\n'; echo; sleep 0.2"
    with ThreadPoolExecutor(7) as pool:
        looks = pool.submit(
            front.stack.shell, f"end=$(($(date +%s) + 12)); while [ $(date +%s) -lt $end ]; do {look}; done"
        )
        slow = [pool.submit(front.ask, site, "/sleep/12", timeout=60) for _ in range(6)]
        assert [answer.result().status_code for answer in slow] == [200] * 6
    found = []
    for line in looks.result().splitlines():
        workers = {each["name"]: each["workers"] for each in json.loads(line)["sites"]}
        found.append((workers[site]["busy"], workers[site]["idle"], workers[site]["queue"]))
        assert workers[f"cached-{kind}"]["busy"] == 0
    assert {"uwsgi": (4, 0, 2), "http": (6, None, 0)}[kind] in found
    assert f"site {site}: release " in front.stack.run("status").out


def test_maintenance_of_no_such_site_is_one_line(front: Front) -> None:
    done = front.stack.run("maintenance", "on", "--site", "nowhere")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "--site nowhere: no such site; allowed: cached-http, " in done.err
    assert "no --site; allowed: --site with one of " in front.stack.run("maintenance", "off").err


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(("site", "buffered"), [("open", True), ("limited", False)])
def test_what_is_buffered_keeps_no_worker_waiting(front: Front, kind: str, site: str, buffered: bool) -> None:
    mark = secrets.token_hex(4)
    with front.connected(f"{site}-{kind}", f"GET /big?kilo=30000&mark={mark} HTTP/1.1") as client:
        client.sendall(b"\r\n")
        time.sleep(1)
        assert (mark in front.ask(f"{site}-{kind}", "/done").text) == buffered, "nobody has read the answer"
    with front.connected(f"{site}-{kind}", "POST /upload HTTP/1.1") as client:
        client.sendall(b"Connection: close\r\nContent-Length: 8\r\n\r\nhalf")
        time.sleep(0.5)
        client.sendall(b"half")
        answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    seconds = re.search('"seconds": ([0-9.e-]+)', answer)
    assert seconds, answer
    assert (float(seconds[1]) < 0.3) == buffered


def test_a_client_that_is_slow_is_let_go(front: Front, kind: str) -> None:
    with front.connected(f"limited-{kind}", "GET / HTTP/1.1") as client:
        began = time.monotonic()
        assert client.recv(100) == b""
        assert 1 < time.monotonic() - began < 5, "its headers do not end"
    with front.connected(f"limited-{kind}", "POST /upload HTTP/1.1") as client:
        client.sendall(b"Content-Length: 100\r\n\r\nhalf")
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            client.recv(100)
        assert 1 < time.monotonic() - began < 5, "its body does not end"
    with front.connected(f"open-{kind}", "GET /big?kilo=60000 HTTP/1.1") as client:
        client.sendall(b"\r\n")
        time.sleep(4)
        with pytest.raises(ConnectionResetError):
            while client.recv(1 << 20):
                pass


def test_a_client_has_so_many_requests_and_another_as_many(front: Front, kind: str) -> None:
    site, mine = f"limited-{kind}", {"X-Forwarded-For": front.client()}
    statuses = [front.ask(site, headers=mine).status_code for _ in range(8)]
    assert statuses[:4] == [200] * 4
    assert statuses.count(429) >= 3
    assert front.ask(site).status_code == 200
    with ThreadPoolExecutor(4) as pool:
        slow = (
            list(pool.map(lambda _: front.ask(site, "/sleep/1", headers=other).status_code, range(4)))
            if (other := {"X-Forwarded-For": front.client()})
            else []
        )
    assert sorted(slow) == [200, 200, 429, 429]


def test_the_machine_itself_reaches_health_alone_and_is_not_limited(front: Front, kind: str) -> None:
    assert front.inside(f"closed-{kind}", "/healthz")[0] == 200
    assert front.inside(f"closed-{kind}", "/")[0] == 403
    assert front.inside(f"limited-{kind}", "/healthz")[0] == 200
    assert front.inside(f"limited-{kind}", "/")[0] == 401
    headers = {**OFFICE, "X-Forwarded-Proto": "https", **dict([AUTHORIZATION.split(": ")])}
    status, seen = front.inside(f"limited-{kind}", "/seen", headers)
    assert (status, '_FOR": "127.0.0.1"' in seen, '_PROTO": "http"' in seen) == (200, True, True), "it is no proxy"


def test_an_application_of_uwsgi_sees_one_scheme_whichever_variable_it_reads(front: Front) -> None:
    for scheme, https in (("https", "on"), ("http", None)):
        seen = front.ask("limited-uwsgi", "/seen", headers={"X-Forwarded-Proto": scheme}).json()
        assert (seen["REQUEST_SCHEME"], seen["HTTPS"], seen["wsgi.url_scheme"]) == (scheme, https, scheme)


def test_the_hashes_are_kept_from_others(front: Front, kind: str) -> None:
    site = f"closed-{kind}"
    path = f"/srv/wsgi-ecs/sites/{site}/current/htpasswd"
    assert front.stack.shell(f"stat -Lc '%U %G %a' {path}") == f"root wsgi-{site}-web 640"
    front.stack.shell(f"! runuser -u wsgi-open-{kind} -- cat {path} 2>/dev/null")
    assert not [
        file
        for file in (front.stack.folder / ".rehearsal").rglob("*")
        if file.is_file() and SHA512.encode() in file.read_bytes()
    ]


def test_a_log_of_json_has_times_and_the_release(front: Front, kind: str) -> None:
    site, mark = f"limited-{kind}", secrets.token_hex(4)
    client = front.client()
    front.ask(site, "/sleep/1?" + mark, headers={"X-Forwarded-For": client, "User-Agent": 'a "name" \\\\ of\tours'})
    logged = front.stack.shell(f"grep {mark} /var/log/wsgi-ecs/{site}/access.log")
    release = front.stack.shell(f"wsgi-ecs-status | sed -n 's/^site {site}: release \\([0-9a-f]*\\).*/\\1/p'")
    line = json.loads(logged)
    assert (line["remote_addr"], line["method"], line["status"], line["release"]) == (client, "GET", 200, release)
    assert (line["uri"], line["user_agent"]) == (f"/sleep/1?{mark}", 'a "name" \\\\ of\tours')
    # nginx takes the two times, in whole milliseconds, by two clocks: they may be one apart.
    assert line["request_time"] + 0.0015 > float(line["upstream_time"]) >= 1
    assert re.fullmatch("[0-9a-f]{32}", line["request_id"])


def test_a_log_is_turned_and_no_line_is_lost(front: Front, kind: str) -> None:
    site = f"open-{kind}"
    mark, ended, sent = secrets.token_hex(4), threading.Event(), []

    def ask() -> None:
        while not ended.is_set():
            sent.append(front.ask(site, f"/{mark}").status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    logs = f"/var/log/wsgi-ecs/{site}"
    front.stack.shell("sleep 0.3; logrotate -f /etc/wsgi-ecs/logrotate.conf; sleep 0.5")
    ended.set()
    thread.join()
    old, new = front.stack.shell(f"grep -c {mark} {logs}/access.log.1 {logs}/access.log || true").split()
    counts = [int(line.rpartition(":")[2]) for line in (old, new)]
    assert min(counts) > 0
    assert sum(counts) == len(sent)
    assert (
        front.stack.shell(
            f"! grep -l {mark} $(ls /var/log/wsgi-ecs/*/access.log /var/log/nginx/access.log | grep -v {site}/)"
        )
        == ""
    )
    assert front.stack.shell(f"stat -c '%U %G %a' {logs}") == f"root wsgi-{site}-web 750"


GONE = ("closed-http", "cached-http")


def changed(front: Front, site: str, nginx: dict[str, Any], **others: Any) -> dict[str, Any]:
    sites = front.stack.settings["sites"]
    own = {**sites[site], "nginx": {**sites[site]["nginx"], **nginx}, **others}
    return {**front.stack.settings, "sites": {**sites, site: own}}


def test_what_nginx_rejects_is_refused_with_its_line(front: Front) -> None:
    settings = front.stack.settings
    front.stack.settings = changed(front, "limited-uwsgi", {"extra": "# mine\nno_such_directive on;"})
    done = front.stack.run("up")
    front.stack.settings = settings
    assert done.code == 1
    assert 'unknown directive "no_such_directive" in /srv/wsgi-ecs/sites/limited-uwsgi/slots/' in done.text
    assert "next: fix the setting behind the line that nginx names" in done.text
    assert front.ask("limited-uwsgi", "/extra").text == "as it is"


def test_a_changed_hash_goes_live_or_is_given_back(front: Front) -> None:
    settings, old, new = front.stack.settings, ("ada", "sesame"), ("ada", "mellon")

    def statuses() -> list[int]:
        return [front.ask("closed-uwsgi", headers=OFFICE, auth=user).status_code for user in (old, new)]

    turned = {"auth_basic_users": {"ada": MELLON}}
    broken = {"app": {"health": "/status/500"}}
    front.stack.settings = changed(front, "closed-uwsgi", turned, **broken)
    done = front.stack.run("up")
    assert done.code == 1
    assert statuses() == [200, 401]
    front.stack.settings = settings
    # As the first, so that one run shows more: a changed rate is taken up under the same zone, and two sites go.
    turned_sites = changed(front, "closed-uwsgi", turned)["sites"]
    turned_sites["limited-uwsgi"] = changed(
        front, "limited-uwsgi", {"limit_req": {"rate": "100r/s", "burst": 50}, "limit_conn": 50}
    )["sites"]["limited-uwsgi"]
    front.stack.settings = {
        **settings,
        "sites": {name: site for name, site in turned_sites.items() if name not in GONE},
    }
    done = front.stack.up()
    assert statuses() == [401, 200]
    assert MELLON not in done.text
    mine = {"X-Forwarded-For": front.client()}
    assert {front.ask("limited-uwsgi", headers=mine).status_code for _ in range(8)} == {200}


def test_a_site_that_goes_takes_all_with_it_that_nginx_had(front: Front) -> None:
    assert not set(GONE) & set(front.stack.settings["sites"])
    for site in GONE:
        places = "/etc/wsgi-ecs /etc/tmpfiles.d /etc/supervisor /var/cache/nginx /var/log/wsgi-ecs /run/wsgi-ecs"
        assert (
            front.stack.shell(f"find /srv/wsgi-ecs {places} -name '*{site}*'; grep -rl {site} {places} || true") == ""
        )
    assert front.stack.shell(f"grep -rlF '{APR1}' /srv/wsgi-ecs /etc /run /var/log /var/cache || true") == ""
