"""Certificates: what a user may say of them, and where they and their keys go."""

import configparser
import contextlib
import io
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from contract import paths
from contract.documents import Host, Probe
from operations import proof
from reference.samples import CLOUD
from rehearsal.commands.overlay import ca_file
from rehearsal.engine.stack import Stack
from serving import bootstrap, make_plan
from settings import SettingsError, certificates
from settings.loader import parse
from tests.builders.certificates import Authority, Pair, new_key, pem
from tests.builders.connections import accepting
from tests.builders.program import Recorder
from tests.unit.machine import module

FILE = "stacks/Pulumi.dev.yaml"
WWW = "www.example.test"
CA = Authority()
GIVEN = CA.sign(WWW)


def refusal(config: dict[str, Any], folder: Path = Path()) -> str:
    with pytest.raises(SettingsError) as error:
        certificates.check(parse(config, FILE), folder, FILE)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{FILE}: ")
    assert "MI" not in line, "part of a key or a certificate"
    return line.removeprefix(f"{FILE}: ")


def site(pair: Pair = GIVEN, name: str = WWW, **tls: Any) -> dict[str, Any]:
    own = {"certificate": pair.certificate, "private_key": pair.private_key, **tls}
    return {"site": {"server_name": name}, "tls": own}


ACME = {"site": {"server_name": WWW}, "tls": {"acme": True}}
COMBINATIONS: list[tuple[dict[str, Any], str]] = [
    ({**site(), "nginx": {"listen": 443}}, "tls.listen: port 443 is taken by nginx.listen; allowed: another port"),
    ({**site(listen=22)}, "tls.listen: port 22 is taken by SSH; allowed: another port"),
    (
        {"tls": {"hsts": 60}},
        "tls.hsts: set, but no site has a certificate by it; allowed: tls.certificate, or tls.acme: true",
    ),
    ({"tls": {"directory": "https://ca.test/dir"}},
        "tls.directory: set, but no site has a certificate by it; allowed: tls.acme: true"),
    (site(directory="https://ca.test/dir"),
        "tls.directory: set, but no site has a certificate by it; allowed: tls.acme: true"),
    ({"tls": {"acme": True, "directory": "http://ca.test/dir"}},
        "tls.directory: got http://ca.test/dir; allowed: a URL that starts with https"),
    ({"tls": {"hsts": -1}}, "tls.hsts: got -1; allowed: 0 or more"),
    ({"tls": {"acem": True}},
        "tls.acem: unknown key; allowed: acme, certificate, private_key, directory, ca, listen, redirect, hsts"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "line"), COMBINATIONS)
def test_what_makes_no_sense_together_is_refused_with_the_reason(config: dict[str, Any], line: str) -> None:
    assert refusal(config) == line


def several(**sites: dict[str, Any]) -> dict[str, Any]:
    return {"sites": sites}


def test_sites_of_one_domain_have_one_certificate() -> None:
    sea = {"site": {"server_name": WWW, "location": "/sea/"}}
    assert refusal(several(sky=site(), sea=sea)) == (
        "sites.sea.tls: differs from sites.sky.tls, but both serve the same domain; allowed: the same tls in both"
    )
    assert refusal(several(sky=site(), sea={**site(hsts=60), **sea})).startswith("sites.sea.tls: differs from")
    parse(several(sky=site(), sea={**site(), **sea}), FILE)
    parse({**several(sky={}, sea={"site": {"location": "/sea/"}}), **site()}, FILE)


def test_sites_share_the_port_of_tls_and_no_other() -> None:
    other = {"site": {"server_name": "blog.example.test"}, "tls": {"acme": True}}
    settings = parse(several(sky=site(), blog=other), FILE)
    assert [one.tls.listen for one in settings.sites] == [443, 443]
    plain = {"site": {"server_name": "plain.example.test"}, "nginx": {"listen": 443}}
    assert refusal(several(sky=site(), plain=plain)) == (
        "sites.plain.nginx.listen: port 443 is taken by sites.sky.tls.listen; allowed: another port"
    )


def test_a_machine_has_one_ca() -> None:
    own = {**ACME, "tls": {"acme": True, "directory": "https://ca.test/dir"}}
    assert refusal(several(sky=own)) == (
        "sites.sky.tls.directory: one for the machine; allowed: tls.directory, for all sites"
    )


@pytest.mark.parametrize("name", ["acme", "build", "shop-web"])
def test_no_site_runs_as_a_user_of_the_machines_own(name: str) -> None:
    """The build user installs what a package index sends, the ACME user holds the account's key."""
    line = f"wsgi-{name} is another user or group of the machine; allowed: any other name"
    assert refusal(several(**{name: {}})) == f"sites.{name}: {line}"
    assert refusal({"site": {"name": name}}) == f"site.name: {line}"


def test_a_site_may_have_none_where_all_others_have() -> None:
    plain = {"site": {"server_name": "plain.example.test"}, "tls": {"acme": False}}
    settings = parse({**several(sky={"site": {"server_name": WWW}}, plain=plain), "tls": {"acme": True}}, FILE)
    assert [one.tls.enabled for one in settings.sites] == [True, False]


PEM = "allowed: PEM text, or a file with it"
LATER = datetime.now(UTC) + timedelta(days=7)
WRONG: list[tuple[dict[str, Any], str]] = [
    (site(certificate="nowhere.pem"), f"tls.certificate: neither PEM text nor a file that can be read; {PEM}"),
    (site(private_key="nowhere.pem"), f"tls.private_key: neither PEM text nor a file that can be read; {PEM}"),
    (site(certificate=GIVEN.private_key),
        f"tls.certificate: no certificate in PEM (-----BEGIN CERTIFICATE-----); {PEM}"),
    (site(private_key=GIVEN.certificate),
        f"tls.private_key: no private key in PEM (-----BEGIN PRIVATE KEY-----); {PEM}"),
    (site(private_key=GIVEN.private_key[:90]),
        f"tls.private_key: no private key in PEM (-----BEGIN PRIVATE KEY-----); {PEM}"),
    (site(private_key=GIVEN.private_key.split("\n", 1)[1]),
        f"tls.private_key: neither PEM text nor a file that can be read; {PEM}"),
    (site(private_key=pem(new_key(), b"hunter2")),
        "tls.private_key: it is encrypted; allowed: a key without a passphrase"),
    (site(private_key=pem(ed25519.Ed25519PrivateKey.generate())),
        "tls.private_key: neither RSA nor EC, which every browser takes; allowed: one of them"),
    (site(private_key=pem(new_key())),
        f"tls.private_key: it does not fit tls.certificate, whose first one is for {WWW}; "
        "allowed: the key of the domain's certificate, which comes first"),
    (site(certificate=CA.pem + GIVEN.certificate),
        "tls.private_key: it does not fit tls.certificate, whose first one is for no domain; "
        "allowed: the key of the domain's certificate, which comes first"),
    (site(CA.sign("example.test", "*.b.example.test", "203.0.113.7")),
        "tls.certificate: it is for example.test, *.b.example.test, 203.0.113.7; "
        f"allowed: one for site.server_name, which is {WWW}"),
    (site(CA.sign("*.example.test"), "a.b.example.test"),
        "tls.certificate: it is for *.example.test; "
        "allowed: one for site.server_name, which is a.b.example.test"),
    (site(CA.sign(WWW, begins=datetime(2024, 1, 1, tzinfo=UTC))),
        "tls.certificate: it ended on 2024-03-31; allowed: one that is valid"),
    (site(CA.sign(WWW, begins=LATER)),
        f"tls.certificate: it begins on {LATER:%Y-%m-%d}; allowed: one that is valid"),
    (site(ca="nowhere.pem"), f"tls.ca: neither PEM text nor a file that can be read; {PEM}"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "line"), WRONG)
def test_a_wrong_certificate_or_key_is_refused_with_the_reason(config: dict[str, Any], line: str) -> None:
    assert refusal(config) == line


def test_a_certificate_without_subject_alt_names_is_refused_by_that_name() -> None:
    assert refusal(several(sky=site(CA.sign(WWW, san=False)))) == (
        "sites.sky.tls.certificate: it has no subjectAltName, and browsers ignore its common name; "
        f"allowed: one with subjectAltName {WWW}, as docs/recipes.md makes it"
    )


def test_a_private_key_never_travels_as_a_root(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CA.pem + GIVEN.private_key)
    assert refusal(site(ca="ca.pem"), tmp_path) == (
        "tls.ca: it holds a private key; allowed: a PEM file with certificates alone"
    )


@pytest.mark.parametrize(
    ("pair", "name"),
    [
        (GIVEN, WWW),
        (GIVEN, WWW.upper()),
        (CA.sign("*.example.test"), WWW),
        (CA.sign("*.example.test"), "*.example.test"),
        (CA.sign("203.0.113.7"), "203.0.113.7"),
        (CA.sign(WWW, key=rsa.generate_private_key(65537, 2048)), WWW),
    ],
)
def test_a_certificate_for_the_domain_is_taken_as_text_or_as_files(tmp_path: Path, pair: Pair, name: str) -> None:
    (tmp_path / "all.pem").write_text(pair.private_key + pair.certificate + CA.pem)
    for own in ({}, {"certificate": "all.pem", "private_key": "all.pem"}):
        settings = parse(site(pair, name, **own), FILE)
        certificates.check(settings, tmp_path, FILE)
        ((domain, found),) = certificates.given(settings, tmp_path).items()
        assert domain == name.lower()
        assert found.certificate.startswith(pair.certificate)
        assert found.private_key.get_secret_value() == pair.private_key
        # Everybody may read what nginx sends.
        assert "PRIVATE" not in found.certificate
        assert pair.private_key.split()[4] not in repr(found) + repr(settings)


def test_a_certificate_that_ends_soon_is_a_warning() -> None:
    def lines(days: float) -> list[str]:
        pair = CA.sign(WWW, days=days, begins=datetime.now(UTC) - timedelta(hours=1))
        return certificates.warnings(certificates.given(parse(site(pair), FILE), Path()))

    assert lines(31) == []
    (line,) = lines(12.5)
    ends = datetime.now(UTC) + timedelta(days=12.5, hours=-1)
    assert line == (
        f"the certificate of {WWW} ends in 12 days, on {ends:%Y-%m-%d}; "
        "put a new one into tls.certificate and tls.private_key, and run up"
    )


OTHERS = {
    "sky": {"tls": {"acme": True}, "site": {"server_name": WWW}},
    "sea": {"tls": {"acme": True}, "site": {"server_name": WWW, "location": "/sea/"}, "app": {"health": "/up?x=1"}},
    "blog": {"tls": {"certificate": "x", "private_key": "y", "hsts": 60}, "site": {"server_name": "*.blog.test"}},
}


def server_blocks(config: dict[str, Any], os: str = "debian12") -> dict[str, str]:
    """`listen` and `server_name` of each server block → its text; "" is what stands around them."""
    plan = make_plan(parse({"server": {"os": os}, **config}, FILE))
    around, *blocks = plan.configs["nginx.conf"].split("\n    server {\n")
    found = {"": around}
    for block in blocks:
        listen = re.findall(r"listen (.*);", block)
        found[" ".join(listen + re.findall(r"server_name (.*);", block))] = block
    return found


def test_each_domain_has_a_block_for_http_and_one_for_https() -> None:
    blocks = server_blocks(several(**OTHERS))
    assert list(blocks) == [
        "",
        f"80 {WWW}",
        f"443 ssl http2 {WWW}",
        "80 *.blog.test",
        "443 ssl http2 *.blog.test",
        "80 default_server",
        "443 ssl http2 default_server",
    ]
    secure = blocks[f"443 ssl http2 {WWW}"]
    assert f"ssl_certificate /etc/wsgi-ecs/tls/{WWW}.crt;\n" in secure
    assert f"ssl_certificate_key /etc/wsgi-ecs/tls/{WWW}.key;\n" in secure
    assert secure.count("/current/server.conf;") == 2
    assert "return 301" not in secure
    assert "ssl_certificate /etc/wsgi-ecs/tls/_.blog.test.crt;\n" in blocks["443 ssl http2 *.blog.test"]
    # A name that nobody has is nobody's site, and gets no certificate from an nginx that can refuse it.
    assert "return 404;" in blocks["80 default_server"]
    nobodys = blocks["443 ssl http2 default_server"]
    assert "@@if_ssl_reject_handshake@@ssl_reject_handshake on;\n        return 421;" in nobodys


def test_a_connection_for_one_domain_is_none_for_another() -> None:
    blocks = server_blocks(several(**OTHERS))
    names = f'hostnames;\n        default "";\n        *.blog.test *.blog.test;\n        {WWW} {WWW};\n'
    assert f"map $ssl_server_name $wsgi_tls_name {{\n        {names}" in blocks[""]
    for name, text in blocks.items():
        checks = re.findall(r'if \(\$wsgi_tls_name !~ "(.*)"\) \{\n            return 421;', text)
        assert len(checks) == (name.startswith("443 ") and "default_server" not in name), name
        for check in checks:
            # An nginx that is too old to refuse an unknown name takes it, and so may a name of nginx.extra be.
            own = name.rpartition(" ")[2]
            assert [each for each in ("", WWW, "*.blog.test") if re.search(check, each)] == ["", own]
    assert "wsgi_tls_name" not in "".join(server_blocks(ACME).values())


@pytest.mark.parametrize(
    ("more", "rejects"),
    [
        ({}, True),
        # A proxy may name no site in its handshake, and a client of an address cannot.
        ({"nginx": {"set_real_ip_from": "100.64.0.0/10"}}, False),
        ({"site": {"server_name": "203.0.113.9"}}, False),
    ],
)
def test_a_handshake_for_no_site_is_refused_where_all_clients_name_theirs(more: dict[str, Any], rejects: bool) -> None:
    given = {"tls": {"certificate": "x", "private_key": "y"}, "site": {"server_name": WWW}}
    blocks = server_blocks({**given, **more})
    assert ("ssl_reject_handshake" in blocks["443 ssl http2 default_server"]) == rejects
    assert "ssl_reject_handshake" not in blocks["80 default_server"]


def test_http_is_sent_to_https_but_for_health_and_the_cas_questions() -> None:
    blocks = server_blocks(several(**OTHERS))
    plain = blocks[f"80 {WWW}"]
    assert f"return 301 https://{WWW}$request_uri;" in plain
    (pattern,) = re.findall(r'if \(\$request_uri !~ "(.*)"\)', plain)
    kept = ["/healthz", "/healthz?x=1", "/sea/up", "/sea/up?x=1", "/.well-known/acme-challenge/a-B_9"]
    sent = ["/", "/healthz/", "/healthzz", "/x/healthz", "/sea/up/x", "/?/healthz", "/.well-known/acme-challenge/../x"]
    assert [path for path in kept + sent if re.search(pattern, path)] == kept
    assert "alias /var/lib/wsgi-acme/challenges/;" in plain
    other = blocks["80 *.blog.test"]
    assert "acme-challenge" not in other
    assert "return 301 https://$host$request_uri;" in other


def test_what_is_told_of_https_is_a_setting() -> None:
    blocks = server_blocks(several(**OTHERS))
    assert [name for name, text in blocks.items() if "Strict-Transport-Security" in text] == [
        "443 ssl http2 *.blog.test"
    ]
    assert 'Strict-Transport-Security "max-age=60" always;' in blocks["443 ssl http2 *.blog.test"]
    # A site's own part is read by both blocks, and says it over TLS alone.
    sites = {own.place.name: own.configs for own in make_plan(parse(several(**OTHERS), FILE)).sites}
    assert 'map $scheme $wsgi_hsts_blog {\n    https "max-age=60";\n}\n' in sites["blog"]["http.conf"]
    assert "add_header Strict-Transport-Security $wsgi_hsts_blog always;" in sites["blog"]["server.conf"]
    assert "hsts" not in "".join(sites["sky"].values())
    blocks = server_blocks({**ACME, "tls": {"acme": True, "redirect": False, "listen": 8443}})
    assert "return 301" not in "".join(blocks.values())
    assert f"8443 ssl http2 {WWW}" in blocks
    blocks = server_blocks({**ACME, "tls": {"acme": True, "listen": 8443}})
    assert f"return 301 https://{WWW}:8443$request_uri;" in blocks[f"80 {WWW}"]


def test_the_protocols_are_what_the_systems_openssl_knows() -> None:
    for os, curves in (("debian12", "X25519:prime256v1:secp384r1"), ("centos7", "prime256v1:secp384r1")):
        around = server_blocks(ACME, os)[""]
        assert f"    ssl_ecdh_curve {curves};\n" in around
        assert "    ssl_protocols TLSv1.2 TLSv1.3;\n" in around
    assert "ssl" not in "".join(server_blocks({}).values())


@pytest.mark.parametrize(("version", "directive"), [("1.25.0", False), ("1.25.1", True), ("1.28.0", True)])
def test_a_newer_nginx_has_a_directive_for_http_2(version: str, directive: bool) -> None:
    built = {"install": "source", "version": version, "archive": "nginx.tar.gz", "sha256": "0" * 64}
    blocks = server_blocks({**ACME, "nginx": built})
    assert ("http2 on;" in blocks[""]) == directive
    assert (f"443 ssl {WWW}" in blocks) == directive


def test_nobody_sees_tls_where_it_is_not_wanted() -> None:
    plan = make_plan(parse({}, FILE))
    assert plan.ports == (80,)
    assert [name for name in plan.configs if name.startswith(("nginx", "acme"))] == ["nginx.conf"]
    assert isinstance(plan.host, Host)
    assert (plan.host.given, plan.host.acme) == ([], [])


def test_the_first_boot_knows_nothing_of_it(tmp_path: Path) -> None:
    """What cloud-init writes has no certificate: that comes with the first release."""
    for config in (ACME, site()):
        settings = parse(config, FILE)
        text = bootstrap.user_data(make_plan(settings), settings)
        assert "ssl" not in text
        assert bootstrap.version(make_plan(settings), settings) == bootstrap.version(
            make_plan(parse({}, FILE)), parse({}, FILE)
        )


def test_the_machine_is_told_which_domains_ask_which_ca() -> None:
    plan = make_plan(parse({**several(**OTHERS), "tls": {"ca": "ca.pem"}, "server": {"os": "centos7"}}, FILE))
    assert json.loads(plan.configs["acme.json"]) == {
        "domains": [WWW],
        "directory": "https://acme-v02.api.letsencrypt.org/directory",
        "ca": "acme-ca.pem",
        "client": "acme-tiny==5.0.1 --hash=sha256:c4de71930be17048de1da00cd1ea429523ab722ecd21c904b0e5aeee967f7d0f",
    }
    assert isinstance(plan.host, Host)
    assert (plan.host.given, plan.host.acme) == (["*.blog.test"], [WWW])
    assert plan.sources == {"config/acme-ca.pem": "ca.pem"}
    timer = configparser.RawConfigParser()
    timer.read_string(plan.configs["wsgi-ecs-acme.timer"])
    assert timer["Timer"]["oncalendar"] == "hourly"


def test_a_site_with_a_certificate_is_reached_by_https(
    run_program: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    program = run_program({**CLOUD, **site(CA.sign(WWW, days=12)), "server": {"os": "debian12"}})
    assert program.outputs["url"] == f"https://{WWW}/"
    assert program.inputs(":SecurityGroupRule", "443-from-0.0.0.0-0")["portRange"] == "443/443"
    assert program.inputs(":SecurityGroupRule", "80-from-0.0.0.0-0")["portRange"] == "80/80"
    assert f"the certificate of {WWW} ends in 10 days" in caplog.text


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine's folder of certificates, for the tool."""
    monkeypatch.setattr(paths, "ETC", str(tmp_path))
    return tmp_path / "tls"


pairs, acme, probe, release = (module(name) for name in ("certificates", "acme", "probe", "release"))


def sent(pair: Pair) -> dict[str, dict[str, str]]:
    return {WWW: {"certificate": pair.certificate, "private_key": pair.private_key}}


def test_a_given_pair_is_put_in_place_and_given_back(machine: Path) -> None:
    first, second = CA.sign(WWW), CA.sign(WWW)
    assert not pairs.are_in_place(sent(first))
    nothing = pairs.put(sent(first), [WWW], [])
    assert pairs.are_in_place(sent(first))
    modes = {path.name: path.stat().st_mode & 0o777 for path in [machine, *machine.iterdir()]}
    assert modes == {"tls": 0o700, f"{WWW}.crt": 0o644, f"{WWW}.key": 0o600}
    before = pairs.put(sent(second), [WWW], [])
    assert pairs.are_in_place(sent(second))
    pairs.put_back(before)
    assert pairs.are_in_place(sent(first))
    # With nothing on standard input the one in place stays.
    assert pairs.put({}, [WWW], []) == {}
    pairs.put_back(nothing)
    assert list(machine.iterdir()) == []
    with pytest.raises(Exception, match=rf"no certificate of {WWW} on standard input"):
        pairs.put({}, [WWW], [])


def test_a_domain_begins_with_a_certificate_that_has_signed_itself_and_is_due(machine: Path) -> None:
    name = "a" * 60 + ".example.test"
    pairs.put({}, [], [WWW, name, "*.example.test"])
    for domain in (WWW, name, "*.example.test"):
        text = Path(pairs.path(domain, "crt")).read_bytes()
        certificate = x509.load_pem_x509_certificate(text)
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert san.get_values_for_type(x509.DNSName) == [domain]
        found = pairs.Certificate(domain)
        assert found.self_signed
        assert acme.due(found)
        assert found.ends == certificate.not_valid_after_utc.timestamp()
    assert len(list(machine.iterdir())) == 6
    key = Path(pairs.path(WWW, "key")).read_text()
    pairs.put({}, [], [WWW])
    assert Path(pairs.path(WWW, "key")).read_text() == key, "once"
    (machine / "new-left").mkdir()
    pairs.remove_others([WWW])
    assert {path.name for path in machine.iterdir()} == {f"{WWW}.crt", f"{WWW}.key"}


@pytest.mark.parametrize(("days", "passed", "due"), [(90, 59, False), (90, 61, True), (6, 3.9, False), (6, 4.1, True)])
def test_a_certificate_is_due_when_a_third_of_its_life_is_left(
    machine: Path, days: float, passed: float, due: bool
) -> None:
    pair = CA.sign(WWW, days=days, begins=datetime.now(UTC) - timedelta(days=passed))
    pairs.put(sent(pair), [WWW], [])
    assert acme.due(pairs.Certificate(WWW)) == due


class FakeNginx:
    """An nginx that is not there, since the tests need no root."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.reloads = refuses, 0

    def check(self, file: str) -> None:
        if self.refuses:
            raise module("commands").ReleaseError("nginx refuses the configuration", "[emerg] bad\nmore")

    def workers(self) -> set[int]:
        return {1}

    def reload(self) -> None:
        self.reloads += 1


def test_a_certificate_for_another_key_or_that_nginx_refuses_leaves_the_old_one(machine: Path) -> None:
    key = new_key()
    first, second = CA.sign(WWW, key=key), CA.sign(WWW, key=key)
    pairs.put(sent(first), [WWW], [])
    for chain, nginx, why in (
        (GIVEN.certificate, FakeNginx(), "the CA's certificate is not for this machine's key"),
        (second.certificate, FakeNginx(refuses=True), "nginx refuses the configuration"),
    ):
        with pytest.raises(module("commands").ReleaseError, match=why):
            pairs.replace(WWW, chain, nginx)
        assert pairs.are_in_place(sent(first))
        assert nginx.reloads == 0
    nginx = FakeNginx()
    pairs.replace(WWW, second.certificate, nginx)
    assert pairs.are_in_place(sent(second))
    assert nginx.reloads == 1
    assert len(list(machine.iterdir())) == 2


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "ValueError: Challenge did not pass for www.example.test: {'status': 'invalid', 'error': {'type': 'x', "
            "'detail': 'Get \"http://www.example.test:80/x\": dial tcp 127.0.0.9:80: connection refused'}}",
            'Get "http://www.example.test:80/x": dial tcp 127.0.0.9:80: connection refused',
        ),
        (
            "ValueError: Error creating new order:\nUrl: https://ca.test/order\nData: b'{}'\nResponse Code: 429\n"
            "Response: {'type': 'urn:ietf:params:acme:error:rateLimited', 'detail': \"too many, it's enough\"}",
            "too many, it's enough",
        ),
        (
            "ValueError: Error getting directory:\nUrl: https://ca.test/dir\nData: None\nResponse Code: None\n"
            "Response: <urlopen error [Errno 111] Connection refused>",
            "Connection refused",
        ),
        ("Traceback (most recent call last):\n  File x\nAssertionError: Polling timeout", "Polling timeout"),
        ("", ""),
    ],
)
def test_of_the_clients_traceback_the_user_sees_the_cas_words(lines: str, words: str) -> None:
    assert acme.reason(lines) == words


def test_what_did_not_come_is_one_line_that_says_what_to_do(machine: Path) -> None:
    error = module("commands").ReleaseError
    pairs.put({}, [], [WWW])
    own = pairs.Certificate(WWW)
    waits = f"the certificate of {WWW} has not come yet, and browsers warn of the self-signed certificate: "
    assert acme._failure(WWW, own, error("no\nroute", then="mend it")) == (
        waits + "no route; next: mend it, it is tried again within the hour"
    )
    assert acme._failure(WWW, own, OSError("gone")) == waits + "gone; tried again within the hour"
    pairs.put(sent(GIVEN), [WWW], [])
    good = pairs.Certificate(WWW)
    assert acme._failure(WWW, good, error("nginx refuses", "[emerg] bad\nmore")) == (
        f"the certificate of {WWW} is not renewed, and the old one is valid until {acme.day(good)}: "
        "nginx refuses: [emerg] bad; tried again within the hour"
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"hosts": {}, "tls": {"a": {"private_key": "hunter2"}}}',
        '{"hosts": {}, "tls": ["hunter2"]}',
        '{"hosts": {}, "tls": {}, "hunter2": {}}',
    ],
)
def test_what_is_no_certificate_on_standard_input_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(module("commands").ReleaseError) as error:
        release.read(io.BytesIO(text.encode()), "prepare")
    assert str(error.value) == "standard input is not JSON as {authority, database, hosts, store, tls}"
    assert release.read(io.BytesIO(b" "), "prepare") is None
    for text, verb in (('{"hosts": {}, "tls": {}}', "prepare"), ('{"env": {}, "files": {}}', "apply")):
        assert release.read(io.BytesIO(text.encode()), verb) == json.loads(text)
        # What is not named must not be taken for nothing.
        with pytest.raises(module("commands").ReleaseError):
            release.read(io.BytesIO(b"{}"), verb)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, list[tuple[str | None, str]]]]:
    """A site over TLS with GIVEN: its port, and what it was asked: name and request."""
    (tmp_path / "pair.pem").write_text(GIVEN.private_key + GIVEN.certificate)
    asked: list[tuple[str | None, str]] = []
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    context.sni_callback = lambda _, name, __: names.append(name)

    def serve(connection: socket.socket) -> None:
        # Whoever does not take the certificate ends it.
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            asked.append((names[-1], secured.recv(65536).decode()))
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    with accepting(serve) as port:
        yield port, asked


def test_the_probe_asks_over_tls_under_the_sites_name(server: tuple[int, list[tuple[str | None, str]]]) -> None:
    port, asked = server
    answer = probe.through_entrance(Probe("/healthz", WWW, port, tls=True))
    assert answer.good
    ((name, request),) = asked
    assert name == WWW
    assert request.startswith("GET /healthz HTTP/1.0\r\n")
    assert f"\r\nHost: {WWW}\r\n" in request
    assert "\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n" in request
    uwsgi = probe._uwsgi(Probe("/healthz", WWW, port=443, tls=True))
    assert b"UWSGI_SCHEME\x05\x00https" in uwsgi
    assert b"HTTPS\x02\x00on" in uwsgi


def test_the_proof_says_whether_the_certificate_is_verified(
    tmp_path: Path, server: tuple[int, list[tuple[str | None, str]]]
) -> None:
    port, asked = server
    (tmp_path / "ca.pem").write_text(CA.pem)
    answer = proof.request(f"https://{WWW}:{port}/", "127.0.0.1", tmp_path / "ca.pem")
    assert answer.good
    assert answer.line.endswith(", certificate verified")
    answer = proof.request(f"https://{WWW}:{port}/", "127.0.0.1")
    assert answer.good
    assert answer.line.endswith(", certificate not verified: unable to get local issuer certificate")
    answer = proof.request(f"https://other.example.test:{port}/", "127.0.0.1", tmp_path / "ca.pem")
    assert answer.good
    assert ", certificate not verified: Hostname mismatch" in answer.line
    assert [name for name, _ in asked] == [WWW, WWW, "other.example.test"]


def test_the_proofs_roots_are_those_of_the_settings(tmp_path: Path) -> None:
    asking = {"wsgi-ecs:tls": '{"ca": "ca.pem", "acme": true}', "wsgi-ecs:site": '{"server_name": "www.example.test"}'}
    config = Stack("wsgi-ecs", "x", asking)
    assert ca_file(config, tmp_path) == tmp_path / "ca.pem"
    assert ca_file(Stack("wsgi-ecs", "x", {}), tmp_path) is None
