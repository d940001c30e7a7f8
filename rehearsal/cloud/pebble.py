"""The test CA that rehearsed machines use in place of Let's Encrypt: pebble, which Let's Encrypt makes for tests.

machine ─▶ its gateway ─▶ pebble, 198.18.255.N:14000 ─▶ names from pebble-challtestsrv ─▶ the stack's address, port 80

Both programs run as long as the stack exists. A restart of this host ends them and deletes their files.
"""

import ipaddress
import json
import secrets
import shutil
import ssl
import subprocess
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from rehearsal.cloud import addressing, processes
from rehearsal.cloud.lock import host_lock
from rehearsal.engine.errors import RehearsalError

# Package → a program that it contains.
PACKAGES = {"pebble": "pebble-challtestsrv"}
_CA, _NAMES = "pebble", "pebble-challtestsrv"
_RUN = Path("/run/wsgi-ecs-rehearsal")
# Seconds that a certificate is valid, as long as one of Let's Encrypt.
_LIFE = 90 * 24 * 3600
# Address of a name that has not been pointed to an address yet.
_NOBODY = "127.0.0.9"


class Pebble:
    """A CA of one stack. directory: URL of its ACME directory. roots: file with its roots and its directory's."""

    def __init__(self, stack: str) -> None:
        self.folder = _RUN / stack
        self.roots = self.folder / "roots.pem"

    @property
    def directory(self) -> str:
        return f"https://{self._host}:14000/dir"

    @property
    def root(self) -> Path:
        """File with the root that signs new certificates."""
        return self.folder / "root.pem"

    def open(self) -> None:
        """Take an address, unless the stack has one, and start the name server. `start` starts the CA."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with host_lock("authority"):
            if not (self._number.is_file() and self._number.read_text()):
                found = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, text=True, check=True).stdout
                taken = (number for number in range(2, 255) if f" {addressing.AUTHORITY[number]}/" not in found)
                self._number.write_text(str(next(taken)))
            self._ip("replace")
        if not self._directory.is_file():
            self._sign()
        unused = ("-http01", "", "-https01", "", "-tlsalpn01", "")
        names = ("-dns01", f"{self._local}:8053", "-management", f"{self._local}:8055")
        self._run(_NAMES, *unused, "-defaultIPv6", "", "-defaultIPv4", _NOBODY, *names)

    def start(self, life: int = _LIFE) -> None:
        """Start the CA, with a new root, unless it runs. life: seconds that its certificates are valid."""
        config = self.folder / "pebble.json"
        settings = {
            "listenAddress": f"{self._host}:14000",
            "managementListenAddress": f"{self._local}:15000",
            "certificate": str(self.folder / "dir.pem"),
            "privateKey": str(self.folder / "dir.key"),
            "httpPort": 80,
            "tlsPort": 443,
            "certificateValidityPeriod": life,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
        config.write_text(json.dumps({"pebble": settings}))
        self._run(_CA, "-config", str(config), "-dnsserver", f"{self._local}:8053")
        # Fetch the root each time, because a run may have been killed before it did so.
        self.root.write_bytes(self._ask(f"https://{self._local}:15000/roots/0"))
        self.roots.write_bytes(self._directory.read_bytes() + self.root.read_bytes())

    def point(self, address: str, domain: str | None = None) -> None:
        """Point a domain to an IPv4 address. domain: None for every domain that has no address of its own."""
        body = {"host": domain, "addresses": [address]} if domain else {"ip": address}
        path = "add-a" if domain else "set-default-ipv4"
        self._ask(f"http://{self._local}:8055/{path}", json.dumps(body).encode())

    def stop(self) -> None:
        """End the CA. The name server keeps running."""
        self._end(_CA)

    def close(self) -> None:
        """End both programs and delete their files. What does not exist is no error."""
        if self._number.is_file() and self._number.read_text():
            self._end(_CA)
            self._end(_NAMES)
            self._ip("del", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _number(self) -> Path:
        return self.folder / "number"

    @property
    def _directory(self) -> Path:
        """File with the certificate of the ACME directory itself."""
        return self.folder / "dir.pem"

    @property
    def _host(self) -> str:
        """Address of the CA for machines, through their gateway."""
        return str(addressing.AUTHORITY[int(self._number.read_text())])

    @property
    def _local(self) -> str:
        """Address that only this host reaches."""
        return f"127.18.255.{self._number.read_text()}"

    def _ip(self, verb: str, check: bool = True) -> None:
        subprocess.run(["ip", "address", verb, f"{self._host}/32", "dev", "lo"], check=check, capture_output=True)

    def _sign(self) -> None:
        """Make the self-signed certificate of the directory."""
        key = ec.generate_private_key(ec.SECP256R1())
        # Make the name unique, because OpenSSL tries only the first of two roots with the same name.
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"rehearsal {secrets.token_hex(4)}")])
        addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in (self._host, self._local)]
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "dir.key").write_bytes(private)
        # Write the certificate last: if it exists, both files exist.
        draft = self._directory.with_suffix(".new")
        draft.write_bytes(made.public_bytes(Encoding.PEM))
        draft.replace(self._directory)

    def _run(self, program: str, *options: str) -> None:
        """Start a daemon that outlives this process, unless it runs already."""
        if self._processes(program):
            return
        # Validate at once and for every order.
        environment = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
        processes.detach([program, *options], self.folder / f"{program}.log", **environment)

    def _processes(self, program: str) -> list[int]:
        """Ids of a program's processes that use this stack's own address."""
        return processes.running(lambda words: words[0] == program and f"{self._local}:8053" in words)

    def _end(self, program: str) -> None:
        processes.end(lambda: self._processes(program))

    def _ask(self, url: str, data: bytes | None = None) -> bytes:
        context = ssl.create_default_context(cafile=self.folder / "dir.pem")
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                with opener.open(url, data, timeout=5) as answer:
                    return bytes(answer.read())
            except OSError as error:
                if time.monotonic() > deadline:
                    logs = [self.folder / f"{program}.log" for program in (_CA, _NAMES)]
                    last = "\n".join(line for log in logs if log.is_file() for line in _lines(log)[-6:])
                    raise RehearsalError(f"the test CA does not answer at {url}: {error}:\n{last}") from None
                time.sleep(0.1)


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()
