"""HTTPS on a real machine: a domain whose certificate is given, and one whose CA is asked by the machine itself."""

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from rehearsal.cloud import host
from rehearsal.cloud.pebble import PACKAGES, Pebble
from tests.builders.certificates import Authority, Pair
from tests.rehearsal.builders.stack import CLIENT, Stack, in_whole_runs, lxd, new_stack, until

GIVEN, WWW = "given.example.test", "www.example.test"
# A third of it is left, and so another is due, 100 s after it has come: an `up` on a busy host takes half of that.
SECONDS = 150
QUARTER = 90 * 24 * 3600
# Takes a certificate that nobody vouches for.
ANYBODY = ssl._create_unverified_context()  # noqa: S323


class Site:
    """A stack of two domains that is up.

    www: the domain whose CA is asked. own: settings of the other one's site. more: of the stack.
    """

    def __init__(
        self,
        stack: Stack,
        pebble: Pebble,
        authority: Authority,
        folder: Path,
        www: str = WWW,
        own: Any = None,
        **more: Any,
    ) -> None:
        self.stack, self.pebble, self.authority, self.folder = stack, pebble, authority, folder
        self.www, self.own, self.more = www, own or {}, more
        (folder / "ca.pem").write_text(authority.pem + pebble.roots.read_text())
        self.issued = 0.0
        self.printed = ""
        self.give(authority.sign(GIVEN))
        self.address = self.up().output("address")

    def give(self, pair: Pair) -> None:
        self.pair = pair
        given = {"certificate": pair.certificate + self.authority.pem, "private_key": pair.private_key}
        self.stack.settings = {
            **self.more,
            "tls": {"directory": self.pebble.directory, "ca": str(self.folder / "ca.pem"), "hsts": 300},
            "sites": {
                # A location with a header of its own.
                "given": {
                    "site": {"server_name": GIVEN},
                    "tls": given,
                    "nginx": {"static_immutable": True},
                    **self.own,
                },
                "www": {"site": {"server_name": self.www}, "tls": {"acme": True}},
            },
        }

    def up(self) -> Any:
        done = self.stack.up()
        self.printed += done.text
        return done

    def get(
        self,
        domain: str,
        path: str = "/",
        ca: Path | None = None,
        scheme: str = "https",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        context = ssl.create_default_context(cafile=ca or self.folder / "ca.pem")
        url, extensions = f"{scheme}://{self.address}{path}", {"sni_hostname": domain}
        with httpx.Client(trust_env=False, verify=context, timeout=10) as client:
            return client.get(url, headers={"Host": domain, **(headers or {})}, extensions=extensions)

    def serial(self, domain: str) -> int:
        """Serial number of the certificate that a new connection gets, whoever vouches for it."""
        with (
            socket.create_connection((self.address, 443), 10) as connection,
            ANYBODY.wrap_socket(connection, server_hostname=domain) as secured,
        ):
            certificate = secured.getpeercert(binary_form=True)
        assert certificate
        return x509.load_der_x509_certificate(certificate).serial_number

    def renew(self) -> tuple[bool, str]:
        """What the timer starts: whether it ended well, and what it has written into the journal."""
        began = self.stack.shell("date +%s.%N")
        done = self.stack.run("ssh", "--", "systemctl start wsgi-ecs-acme.service")
        journal = f"journalctl -o cat --since @{began} SYSLOG_IDENTIFIER=wsgi-ecs-acme"
        return done.code == 0, self.stack.shell(journal)

    @contextlib.contextmanager
    def asked(self, domain: str, scheme: str = "https") -> Iterator[list[Any]]:
        """Requests that go on meanwhile, each over a connection of its own: status or error."""
        found: list[Any] = []
        ended = threading.Event()

        def ask() -> None:
            extensions = {"sni_hostname": domain}
            while not ended.is_set():
                try:
                    url = f"{scheme}://{self.address}/healthz"
                    with httpx.Client(trust_env=False, verify=ANYBODY, timeout=10) as client:
                        found.append(client.get(url, headers={"Host": domain}, extensions=extensions).status_code)
                except httpx.HTTPError as error:
                    found.append(error)
                time.sleep(0.02)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()


@pytest.fixture(scope="module")
def site(project_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, authority = tmp_path_factory.mktemp("tls"), Authority()
    stack = new_stack(project_copy, "tls")
    # Another one than the stack would have of its own.
    pebble = Pebble(f"{stack.name}-ca")
    host.install(PACKAGES, print)
    try:
        pebble.open()
        pebble.start(SECONDS)
        yield Site(stack, pebble, authority, folder)
    finally:
        stack.run("destroy")
        pebble.close()


@pytest.fixture(scope="session")
def sslyze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sslyze")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    wanted = Path(__file__).with_name("sslyze.txt")
    subprocess.run([folder / "bin/pip", "install", "-q", "--disable-pip-version-check", "-r", wanted], check=True)
    return folder / "bin/sslyze"


def openssl(site: Site, domain: str, *options: str) -> str:
    command = ["openssl", "s_client", "-connect", f"{site.address}:443", "-servername", domain, *options]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", input="", timeout=10)
    return done.stdout + done.stderr


def test_a_domain_that_points_nowhere_yet_is_told_and_fails_nothing(site: Site) -> None:
    lines = [line.strip() for line in site.printed.splitlines() if WWW in line and "certificate" in line]
    assert len(lines) == 1, lines
    assert re.fullmatch(
        rf"wsgi-ecs: the certificate of {WWW} has not come yet, and browsers warn of the self-signed certificate: "
        r".*127\.0\.0\.9.*connection refused; next: point the domain's DNS at this server "
        "and let everybody reach port 80, it is tried again within the hour",
        lines[0],
    )
    assert f"GET https://{GIVEN}/ → 200 OK" in site.printed
    assert ", certificate verified" in site.printed


def test_the_timers_service_gets_the_certificate_when_the_domain_points_here(site: Site) -> None:
    assert site.stack.shell("systemctl is-enabled wsgi-ecs-acme.timer; systemctl is-active wsgi-ecs-acme.timer") == (
        "enabled\nactive"
    )
    before = site.serial(WWW)
    site.pebble.point(site.address, WWW)
    good, journal = site.renew()
    site.issued = time.monotonic()
    assert good, journal
    assert re.fullmatch(rf"wsgi-ecs: the certificate of {WWW} is new, good until \d{{4}}-\d\d-\d\d", journal)
    assert site.serial(WWW) != before
    page = site.get(WWW, "/Ada", site.pebble.root)
    assert (page.status_code, "Ada" in page.text) == (200, True)


def test_one_that_is_not_due_stays(site: Site) -> None:
    before = site.serial(WWW)
    good, journal = site.renew()
    assert good
    assert re.fullmatch(rf"wsgi-ecs: the certificate of {WWW} is good until \d{{4}}-\d\d-\d\d", journal)
    assert site.serial(WWW) == before


def test_the_given_one_is_served_with_those_between_it_and_its_root(site: Site) -> None:
    page = site.get(GIVEN, "/Ada")
    assert (page.status_code, "Ada" in page.text) == (200, True)
    assert site.serial(GIVEN) == site.pair.serial
    assert openssl(site, GIVEN, "-showcerts").count("BEGIN CERTIFICATE") == 2


def test_browsers_are_told_to_take_https_alone_where_that_is_wanted(site: Site) -> None:
    style = "/static/style.css"
    since = {"If-Modified-Since": site.get(GIVEN, style).headers["last-modified"]}
    asked: list[tuple[str, int, dict[str, str]]] = [
        ("/", 200, {}),
        ("/nowhere/at/all", 404, {}),
        (style, 200, {}),
        (style, 304, since),
        ("/static/nowhere.css", 404, {}),
    ]
    for path, status, headers in asked:
        answer = site.get(GIVEN, path, headers=headers)
        told = answer.headers.get_list("strict-transport-security")
        assert (path, answer.status_code, told) == (path, status, ["max-age=300"])
    # Who comes by HTTP is told nothing: RFC 6797, 7.2.
    plain = site.get(GIVEN, "/healthz", scheme="http")
    assert plain.status_code == 200
    assert "strict-transport-security" not in plain.headers


def test_http_is_sent_to_https_with_path_and_query(site: Site) -> None:
    answer = site.get(WWW, "/Ada?x=1&y=%2F", scheme="http")
    assert (answer.status_code, answer.headers["location"]) == (301, f"https://{WWW}/Ada?x=1&y=%2F")
    assert "strict-transport-security" not in answer.headers
    # What asks for health, and the CA, may know no HTTPS.
    assert site.get(WWW, "/healthz", scheme="http").status_code == 200
    assert site.get(WWW, "/healthz/x", scheme="http").status_code == 301
    assert site.get(WWW, "/.well-known/acme-challenge/none", scheme="http").status_code == 404


def test_http_2_is_spoken_and_old_protocols_are_not(site: Site) -> None:
    assert "ALPN protocol: h2" in openssl(site, WWW, "-alpn", "h2,http/1.1")
    assert "Cipher is TLS_" in openssl(site, WWW, "-tls1_3")
    assert "Cipher is ECDHE-" in openssl(site, WWW, "-tls1_2")
    for old in ("-tls1", "-tls1_1"):
        assert "alert protocol version" in openssl(site, WWW, old, "-cipher", "DEFAULT@SECLEVEL=0")


def test_a_name_that_nobody_has_gets_no_certificate(site: Site) -> None:
    for name in ("x.test", None):
        with (
            socket.create_connection((site.address, 443), 10) as connection,
            pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"),
        ):
            ANYBODY.wrap_socket(connection, server_hostname=name)
    assert site.get("x.test", scheme="http").status_code == 404


HEALTH = "GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"
# The name in the handshake, the name in the request, and the status.
MISDIRECTED = (
    (GIVEN, GIVEN, 200),
    (GIVEN.upper(), GIVEN, 200),
    (GIVEN, WWW, 421),
    (WWW, GIVEN, 421),
    (WWW, "x.test", 421),
)


@pytest.mark.parametrize(("name", "header", "status"), MISDIRECTED)
def test_a_connection_for_one_site_is_none_for_another(site: Site, name: str, header: str, status: int) -> None:
    with (
        socket.create_connection((site.address, 443), 10) as connection,
        ANYBODY.wrap_socket(connection, server_hostname=name) as secured,
    ):
        secured.sendall(HEALTH.format(header).encode())
        assert secured.recv(12).decode() == f"HTTP/1.1 {status}"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_comes_again_resumes_its_session(site: Site, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=site.folder / "ca.pem")
    context.minimum_version = context.maximum_version = version
    session = None
    for is_again in (False, True):
        with (
            socket.create_connection((site.address, 443), 10) as connection,
            context.wrap_socket(connection, server_hostname=GIVEN, session=session) as secured,
        ):
            secured.sendall(HEALTH.format(GIVEN).encode())
            # A server sends the session of TLS 1.3 after the handshake.
            assert secured.recv(12) == b"HTTP/1.1 200"
            assert secured.session_reused == is_again
            session = secured.session


def test_keys_are_roots_and_nowhere_else(site: Site) -> None:
    modes = site.stack.shell("cd /etc/wsgi-ecs/tls; stat -c '%U:%G %a %n' . *")
    assert modes.splitlines() == [
        "root:root 700 .",
        f"root:root 644 {GIVEN}.crt",
        f"root:root 600 {GIVEN}.key",
        f"root:root 600 {WWW}.ca",
        f"root:root 644 {WWW}.crt",
        f"root:root 600 {WWW}.key",
    ]
    site.stack.shell(f"! runuser -u wsgi-acme -- cat /etc/wsgi-ecs/tls/{WWW}.key 2>/dev/null")
    assert site.stack.shell("stat -c '%U %a' /var/lib/wsgi-acme/account/account.key") == "wsgi-acme 600"
    part = site.pair.private_key.splitlines()[1]
    found = site.stack.shell(
        f"grep -rlsF -D skip --exclude-dir=proc --exclude-dir=sys '{part}' / /run /tmp /dev/shm | sort -u; true"
    )
    assert found == f"/etc/wsgi-ecs/tls/{GIVEN}.key"
    assert part not in site.printed
    project = f"wsgi-ecs-{site.stack.name}"
    states = [lxd(f"/1.0/projects/{project}"), lxd(f"/1.0/instances?recursion=2&project={project}")]
    assert part not in str(states)
    archives = list((site.stack.folder / ".build").glob("*.tar.gz"))
    assert archives
    for path in archives:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member)
                assert content is None or part.encode() not in content.read(), member.name


def test_a_new_given_one_goes_live_and_the_same_one_changes_nothing(site: Site) -> None:
    before = site.serial(WWW)
    site.give(site.authority.sign(GIVEN, days=60))
    with site.asked(GIVEN) as found:
        done = site.up()
    assert re.search(r"^ ~ command:remote:Command +\S+-host-apply", done.out, re.MULTILINE)
    assert "-site-" not in done.out, "a site's own release is another matter"
    assert site.serial(GIVEN) == site.pair.serial
    assert set(found) == {200}
    assert site.serial(WWW) == before
    assert "17 unchanged" in site.up().out.splitlines()


def test_a_given_one_that_nginx_refuses_leaves_the_old_one(site: Site) -> None:
    old = site.pair
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505
    site.give(site.authority.sign(GIVEN, key=weak))
    with site.asked(GIVEN) as found:
        done = site.stack.run("up")
    assert done.code == 1
    assert "nginx refuses the configuration" in done.text
    assert "ee key too small" in done.text
    assert site.pair.private_key.splitlines()[1] not in done.text
    assert site.serial(GIVEN) == old.serial
    assert set(found) == {200}
    site.stack.shell("nginx -t -q")
    site.give(old)
    site.up()
    assert site.serial(GIVEN) == old.serial


def test_a_ca_that_is_away_leaves_the_old_one_and_one_clear_line(site: Site) -> None:
    before = site.serial(WWW)
    site.pebble.stop()
    time.sleep(max(0, site.issued + SECONDS * 2 / 3 + 1 - time.monotonic()))
    good, journal = site.renew()
    assert not good
    assert re.fullmatch(
        rf"wsgi-ecs: the certificate of {WWW} is not renewed, and the old one is valid until \d{{4}}-\d\d-\d\d: "
        "Connection refused; tried again within the hour",
        journal,
    )
    assert site.serial(WWW) == before


def test_a_renewed_one_is_served_and_no_request_is_lost(site: Site) -> None:
    before = site.serial(WWW)
    site.pebble.start(QUARTER)
    with site.asked(WWW) as found:
        good, journal = site.renew()
        time.sleep(0.5)
    assert good, journal
    assert site.serial(WWW) != before
    assert site.get(WWW, ca=site.pebble.root).status_code == 200
    assert len(found) > 10
    assert set(found) == {200}
    assert site.stack.shell("ls /var/lib/wsgi-acme/challenges; systemctl --failed --no-legend") == ""


def test_a_server_that_was_off_until_its_certificate_ended_gets_another_as_it_starts(site: Site) -> None:
    old = site.authority.sign(WWW, begins=datetime.now(UTC) - timedelta(days=100))
    texts = {"crt": old.certificate, "key": old.private_key}
    for kind, text in texts.items():
        site.stack.shell(f"cat >/etc/wsgi-ecs/tls/{WWW}.{kind} <<'E'\n{text}\nE")
    site.stack.shell("touch -d '100 days ago' /var/lib/systemd/timers/stamp-wsgi-ecs-acme.timer; nginx -s reload")
    until(lambda: site.serial(WWW) == old.serial)
    (machine,) = site.stack.machines().values()
    subprocess.run([CLIENT, "restart", "--force", machine["id"], "--project", site.stack.project], check=True)
    until(lambda: site.get(WWW, ca=site.pebble.root).status_code == 200, 90)


# What gixy-ng finds, and why it stays.
GIXY = {
    "if_is_evil": "error_page is followed by return, which ends the request there",
    "try_files_is_evil_too": "a cache of open files would serve those of the release before",
    "hsts_header": "a browser keeps it for longer than a first attempt with TLS lasts: tls.hsts",
    "http2_misdirected_request": "no handshake gets there",
}


def test_gixy_finds_nothing_else_in_nginxs_configuration(site: Site, tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(site.stack.shell("nginx -T 2>/dev/null"))
    command = [str(Path(sys.executable).with_name("gixy")), "-f", "json", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = {(issue["plugin"], issue["severity"]): issue["config"] for issue in json.loads(done.stdout)}
    assert "server_name" in "".join(found.values()), "it has not read the sites"
    assert {plugin for plugin, _ in found} <= set(GIXY), found


@pytest.mark.parametrize("domain", [GIVEN, WWW])
def test_it_is_what_mozilla_calls_intermediate(site: Site, sslyze: Path, domain: str) -> None:
    root = site.pebble.root if domain == WWW else site.folder / "ca.pem"
    target = f"{domain}:443{{{site.address}}}"
    command = [str(sslyze), "--mozilla_config=intermediate", "--certinfo_ca_file", str(root), target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "OK - Compliant" in done.stdout


# The version of h2spec that is built, with Go. The program itself is nowhere packaged.
H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
# Section of h2spec → how many of its cases nginx fails, and what it does in them.
H2SPEC_FAILS = {
    "generic/4": (1, "a request with trailers is refused"),
    "http2/4.2": (2, "a frame that is larger than announced is read"),
    "http2/5.1": (6, "frames of a stream that is not open are passed over"),
    "http2/6.4": (1, "frames of a stream that is not open are passed over"),
    "http2/8.1.2.1": (3, "a malformed request gets 400 in place of an error of its stream, or is answered"),
    "http2/8.1.2.2": (2, "header fields of HTTP/1.1 are passed over"),
    "http2/8.1.2.3": (7, "a malformed request gets 400 in place of an error of its stream"),
    "http2/8.1.2.6": (2, "a body of another length gets 400 in place of an error of its stream"),
    "hpack/4.2": (1, "a change of the table's size is taken anywhere"),
    "hpack/5.2": (1, "a long padding is taken"),
}


@in_whole_runs
def test_http_2_is_spoken_as_its_specification_says(site: Site, tmp_path: Path) -> None:
    go = shutil.which("go")
    if not go:
        pytest.skip("h2spec is built with Go")
    environment = {**os.environ, "GOBIN": str(tmp_path)}
    subprocess.run([go, "install", H2SPEC], check=True, capture_output=True, timeout=300, env=environment)
    # nginx refuses a handshake without the name of a site, and h2spec finds the address of a name by itself.
    (tmp_path / "hosts").write_text(f"{site.address} {GIVEN}\n")
    asks = f"./h2spec -h {GIVEN} -p 443 -P /healthz -t -k -j report.xml"
    script = f"mount --bind hosts /etc/hosts && {asks}; test -s report.xml"
    subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True, cwd=tmp_path, timeout=600)
    cases = list(ElementTree.parse(tmp_path / "report.xml").iter("testcase"))  # noqa: S314
    assert len(cases) == 145
    failed = Counter(each.get("package") for each in cases if len(each))
    print(f"{failed.total()} of {len(cases)} failed: {failed}")
    assert failed <= Counter({section: count for section, (count, _) in H2SPEC_FAILS.items()})


def test_where_no_site_wants_it_any_more_nothing_of_it_is_left(site: Site) -> None:
    settings = site.stack.settings
    plain = {name: {"site": own["site"]} for name, own in settings["sites"].items()}
    site.stack.settings = {"sites": plain}
    with site.asked(GIVEN, "http") as found:
        done = site.up()
    assert set(found) == {200}
    assert re.search(rf"^ +url +http://{GIVEN}/$", done.out, re.MULTILINE)
    left = "ls -A /etc/wsgi-ecs/tls; ls /etc/systemd/system | grep wsgi-ecs-acme; systemctl --failed --no-legend; true"
    assert site.stack.shell(left) == ""
    assert site.stack.shell("ss -Hltn 'sport = 443'") == ""


@in_whole_runs
def test_the_certificates_are_on_nginxs_machine_alone(site: Site, project_copy: Path) -> None:
    stack = new_stack(project_copy, "tls-apart")
    try:
        name, own = "apart.example.test", {"uwsgi": {"socket": "0.0.0.0:3041"}}
        apart = Site(stack, site.pebble, site.authority, site.folder, name, own, topology={"app_servers": 1})
        site.pebble.point(apart.address, name)
        good, journal = apart.renew()
        assert good, journal
        for domain, ca in ((GIVEN, None), (name, site.pebble.root)):
            page = apart.get(domain, ca=ca)
            # What the application takes for its own address.
            assert (page.status_code, f"https://{domain}" in page.text) == (200, True)
            assert page.headers["strict-transport-security"] == "max-age=300"
        assert apart.serial(GIVEN) == apart.pair.serial
        done = stack.run("ssh", "--machine", "app-1", "--", "ls -d /etc/wsgi-ecs/tls /var/lib/wsgi-acme; true")
        assert (done.code, done.out.strip()) == (0, "")
        assert not re.search(r"^ [~+-]", apart.up().out, re.MULTILINE)
    finally:
        stack.run("destroy")
