"""The stack showcase as it is in stacks/: five machines, and a table of what it promises, a line each."""

import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from rehearsal.cloud.pebble import Pebble
from tests.builders.encrypted import PASSPHRASE
from tests.rehearsal.builders.database import CONNECT, Databased
from tests.rehearsal.builders.machine import listens
from tests.rehearsal.builders.stack import CLIENT, Done, in_whole_runs, new_stack, traces

# Five machines; what they promise together, other modules show one by one.
pytestmark = in_whole_runs

WWW, NAMES = "www.example.test", "names.example.test"
ADA = ("ada", "rehearse")


@dataclass
class Showcase(Databased):
    """printed: what the first run said."""

    printed: Done = field(default_factory=lambda: Done(1, "", ""))

    def write(self) -> None:
        """The file as it is: the stack alone has another name."""
        text = (self.folder / "stacks/Pulumi.showcase.yaml").read_text()
        (self.folder / f"stacks/Pulumi.{self.name}.yaml").write_text(text)

    def ask(
        self, domain: str, path: str = "/", method: str = "GET", scheme: str = "https", **options: Any
    ) -> httpx.Response:
        """A request whose certificate is verified, over a connection of its own."""
        headers = {"Host": domain, **options.pop("headers", {})}
        roots = self.folder / f".rehearsal/{self.name}/ca.pem"
        with httpx.Client(trust_env=False, verify=ssl.create_default_context(cafile=roots), timeout=15) as client:
            url, extensions = f"{scheme}://{self.address}{path}", {"sni_hostname": domain}
            return client.request(method, url, headers=headers, extensions=extensions, **options)

    def fresh(self, requests: int) -> list[httpx.Response]:
        """Answers of the page itself, past the cache."""
        return [self.ask(WWW, headers={"X-Fresh": "1"}) for _ in range(requests)]


@pytest.fixture(scope="module")
def showcase(project_copy: Path) -> Iterator[Showcase]:
    made = new_stack(project_copy, "showcase")
    stack = Showcase(made.folder, made.name, passphrase=PASSPHRASE)
    try:
        stack.printed = stack.up()
        stack.address = stack.printed.output("address")
        yield stack
    finally:
        stack.run("destroy", "--force")


def of_three(site: Showcase) -> bool:
    machines = {record["id"] for name, record in site.machines().items() if name.startswith("app-")}
    texts = [answer.text for answer in site.fresh(24)]
    return len(machines) == 3 and all(any(machine in text for text in texts) for machine in machines)


def written(site: Showcase) -> bool:
    """A name that one site takes is there for the other, whatever runs them."""
    answer = site.ask(WWW, "/people/", "POST", data={"name": "Zoë"})
    assert (answer.status_code, answer.headers["location"]) == (302, "/people/")
    return "Zoë" in site.ask(WWW, "/people/").text and "Zoë" in site.ask(NAMES, auth=ADA).text.splitlines()


def limited(site: Showcase) -> bool:
    roots = site.folder / f".rehearsal/{site.name}/ca.pem"
    with httpx.Client(trust_env=False, verify=ssl.create_default_context(cafile=roots), timeout=15) as client:

        def statuses(path: str) -> set[int]:
            url, extensions = f"https://{site.address}{path}", {"sni_hostname": WWW}
            return {client.get(url, headers={"Host": WWW}, extensions=extensions).status_code for _ in range(60)}

        return statuses("/people/healthz") == {200, 429} and statuses("/") == {200}


def reached(site: Showcase, port: int, name: str) -> dict[str, bool]:
    """Which machines, and this host, reach a machine's port."""
    address = site.machines()[name]["outputs"]["primaryIpAddress"]
    answers = {at: site.on(at, "python3", "-c", CONNECT, address, str(port)) for at in ("front", "app-1", "db")}
    return {**{at: answer == "open" for at, answer in answers.items()}, "outside": listens(address, port)}


def greeting(site: Showcase, domain: str) -> str:
    """What openssl says of a connection that offers HTTP/2."""
    command = ["openssl", "s_client", "-alpn", "h2", "-connect", f"{site.address}:443", "-servername", domain]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", input="", timeout=15).stdout


PROMISES: dict[str, Callable[[Showcase], bool]] = {
    "the page is there, its certificate verified": lambda s: (
        (answer := s.ask(WWW)).status_code == 200 and "uWSGI" in answer.text
    ),
    "each domain has a certificate of the CA that was asked": lambda s: all(
        "CN = Pebble Intermediate CA" in greeting(s, domain) for domain in (WWW, NAMES)
    ),
    "browsers get HTTP/2": lambda s: "ALPN protocol: h2" in greeting(s, WWW),
    "HTTP leads to HTTPS": lambda s: all(
        s.ask(domain, "/x?y=1", scheme="http").headers["location"] == f"https://{domain}/x?y=1"
        for domain in (WWW, NAMES)
    ),
    "browsers are told to stay with HTTPS": lambda s: s.ask(WWW).headers["strict-transport-security"] == "max-age=300",
    "another domain has nothing of it": lambda s: (
        s.ask("other.example.test", scheme="http").status_code == 404 and "uWSGI" not in s.ask(WWW, "/nothing").text
    ),
    "a file comes from nginx, to be kept for a day": lambda s: (
        (answer := s.ask(WWW, "/static/style.css")).headers["cache-control"] == "max-age=86400"
        and "etag" in answer.headers
    ),
    "a part of a file": lambda s: (
        (answer := s.ask(WWW, "/static/style.css", headers={"Range": "bytes=0-9", "Accept-Encoding": ""})).status_code
        == 206
        and len(answer.content) == 10
    ),
    "text is compressed": lambda s: (
        s.ask(WWW, headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"
    ),
    "a page is given again from the cache": lambda s: (
        [s.ask(WWW).headers["x-cache"], s.ask(WWW).headers["x-cache"]][1] == "HIT"
    ),
    "a header leads past the cache": lambda s: s.fresh(1)[0].headers["x-cache"] == "BYPASS",
    "three app servers answer": of_three,
    "the second location is Flask's, with the database's rows": lambda s: all(
        f'<a href="/people/{name}">{name}</a>' in s.ask(WWW, "/people/").text for name in ("Ada", "Grace")
    ),
    "a row that one site writes is there for the other": written,
    "other methods are refused": lambda s: (
        (answer := s.ask(WWW, "/people/", "DELETE")).status_code == 405 and "POST" in answer.headers["allow"]
    ),
    "a body over the limit is refused": lambda s: (
        s.ask(WWW, "/people/", "POST", content=b"x" * (64 * 1024 + 1)).status_code == 413
    ),
    "more than the rate is refused, at this location alone": limited,
    "the other domain wants a password": lambda s: (
        s.ask(NAMES).status_code == 401 and s.ask(NAMES, auth=("ada", "other")).status_code == 401
    ),
    "with the password it is gunicorn's, with the database's rows": lambda s: (
        s.ask(NAMES, auth=ADA).text.splitlines()[:2] == ["Ada", "Grace"]
        and "gunicorn" in s.on("app-1", "ps", "-eo", "args")
    ),
    "versions are not told": lambda s: all(
        s.ask(domain).headers["server"] == "nginx" and "x-powered-by" not in s.ask(domain).headers
        for domain in (WWW, NAMES)
    ),
    "nothing but HTTP, HTTPS and SSH is open at the address": lambda s: (
        [port for port in (22, 80, 443, 3031, 3033, 3306, 8000, 9191) if listens(s.address, port)] == [22, 80, 443]
    ),
    "app servers are reached from nginx's machine alone": lambda s: all(
        reached(s, port, "app-2") == {"front": True, "app-1": False, "db": False, "outside": False}
        for port in (3031, 3033, 8000)
    ),
    "the database is reached from the app servers alone": lambda s: (
        reached(s, 3306, "db") == {"front": False, "app-1": True, "db": True, "outside": False}
    ),
    "each site's application runs as a user of its own": lambda s: (
        {f"wsgi-{site}" for site in ("www", "people", "names")} <= set(s.on("app-1", "ps", "-eo", "user:32=").split())
    ),
    "the database's password is where it is needed alone": lambda s: (
        [
            name
            for name in ("front", "app-1", "app-2", "app-3")
            if s.on(name, "sh", "-c", "grep -rlsI sample-of-a-password /etc /srv /run /var/log /var/lib/cloud || true")
        ]
        == ["app-1", "app-2", "app-3"]
    ),
}


@pytest.mark.parametrize("promise", PROMISES)
def test_it_keeps_its_promise(showcase: Showcase, promise: str) -> None:
    assert PROMISES[promise](showcase)


def test_the_command_has_proved_it(showcase: Showcase) -> None:
    assert "GET https://www.example.test/ → 200 OK" in showcase.printed.out
    assert "certificate verified" in showcase.printed.out
    assert "sample-of-a-password" not in showcase.printed.text
    urls = json.loads(showcase.printed.output("urls").replace("'", '"'))
    assert urls == {"www": f"https://{WWW}/", "people": f"https://{WWW}/people/", "names": f"https://{NAMES}/"}


def test_an_app_server_that_is_frozen_is_done_without(showcase: Showcase) -> None:
    machine = showcase.machines()["app-2"]["id"]
    subprocess.run([CLIENT, "pause", machine, "--project", showcase.project], check=True)
    try:
        answers = [showcase.ask(domain, "/healthz", auth=ADA) for domain in (WWW, NAMES) for _ in range(12)]
        answers += [showcase.ask(WWW, "/people/healthz") for _ in range(12)]
    finally:
        subprocess.run([CLIENT, "start", machine, "--project", showcase.project], check=True)
    assert {answer.status_code for answer in answers} == {200}


def test_a_second_run_changes_nothing(showcase: Showcase) -> None:
    assert "created" not in (again := showcase.up()).out
    assert "updated" not in again.out
    assert "replaced" not in again.out


def of_the_ca(host: str) -> list[str]:
    """The processes of a stack's CA: both name the address at which it is asked for names."""
    names = host.replace("198.18.", "127.18.") + ":8053"
    found = subprocess.run(["pgrep", "-af", "^pebble"], capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if names in line.split()]


def on_loopback() -> str:
    return subprocess.run(["ip", "-4", "-o", "address", "show", "lo"], capture_output=True, text=True).stdout


def test_it_leaves_no_trace(showcase: Showcase) -> None:
    host = urlsplit(Pebble(showcase.name).directory).hostname or ""
    assert len(of_the_ca(host)) == 2
    assert f" {host}/32 " in on_loopback()
    assert showcase.run("destroy").code == 0
    assert not traces(showcase)
    assert not of_the_ca(host)
    assert f" {host}/32 " not in on_loopback()
