"""Requests that hang hold two workers, and others wait: how long the site is away, and what its log says.

Each test prints how many requests were sent and failed, and for how many seconds.
"""

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.stack import Stack, new_stack, tried, until

# Seconds that a request may be silent here; nginx waits as long.
HARAKIRI = 8
# Seconds beside it: the master, or the thread that watches, looks once a second, and a new worker has to start.
LOOKS = 4
RATE, PATIENCE = 50, 3
# Requests that nginx passes on, where a test limits them.
MOST = 10
ROUTES = """@app.route("/slow/<int:seconds>")
def slow(seconds):
    time.sleep(seconds)
    return "slow"


@app.route("/stream")
def stream():
    def parts():
        for number in range(6):
            time.sleep(3)
            yield "part {}\\\\n".format(number)

    return flask.Response(parts(), headers={"X-Accel-Buffering": "no"})


"""
NGINX = {"uwsgi_read_timeout": HARAKIRI}, {"proxy_read_timeout": HARAKIRI}
KINDS: dict[str, dict[str, Any]] = {
    "uwsgi": {"uwsgi": {"processes": 2}, "nginx": NGINX[0]},
    "gunicorn-gthread": {
        "serving": {"app_server": "gunicorn"},
        "gunicorn": {"worker_class": "gthread", "workers": 2},
        "nginx": NGINX[1],
    },
    "gunicorn-sync": {
        "serving": {"app_server": "gunicorn"},
        "gunicorn": {"workers": 2, "timeout": HARAKIRI},
        "nginx": NGINX[1],
    },
    "granian": {"serving": {"app_server": "granian"}, "granian": {"workers": 2}, "nginx": NGINX[1]},
}
# The line of the application at which a request hangs, in a traceback.
WHERE = re.compile(r'File "/srv/wsgi-ecs/sites/app/releases/[^"]*/app/app.py", line \d+ in slow')


@dataclass
class Asked:
    """Requests to /healthz at a steady rate. failed: when each began that had no 200 in time, in seconds."""

    address: str
    sent: int = 0
    failed: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def away(self) -> float:
        """Seconds between the beginnings of the first and the last request that failed."""
        return self.failed[-1] - self.failed[0] if self.failed else 0.0

    def __str__(self) -> str:
        return f"{self.sent} sent, {len(self.failed)} failed in {self.away:.1f} s, statuses {self.statuses}"

    async def run(self, ended: threading.Event) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, limits=limits) as client:
            tasks: set[asyncio.Task[None]] = set()
            while not ended.is_set():
                task = asyncio.create_task(self._ask(client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                await asyncio.sleep(1 / RATE)
            await asyncio.gather(*tasks)
        self.failed.sort()

    async def _ask(self, client: httpx.AsyncClient) -> None:
        began, status = time.monotonic(), 0
        self.sent += 1
        with contextlib.suppress(httpx.HTTPError):
            status = (await client.get(f"http://{self.address}/healthz")).status_code
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status != 200:
            self.failed.append(began)


class Site:
    """One machine, whose site has one app server after the other."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.kind, self.address = stack, "", ""

    def serve(self, kind: str) -> None:
        self.stack.settings = KINDS[kind]
        self.kind, self.address = kind, self.stack.up().output("address")

    def hang(self, count: int, seconds: int, patience: float) -> list[threading.Thread]:
        """Send requests that take so many seconds. patience: after which their clients leave."""

        def ask() -> None:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://{self.address}/slow/{seconds}", trust_env=False, timeout=patience)

        threads = [threading.Thread(target=ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads

    @contextlib.contextmanager
    def asked(self) -> Iterator[Asked]:
        """Ask while the block runs, from a second before it."""
        asked, ended = Asked(self.address), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(asked.run(ended)))
        thread.start()
        try:
            time.sleep(1)
            yield asked
        finally:
            ended.set()
            thread.join()

    def log(self) -> str:
        slot = "$(readlink /srv/wsgi-ecs/sites/app/current | grep -o '[ab]$')"
        return self.stack.shell(f"cat /var/log/wsgi-ecs/app/{slot}.log")


@pytest.fixture(scope="module")
def machine(project_copy: Path) -> Iterator[Site]:
    stack = new_stack(project_copy, "hang")
    stack.edit("app/app.py", '@app.route("/favicon.ico")', f'{ROUTES}@app.route("/favicon.ico")')
    try:
        yield Site(stack)
    finally:
        stack.run("destroy")


@pytest.fixture(scope="module", params=tried(KINDS, "uwsgi", "gunicorn-gthread"))
def site(machine: Site, request: pytest.FixtureRequest) -> Site:
    machine.serve(request.param)
    return machine


def test_four_requests_that_hang_hold_two_workers_for_no_longer_than_harakiri(site: Site) -> None:
    with site.asked() as asked:
        site.hang(4, 600, patience=60)
        time.sleep(HARAKIRI + LOOKS + PATIENCE + 5)
    print(f"{site.kind}: four requests that hang: {asked}")
    # Whoever asks PATIENCE before the workers are back gets an answer in time.
    assert asked.failed, "nothing was stopped, so nothing was shown"
    assert asked.away < HARAKIRI + LOOKS
    assert site.stack.get(site.address, "/healthz").status_code == 200
    assert WHERE.search(site.log()), "the log says where it hangs"


def test_workers_take_no_page_whose_reader_has_gone(site: Site) -> None:
    if site.kind == "granian":
        pytest.skip("Granian tells nothing of its connections")
    seconds = HARAKIRI - 2
    with site.asked() as asked:
        # Two hold the workers, and six wait: three times as long, if they were done.
        site.hang(8, seconds, patience=2)
        time.sleep(seconds + PATIENCE + LOOKS + 4)
    print(f"{site.kind}: eight slow requests whose clients leave: {asked}")
    assert "SIGPIPE" not in site.log()
    assert asked.failed
    assert asked.away < seconds + LOOKS


def test_a_stream_that_takes_longer_than_harakiri_arrives_whole(site: Site) -> None:
    began = time.monotonic()
    answer = httpx.get(f"http://{site.address}/stream", trust_env=False, timeout=HARAKIRI)
    assert time.monotonic() - began > 2 * HARAKIRI
    assert (answer.status_code, answer.text.count("part")) == (200, 6)


def test_a_release_without_harakiri_goes_on(site: Site) -> None:
    """The limit is a setting: without it, the workers are held until nginx's clients and their requests end."""
    if site.kind != "uwsgi":
        pytest.skip("one server shows it")
    site.stack.settings = {"uwsgi": {"processes": 2, "harakiri": None}, "nginx": NGINX[0]}
    site.stack.up()
    before = site.log().count("HARAKIRI")
    threads = site.hang(2, HARAKIRI + LOOKS, patience=30)
    for thread in threads:
        thread.join()
    until(lambda: site.stack.get(site.address, "/healthz").status_code == 200, 20)
    assert site.log().count("HARAKIRI") == before


def test_slow_pages_of_a_pool_leave_workers_to_the_others(site: Site) -> None:
    if site.kind not in ("uwsgi", "gunicorn-gthread"):
        pytest.skip("one server of each protocol shows it")
    # One request for each worker of nginx, and one worker more than those can hold.
    workers = 1 + int(site.stack.shell("nproc"))
    server, _, worker_class = site.kind.partition("-")
    # A worker of gthread takes more connections than it has threads, so it needs one that no slow page has.
    threaded = {"worker_class": worker_class, "workers": workers, "threads": 4}
    of_server = threaded if worker_class else {"processes": workers}
    nginx = {**KINDS[site.kind]["nginx"], "pools": {"/slow/": 1}}
    site.stack.settings = {**KINDS[site.kind], server: of_server, "nginx": nginx}
    site.stack.up()
    seconds, statuses = HARAKIRI - 3, []

    def ask() -> None:
        with contextlib.suppress(httpx.TimeoutException):
            answer = httpx.get(f"http://{site.address}/slow/{seconds}", trust_env=False, timeout=1)
            statuses.append((answer.status_code, answer.headers.get("Retry-After")))

    with site.asked() as asked:
        # The clients of those that get in leave, and others come for as long as the workers have their requests.
        for _ in range(seconds - 1):
            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    print(f"{site.kind}: {8 * (seconds - 1)} slow requests to a pool, {len(statuses)} refused: {asked}")
    assert not asked.failed
    assert set(statuses) == {(503, "10")}
    assert len(statuses) >= 8 * (seconds - 1) - (workers - 1)


def test_more_requests_than_the_site_may_have_get_503_at_once(site: Site) -> None:
    if site.kind != "uwsgi":
        pytest.skip("nginx is the same before each server")
    nginx = {**NGINX[0], "max_conns": MOST, "access_log_format": "json"}
    site.stack.settings = {**KINDS["uwsgi"], "nginx": nginx}
    site.stack.up()
    # Each worker of nginx has as many.
    most, sent = MOST * int(site.stack.shell("nproc")), 100
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.get(f"http://{site.address}/slow/600", trust_env=False, timeout=60))

    threads = [threading.Thread(target=ask) for _ in range(sent)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) >= sent - most
    assert {answer.headers.get("Retry-After") for answer in refused} == {"10"}
    # A hundred clients on one host are slow themselves, so nginx's own time counts.
    logged = map(
        json.loads, site.stack.shell("grep /slow/600 /var/log/wsgi-ecs/app/access.log | grep '^{'").splitlines()
    )
    slowest = max(line["request_time"] for line in logged if line["status"] == 503)
    print(f"{sent} requests, {most} at most: {len(refused)} got 503, the slowest after {slowest:.3f} s")
    assert slowest < 1
    until(lambda: site.stack.get(site.address, "/healthz").status_code == 200, HARAKIRI + LOOKS)
    assert site.stack.get(site.address, "/healthz").headers.get("Retry-After") is None
    assert "no live upstreams" in site.stack.shell("cat /var/log/wsgi-ecs/app/error.log")
