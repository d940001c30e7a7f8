"""The load balancer of a rehearsal: HAProxy's configuration, and where its machine is, on an LXD that only keeps it."""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud import addressing, group_bridge, haproxy, image, machine, public_address, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.image import BaseImage
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.resources import alb_load_balancer
from rehearsal.cloud.resources.alb_listener import Listener, ListenerRule
from rehearsal.cloud.resources.alb_server_group import ServerGroup
from rehearsal.cloud.resources.service_certificate import ServiceCertificate
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.state import Record
from tests.builders.stores import NOWHERE, cloud_context

CHECK = {
    **{"healthCheckMethod": "GET", "healthCheckPath": "/healthz", "healthCheckHost": "www.example.test"},
    **{"healthCheckInterval": 2, "healthyThreshold": 3, "unhealthyThreshold": 3},
}
SERVERS = [
    {"serverId": f"i-{n}", "serverIp": f"10.76.0.3{n}", "port": 80, "serverType": "Ecs", "weight": 100} for n in (1, 2)
]
GROUP: dict[str, Any] = {
    **{"protocol": "HTTP", "serverGroupType": "Instance", "scheduler": "Wrr", "healthCheckConfig": CHECK},
    **{"connectionDrainConfig": {"connectionDrainTimeout": 60}, "servers": SERVERS},
    "stickySessionConfig": {"stickySessionEnabled": False},
}


def forward(group: str) -> dict[str, Any]:
    return {"type": "ForwardGroup", "forwardGroupConfig": {"serverGroupTuples": [{"serverGroupId": group}]}}


HTTP = {
    **{"loadBalancerId": "alb-1", "listenerPort": 80, "listenerProtocol": "HTTP", "gzipEnabled": False},
    **{"defaultActions": [forward("sgp-1")], "idleTimeout": 65, "requestTimeout": 61},
}
HTTPS = {
    **HTTP,
    **{"listenerPort": 443, "listenerProtocol": "HTTPS", "http2Enabled": True},
    **{"certificates": {"certificateId": "cas1-cn-hangzhou"}},
    "securityPolicyId": "tls_cipher_policy_1_2_strict_with_1_3",
}
REDIRECT = {
    "order": 1,
    "type": "Redirect",
    "redirectConfig": {
        **{"protocol": "HTTPS", "port": "443", "host": "www.example.test", "path": "${path}", "query": "${query}"},
        "httpCode": "301",
    },
}
ANY = [{"type": "Path", "pathConfig": {"values": ["/*"]}}]


def record(type_: str, name: str, inputs: dict[str, Any], serial: str = "1", **more: Any) -> Record:
    return Record(serial, f"urn:{name}", type_, name, name, inputs, **{"status": "done", **more})


def rendered(*rules: dict[str, Any], group: dict[str, Any] = GROUP) -> str:
    listeners = [record(tokens.LISTENER, "lsn-1", HTTP), record(tokens.LISTENER, "lsn-2", HTTPS)]
    parts = {
        tokens.LISTENER: listeners,
        tokens.LISTENER_CERTIFICATE: [
            record(tokens.LISTENER_CERTIFICATE, "c", {"listenerId": "lsn-2", "certificateId": "cas2-cn-hangzhou"})
        ],
        tokens.LISTENER_RULE: [record(tokens.LISTENER_RULE, f"r{n}", rule) for n, rule in enumerate(rules)],
        tokens.SERVER_GROUP: [record(tokens.SERVER_GROUP, "sgp-1", group)],
    }
    text = haproxy.config(listeners, parts, "10.76.18.1")
    if shutil.which("haproxy"):
        done = subprocess.run(["haproxy", "-c", "-f", "/dev/stdin"], input=text, text=True, capture_output=True)
        assert "unknown keyword" not in done.stderr
    return text


def lines(text: str, section: str) -> list[str]:
    """The lines of one section."""
    _, _, rest = text.partition(f"\n{section}\n")
    return [line.strip() for line in rest.split("\nfrontend ")[0].split("\nbackend ")[0].splitlines()]


def test_https_ends_there_and_http_is_sent_there() -> None:
    text = rendered({"listenerId": "lsn-1", "priority": 9900, "ruleConditions": ANY, "ruleActions": [REDIRECT]})
    assert lines(text, "frontend lsn-2")[0] == (
        "bind :443 ssl crt /etc/haproxy/certificates/cas1.pem crt /etc/haproxy/certificates/cas2.pem "
        "alpn h2,http/1.1 ssl-min-ver TLSv1.2"
    )
    http = lines(text, "frontend lsn-1")
    assert "acl rule0_path path_beg /" in http
    assert (
        "http-request redirect code 301 location https://www.example.test%[pathq] if { var(txn.rule) -m str rule0 }"
        in http
    )
    assert http[-1] == "default_backend sgp-1"


def test_the_servers_are_told_who_a_client_is_as_the_cloud_tells_them() -> None:
    for section, scheme in (("frontend lsn-1", "http"), ("frontend lsn-2", "https")):
        found = lines(rendered(), section)
        assert f"http-request set-header X-Forwarded-Proto {scheme}" in found
        # The client's own address is the last, whatever it says itself.
        assert "http-request set-header X-Forwarded-For %[req.fhdr(X-Forwarded-For)],\\ %[src] if is_forwarded" in found
        assert not [line for line in found if "X-Forwarded-Host" in line]


def test_servers_are_checked_as_the_cloud_checks_them() -> None:
    assert lines(rendered(), "backend sgp-1") == [
        "balance roundrobin",
        # By this address the servers know the balancer.
        "source 10.76.18.1",
        "option redispatch",
        "option httpchk",
        "http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host www.example.test",
        "http-check expect status 200-299",
        "server i-1 10.76.0.31:80 check inter 2s rise 3 fall 3",
        "server i-2 10.76.0.32:80 check inter 2s rise 3 fall 3",
    ]
    assert "    hard-stop-after 60s\n" in rendered()
    sticky = {**GROUP, "stickySessionConfig": {"stickySessionEnabled": True, "cookieTimeout": 600}}
    found = lines(rendered(group=sticky), "backend sgp-1")
    assert "cookie SERVERID insert indirect nocache maxlife 600s" in found
    assert found[-1].endswith(" cookie i-2")


def test_the_first_rule_that_fits_decides() -> None:
    docs = [{"type": "Path", "pathConfig": {"values": ["/docs/*", "/docs"]}}]
    host = {"type": "Host", "hostConfig": {"values": ["*.example.test"]}}
    text = rendered(
        {"listenerId": "lsn-2", "priority": 9900, "ruleConditions": [*ANY, host], "ruleActions": [forward("sgp-1")]},
        {"listenerId": "lsn-2", "priority": 9400, "ruleConditions": docs, "ruleActions": [forward("sgp-1")]},
    )
    found = lines(text, "frontend lsn-2")
    assert [line for line in found if line.startswith("acl rule0")] == [
        "acl rule0_path path_beg /docs/",
        "acl rule0_path path /docs",
    ]
    assert "acl rule1_host req.hdr(host),field(1,:),lower -m end .example.test" in found
    assert "http-request set-var(txn.rule) str(rule1) if rule1_path rule1_host !{ var(txn.rule) -m found }" in found


class Machines:
    """The machines of a stack. ran: what ran on each, written: path to text."""

    project = "wsgi-ecs-test"

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.written: dict[str, str] = {}

    def find(self, path: str) -> Any:
        return {"status": "Running"}

    def get(self, path: str) -> Any:
        return {"pid": 0}

    def exec(self, name: str, command: Sequence[str], timeout: float = 30) -> str:
        self.ran.append(" ".join(command))
        return ""

    def write(self, name: str, path: str, text: str, mode: str = "0600") -> None:
        self.written[path] = text


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    made = Machines()
    monkeypatch.setattr(CloudContext, "lxd", made)
    return made


@pytest.fixture
def context(machines: Machines, tmp_path: Path) -> CloudContext:
    return cloud_context(NOWHERE, Keys(tmp_path))


def test_the_key_of_a_certificate_is_in_no_record_and_reaches_haproxy(
    context: CloudContext, machines: Machines, tmp_path: Path
) -> None:
    certificate = record(tokens.SERVICE_CERTIFICATE, "cas1", {"certificateName": "a"}, "2")
    ServiceCertificate().create(context, certificate, {"cert": "CERT\n", "key": "KEY\n"})
    path = tmp_path / "cas1.pem"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("CERT\nKEY\n", 0o600)
    for serial, each in enumerate(
        (
            record(tokens.LOAD_BALANCER, "alb-1", {}, facts={"source": "10.76.18.1"}),
            record(tokens.SERVER_GROUP, "sgp-1", GROUP),
            record(tokens.LISTENER, "lsn-2", HTTPS),
        ),
        3,
    ):
        context.state.put(replace(each, serial=str(serial)))
    haproxy.write(context, "alb-1")
    assert machines.written["/etc/haproxy/certificates/cas1.pem"] == "CERT\nKEY\n"
    assert "server i-1 " in machines.written["/etc/haproxy/haproxy.cfg"]
    assert machines.ran == ["systemctl reload-or-restart haproxy"]
    ServiceCertificate().delete(context, certificate)
    assert not path.exists()


def test_its_machine_is_beside_the_servers_and_has_an_address_of_its_own_switch(
    context: CloudContext, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}
    bridge = group_bridge.GroupBridge("we1-1", "vsw-1", "alb-1", None, {})  # type: ignore[arg-type]
    for serial, each in enumerate(
        (
            record(tokens.VPC, "vpc-1", {"cidrBlock": "10.76.0.0/20"}),
            record(tokens.SWITCH, "vsw-2", {"vpcId": "vpc-1", "cidrBlock": "10.76.18.0/24"}),
            record(tokens.SWITCH, "vsw-1", {"vpcId": "vpc-1", "cidrBlock": "10.76.0.0/20"}),
            *(record(tokens.EIP_ADDRESS, f"eip-{n}", {}, facts={"address": f"198.18.0.{n}"}) for n in (1, 2)),
        ),
        2,
    ):
        context.state.put(replace(each, serial=str(serial)))

    def ensure(found: CloudContext, switch: str, group: str) -> group_bridge.GroupBridge:
        made["place"] = (switch, group)
        return bridge

    def make(found: CloudContext, name: str, inputs: dict[str, Any], devices: dict[str, Any]) -> None:
        made["nic"] = devices["eth0"]

    bound: list[tuple[str, str]] = []
    monkeypatch.setattr(group_bridge, "ensure", ensure)
    monkeypatch.setattr(group_bridge, "write_acls", lambda context: None)
    monkeypatch.setattr(image, "ensure", lambda name, say: BaseImage(name, name, "alias", NOWHERE))
    monkeypatch.setattr(machine, "make", make)
    monkeypatch.setattr(machine, "power", lambda *args: None)
    monkeypatch.setattr(machine, "wait_for_address", lambda *args: "10.76.0.34")
    monkeypatch.setattr(public_address, "bridge_named", lambda context, name: bridge)
    monkeypatch.setattr(public_address, "check_free", lambda context, public: None)
    monkeypatch.setattr(public_address, "bind", lambda c, b, public, private, d: bound.append((public, private)))
    monkeypatch.setattr(alb_load_balancer, "host_lock", lambda what: nullcontext())
    monkeypatch.setattr(alb_load_balancer, "all_records", lambda projects: [])
    monkeypatch.setattr(alb_load_balancer, "projects", lambda: {})
    monkeypatch.setattr(addressing, "taken", lambda: [])
    mappings = [{"vswitchId": "vsw-2", "allocationId": f"eip-{n}"} for n in (1, 2)]
    inputs = {"vpcId": "vpc-1", "zoneMappings": mappings, "addressType": "Internet"}
    own = record(tokens.LOAD_BALANCER, "alb-1", inputs, "9")
    alb_load_balancer.LoadBalancer().create(context, own, inputs)
    assert made["place"] == ("vsw-1", "alb-1")
    assert made["nic"]["ipv4.routes"] == "10.76.18.1/32"
    assert bound == [("198.18.0.1", "10.76.0.34"), ("198.18.0.2", "10.76.0.34")]
    (kept,) = context.state.records(tokens.LOAD_BALANCER)
    assert kept.facts == {"source": "10.76.18.1", "listen": ["198.18.0.1", "198.18.0.2"]}
    assert "10.76.18.1/32 dev lo" in machines.written["/etc/systemd/system/haproxy.service.d/source.conf"]


def test_everybody_reaches_the_ports_of_its_listeners_and_no_other() -> None:
    assert group_bridge._of_listener(record(tokens.LISTENER, "l", HTTPS)) == [
        {"securityGroupId": "alb-1", "ipProtocol": "tcp", "portRange": "443/443", "cidrIp": "0.0.0.0/0"}
    ]


def test_what_the_rehearsal_does_not_do_is_refused() -> None:
    with pytest.raises(RehearsalError, match="without a certificate"):
        Listener().check({**HTTPS, "certificates": None})
    with pytest.raises(RehearsalError, match="listenerProtocol"):
        Listener().check({**HTTP, "listenerProtocol": "QUIC"})
    with pytest.raises(RehearsalError, match="type='FixedResponse'"):
        ListenerRule().check({"ruleConditions": ANY, "ruleActions": [{"type": "FixedResponse"}]})
    with pytest.raises(RehearsalError, match="without healthCheckConfig"):
        ServerGroup().check({**GROUP, "healthCheckConfig": None})
    with pytest.raises(RehearsalError, match="not in two zones"):
        alb_load_balancer.LoadBalancer().check({"zoneMappings": [{}], "addressType": "Internet"})
