"""A CA that speaks ACME, and the names that it looks up: Let's Encrypt's own for tests, pebble.

pebble on 198.18.255.N   reachable for machines, which go there through their gateway; before any stack is up
pebble-challtestsrv      its DNS
"""

import json
import os
import secrets
import shutil
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

from tests.certificates import Authority

_PROGRAMS = ("pebble", "pebble-challtestsrv")


class Pebble:
    """directory: its URL. Its certificates live as long as `start` says; `point` says where a domain is."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        number = secrets.randbelow(250) + 2
        self._folder, self._host, self._local = folder, f"198.18.255.{number}", f"127.18.255.{number}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ca: subprocess.Popen[bytes] | None = None
        self.directory = f"https://{self._host}:14000/dir"
        pair = authority.sign(self._host, self._local)
        (folder / "dir.pem").write_text(pair.certificate)
        (folder / "dir.key").write_text(pair.private_key)
        (folder / "root.pem").write_text(authority.pem)
        self._context = ssl.create_default_context(cafile=folder / "root.pem")

    def __enter__(self) -> "Pebble":
        _install()
        subprocess.run(["ip", "address", "add", f"{self._host}/32", "dev", "lo"], check=True)
        nobody = ("-defaultIPv4", "127.0.0.9", "-defaultIPv6", "")
        unused = ("-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
        names = ("-dns01", f"{self._local}:8053", "-management", f"{self._local}:8055")
        self._spawn("pebble-challtestsrv", *nobody, *unused[:6], *names)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        subprocess.run(["ip", "address", "del", f"{self._host}/32", "dev", "lo"], check=True)

    def start(self, seconds: int) -> None:
        """Start the CA, with a root of its own each time, whose certificates live for `seconds`."""
        settings = {
            "listenAddress": f"{self._host}:14000",
            "managementListenAddress": f"{self._local}:15000",
            "certificate": str(self._folder / "dir.pem"),
            "privateKey": str(self._folder / "dir.key"),
            "httpPort": 80,
            "tlsPort": 443,
            "certificateValidityPeriod": seconds,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
        config = self._folder / "pebble.json"
        config.write_text(json.dumps({"pebble": settings}))
        self._ca = self._spawn("pebble", "-config", str(config), "-dnsserver", f"{self._local}:8053")
        (self._folder / "issuer.pem").write_bytes(self._fetch(f"https://{self._local}:15000/roots/0"))

    def stop(self) -> None:
        assert self._ca
        self._ca.kill()
        self._ca.wait()

    @property
    def root(self) -> Path:
        """File with the root of the CA that runs."""
        return self._folder / "issuer.pem"

    def point(self, domain: str, address: str) -> None:
        data = json.dumps({"host": domain, "addresses": [address]}).encode()
        self._fetch(f"http://{self._local}:8055/add-a", data)

    def _fetch(self, url: str, data: bytes | None = None) -> bytes:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context)
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                with opener.open(url, data, timeout=5) as answer:
                    return bytes(answer.read())
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        # Without sleeping before it asks, and with asking each time.
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
        with (self._folder / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        self._processes.append(process)
        return process


def _install() -> None:
    if all(map(shutil.which, _PROGRAMS)):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", "pebble"]):
        subprocess.run(["apt-get", *command], check=True, capture_output=True, env=environment)
