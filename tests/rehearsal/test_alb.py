"""A load balancer in front of two servers, each with nginx and the application. The tests run in this order."""

import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.builders.certificates import Authority
from tests.rehearsal.builders.load import Load, loaded
from tests.rehearsal.builders.machine import listens
from tests.rehearsal.builders.stack import Stack, entering, lxd, new_stack

WWW = "www.example.test"


class Balanced:
    """A stack behind a load balancer that is up. addresses: of the load balancer."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.authority = stack, Authority()
        self.trust = ssl.create_default_context(cadata=self.authority.pem)
        stack.settings = {
            "topology": {"entrance": "alb", "app_servers": 2},
            "site": {"server_name": WWW},
            "tls": self.certificate(),
        }
        stack.up()
        self.addresses: list[str] = self.outputs()["addresses"]

    def certificate(self) -> dict[str, Any]:
        pair = self.authority.sign(WWW)
        return {"certificate": pair.certificate, "private_key": pair.private_key, "hsts": 60}

    def outputs(self) -> dict[str, Any]:
        return dict(json.loads(lxd(f"/1.0/projects/{self.stack.project}")["config"]["user.outputs"]))

    def get(self, path: str = "/healthz", scheme: str = "https", address: str = "", **headers: str) -> httpx.Response:
        url = f"{scheme}://{address or self.addresses[0]}{path}"
        with httpx.Client(verify=self.trust, trust_env=False, timeout=30) as client:
            return client.get(url, headers={"Host": WWW, **headers}, extensions={"sni_hostname": WWW})

    def hosts(self, requests: int = 12) -> set[str]:
        """The machines that answer so many requests: the page names its own."""
        pages = [self.get("/").text for _ in range(requests)]
        return {found for page in pages for found in re.findall(r"i-[0-9a-f]{10}", page)}

    def load(self) -> Load:
        return Load(self.addresses[0], WWW, port=443, connections=40, rate=60, trust=self.trust)

    def on(self, machine: str, script: str) -> str:
        line = [*entering(self.stack.project, self.stack.machines()[machine]["id"]), "sh", "-c", script]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    def serial(self) -> int:
        """Number of the certificate that the load balancer shows."""
        pem = ssl.get_server_certificate((self.addresses[0], 443))
        done = subprocess.run(
            ["openssl", "x509", "-noout", "-serial"], input=pem, capture_output=True, text=True, check=True
        )
        return int(done.stdout.strip().partition("=")[2], 16)


@pytest.fixture(scope="module")
def site(project_copy: Any) -> Iterator[Balanced]:
    stack = new_stack(project_copy, "alb")
    try:
        yield Balanced(stack)
    finally:
        stack.run("destroy")


def test_both_servers_answer_at_both_addresses_over_https(site: Balanced) -> None:
    assert len(site.hosts()) == 2
    for address in site.addresses:
        answer = site.get(address=address)
        assert answer.json()["status"] == "ok"
        assert answer.headers["Strict-Transport-Security"] == "max-age=60"
    answer = site.get("/page?a=1", scheme="http")
    assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{WWW}/page?a=1")
    assert " unchanged" in site.stack.up().out


def test_nobody_reaches_a_server_past_the_load_balancer(site: Balanced) -> None:
    for machine in site.stack.machines().values():
        assert not listens(machine["outputs"]["primaryIpAddress"], 80)
    assert not listens(site.outputs()["address"], 80)


def test_a_client_is_known_by_its_own_address_whatever_it_says(site: Balanced) -> None:
    page = site.get("/", **{"X-Forwarded-For": "192.0.2.66", "X-Forwarded-Host": "evil.test"}).text
    assert "192.0.2.66" not in page
    assert "evil.test" not in page
    logs = "".join(site.on(name, "tail -n 50 /var/log/wsgi-ecs/app/access.log") for name in ("app-1", "app-2"))
    clients = {line.split(" ")[0] for line in logs.splitlines() if '"GET / ' in line}
    # Health checks alone come from the load balancer's own address.
    assert clients
    assert not any(client.startswith("10.76.18.") for client in clients)


def test_a_release_and_a_new_certificate_lose_no_request(site: Balanced) -> None:
    before, shown = site.get().json()["release"], site.serial()
    site.stack.edit("app/app.py", 'jsonify(status="ok"', 'jsonify(status="fine"')
    site.stack.settings["tls"] = site.certificate()
    load = site.load()
    with loaded(load, least=500):
        site.stack.up()
    assert load.tally.failed == 0, load.tally
    assert site.get().json()["release"] != before
    assert {site.get().json()["status"] for _ in range(8)} == {"fine"}
    assert site.serial() != shown


def test_a_server_whose_nginx_is_gone_gets_no_requests(site: Balanced) -> None:
    load = site.load()
    with loaded(load, least=500):
        site.on("app-2", "systemctl stop nginx")
    assert load.tally.failed == 0, load.tally
    assert len(site.hosts()) == 1
    site.on("app-2", "systemctl start nginx")
