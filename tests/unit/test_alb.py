"""A load balancer in front of the servers: what is refused, what is registered, and what each server is."""

import re
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from components import archive
from components.balancer import fingerprint
from components.listeners import priorities
from components.network import Rule, groups
from contract.codec import decode
from contract.documents import RELEASE_FILE, Host, Release
from operations.connection import Way
from operations.machines import Machine, Stack
from reference.samples import CLOUD, OFFICE
from serving import bootstrap, machines
from serving.plan import Machine as Planned
from settings import SettingsError, StackSettings, static_files
from settings.certificates import Given
from settings.loader import parse
from tests.builders.certificates import Authority, Pair
from tests.builders.program import Cloud, Recorder, Run, secret

FILE = "stacks/Pulumi.dev.yaml"
WWW = "www.example.test"
CA = Authority()
GIVEN, NEXT, OTHER = CA.sign(WWW), CA.sign(WWW), CA.sign("blog.example.test")
TAGS = {"project": "wsgi-ecs", "stack": "dev", "managed-by": "pulumi"}
BALANCER = "10.76.18.0/23"
OF_ALB = ("alicloud:alb/", "alicloud:cas/", "entrance")


def alb(**config: Any) -> dict[str, Any]:
    """Two servers behind a load balancer."""
    own = {"entrance": "alb", "app_servers": 2, **config.pop("topology", {})}
    return {"topology": own, **config}


def secure(pair: Pair = GIVEN, name: str = WWW, **tls: Any) -> dict[str, Any]:
    given = {"certificate": pair.certificate, "private_key": pair.private_key, **tls}
    return {"site": {"server_name": name}, "tls": given}


def planned(config: dict[str, Any]) -> tuple[StackSettings, dict[str, Planned]]:
    settings = parse(config, FILE)
    return settings, {machine.name: machine for machine in machines(settings)}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {"topology": {"entrance": "alb"}},
            "topology.app_servers: the balancer has no server to send requests to; all",
        ),
        (
            alb(serving={"front": "none"}, uwsgi={"http": "0.0.0.0:8080"}),
            "topology.entrance: each server behind the balancer has nginx, and serving.front is none; allowed: serving",
        ),
        (
            alb(site={"server_name": WWW}, tls={"acme": True}),
            "tls.acme: topology.entrance is alb, and no server behind it can prove the domain to a CA; allowed: "
            "tls.certificate and tls.private_key, which another ACME client renews (docs/beyond-one-machine.md)",
        ),
        (
            alb(sites={"shop": {"site": {"server_name": WWW}, "tls": {"acme": True}}}),
            "sites.shop.tls.acme: topology.entrance is alb",
        ),
        # HTTPS without a certificate, and without a domain.
        (alb(tls={"listen": 8443}), "tls.listen: set, but no site has a certificate by it"),
        (
            alb(topology={"alb": {"http2": False}}),
            "topology.alb.http2: set, but no site has a certificate; allowed: tls",
        ),
        (
            alb(topology={"alb": {"tls_policy": "tls_cipher_policy_1_2"}}),
            "topology.alb.tls_policy: set, but no site has a certificate; allowed: tls.certificate",
        ),
        (
            alb(tls={"certificate": "c.pem", "private_key": "k.pem"}),
            "site.server_name: required with tls, as a certificate is for a domain",
        ),
        (
            alb(site={"server_name": "192.0.2.7"}),
            "site.server_name: the balancer cannot ask for 192.0.2.7; allowed: a d",
        ),
        (
            alb(access={"http": [OFFICE]}),
            "access.http: the balancer answers everybody; allowed: 0.0.0.0/0, with the net",
        ),
        (alb(app={"health": f"/{'a' * 80}"}), "app.health: the balancer asks for a path of 80 characters at most"),
        (
            alb(nginx={"uwsgi_read_timeout": 600}),
            "nginx.uwsgi_read_timeout: the balancer waits 600 s at most; allowed: 599 or less",
        ),
        (alb(nginx={"upstream": {"max_fails": 2}}), "nginx.upstream: topology.entrance is alb, and each nginx has one"),
        (
            alb(data={"served": {"/media/": "media"}}),
            "data.served: a file that is written on one server is on no other; allowed: data.shared: true, topology",
        ),
        (
            alb(
                server={"os": "debian12"},
                python={
                    **{"install": "source", "version": "3.11.9", "sha256": "ab" * 32},
                    "archive": "https://example.com/python.tar.gz",
                },
            ),
            "python.archive: a server behind the balancer has no way to the internet; allowed: a file on this computer",
        ),
        (
            alb(app={"persistent": ["db.sqlite3"]}),
            "app.persistent: db.sqlite3 would be another database on each server; allowed: mysql.password, or none",
        ),
        (alb(redis={"own_server": False}), "redis.own_server: the application has servers of its own, which all need"),
        (
            {"topology": {"app_servers": 2, "alb": {}}},
            "topology.alb: set, but topology.entrance is nginx; allowed: topo",
        ),
        ({"network": {"entrance_cidr": "10.90.0.0/23"}}, "network.entrance_cidr: set, but topology.entrance is nginx"),
        (alb(network={"entrance_cidr": "10.76.2.0/23"}), "network.entrance_cidr: 10.76.2.0/23 overlaps 10.76.0.0/20"),
        (
            alb(network={"entrance_cidr": "10.76.16.0/23"}),
            "network.entrance_cidr: 10.76.16.0/23 overlaps 10.76.16.0/24",
        ),
        (
            alb(network={"entrance_cidr": "10.90.0.0/24"}),
            "network.entrance_cidr: allowed: a private IPv4 network from /1",
        ),
        (alb(topology={"alb": {"drain_seconds": 5}}), "topology.alb.drain_seconds: got 5; allowed: 10 or more"),
        (alb(topology={"entrance": "clb"}), "topology.entrance: got clb; allowed: nginx or alb"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(config: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse(config, FILE)
    assert str(error.value).removeprefix(f"{FILE}: ").startswith(line)


def test_files_that_all_servers_have_may_be_served_by_each() -> None:
    parse(alb(data={"served": {"/media/": "media"}, "shared": True}), FILE)


@pytest.mark.parametrize(
    ("network", "cidr"),
    [
        ({}, BALANCER),
        ({"cidr": "10.255.240.0/20"}, "10.255.236.0/23"),
        ({"cidr": "192.168.0.0/16"}, "10.0.0.0/23"),
        ({"cidr": "172.31.0.0/16"}, "172.30.252.0/23"),
        ({"entrance_cidr": "10.90.0.0/20"}, "10.90.0.0/20"),
    ],
)
def test_the_balancer_has_addresses_beside_the_network(network: dict[str, str], cidr: str) -> None:
    assert parse(alb(network=network), FILE).network.balancer_cidr == cidr


def test_each_server_is_the_very_machine_that_a_single_server_is() -> None:
    settings, found = planned(alb(schedule={"nightly": {"command": ["python"], "at": "0 3 * * *"}}))
    (single,) = machines(parse({"schedule": {"nightly": {"command": ["python"], "at": "0 3 * * *"}}}, FILE))
    assert list(found) == ["app-1", "app-2"]
    for machine in found.values():
        assert machine.plan.role == "whole"
        assert machine.plan.bootstrap_version == single.plan.bootstrap_version
        assert machine.plan.ports == (80,)
        # No way to the internet: packages of Python come from the network's own mirror.
        text = bootstrap.user_data(machine.plan, settings)
        assert "http://mirrors.cloud.aliyuncs.com/pypi/simple/" in text
        assert len(text.encode()) < 16320
    # A command at its time runs on one of them.
    timers = [bool(machine.plan.sites[0].release.schedule) for machine in found.values()]
    assert timers == [True, False]


def test_a_server_has_no_certificate_and_is_told_of_the_clients_by_the_balancer_alone() -> None:
    _, found = planned(alb(**secure(hsts=60), nginx={"set_real_ip_from": "203.0.113.9/32"}))
    plan = found["app-2"].plan
    assert isinstance(plan.host, Host)
    assert (plan.host.given, plan.host.acme) == ([], [])
    assert "ssl" not in plan.configs["nginx.conf"].replace("ssl_session", "")
    assert "return 301" not in plan.configs["nginx.conf"]
    (site,) = plan.sites
    http, server = site.configs["http.conf"], site.configs["server.conf"]
    # A proxy of the user's own is believed as far as addresses go, and comes by way of the balancer.
    assert f"set_real_ip_from 203.0.113.9/32;\n    set_real_ip_from {BALANCER};\n" in server
    assert f"geo $realip_remote_addr $wsgi_believed_app {{\n    default 0;\n    {BALANCER} 1;\n}}" in http
    # Who sends no scheme is the balancer's health check, or this machine: the application must not redirect them.
    assert "$wsgi_scheme_app {\n    default https;\n    1:http http;\n    1:https https;\n}" in http
    # The balancer passes on what a client says of these.
    assert "X-Forwarded-Host $wsgi_host_app" in server or "HTTP_X_FORWARDED_HOST $wsgi_host_app" in server
    assert "$wsgi_xhost_app" not in http and "$wsgi_xport_app" not in http
    assert "map $wsgi_scheme_app $wsgi_port_app {\n    default $server_port;\n    https 443;\n}" in http
    assert 'map $wsgi_scheme_app $wsgi_hsts_app {\n    https "max-age=60";' in http
    probe = site.release.probe
    assert (probe.tls, probe.https, probe.port, probe.host) == (False, True, 80, WWW)


def test_a_site_without_https_is_none_of_it() -> None:
    _, found = planned(alb())
    (site,) = found["app-1"].plan.sites
    assert "$wsgi_scheme_app {\n    default $scheme;\n" in site.configs["http.conf"]
    assert "https 443" not in site.configs["http.conf"].replace("1::https 443", "https 443")
    assert not site.release.probe.https


def test_what_guards_a_site_lets_the_health_check_in_and_no_client() -> None:
    guards: dict[str, Any] = {
        **{"auth_basic": "Staff", "auth_basic_users": {"ada": f"$6$saltsalt${'a' * 86}"}},
        **{"allow": OFFICE, "limit_req": {}, "maintenance": {"allow": OFFICE}},
    }
    _, found = planned(alb(nginx=guards, app={"health": "/"}))
    (site,) = found["app-1"].plan.sites
    http, server = site.configs["http.conf"], site.configs["server.conf"]
    # The check alone names no client.
    peer = (
        'map $wsgi_believed_app:$http_x_forwarded_for $wsgi_peer_app {\n    default $realip_remote_addr;\n    "1:" 127'
    )
    assert peer in http
    assert http.count("map $wsgi_peer_app ") == 2
    assert "map $wsgi_passes_app:$wsgi_peer_app:$request_uri $wsgi_maintenance_app {" in http
    (health,) = re.findall(r"location = / \{(.*?)\n    \}", server, re.DOTALL)
    assert "255.255.255.255" not in health, "the client's own address is looked at, which each request names"
    places = [line.strip() for line in health.splitlines() if line.strip().startswith(("allow", "deny"))]
    assert places == ["allow 127.0.0.1;", f"allow {BALANCER};", f"allow {OFFICE};", "deny all;"]


def test_only_the_balancer_reaches_the_sites_and_ssh_goes_through_the_first() -> None:
    settings, found = planned(alb(mysql={"password": "x"}, access={"ssh": [OFFICE]}))
    rules = groups(list(found.values()), settings.access, None, settings.network.balancer_cidr)
    assert rules == {
        "app-1": [
            Rule(80, BALANCER, f"The site, from {BALANCER}"),
            Rule(22, OFFICE, f"SSH for releases, from {OFFICE}"),
        ],
        "app": [
            Rule(80, BALANCER, "Requests, from the balancer"),
            Rule(22, "app-1", "SSH for releases, by way of the first machine"),
        ],
        "db": [
            Rule(3306, "app", "Queries, from the application"),
            Rule(3306, "app-1", "Queries, from the application"),
            Rule(22, "app-1", "SSH for releases, by way of the first machine"),
        ],
    }


def registered(program: Recorder) -> set[tuple[str, str]]:
    return {(request.type, request.name) for request in program.requests.values()}


def test_a_stack_without_it_registers_nothing_of_it(run_program: Run) -> None:
    found = registered(run_program({**CLOUD, "topology": {"app_servers": 1}}))
    assert not [name for pair in found for name in pair if any(part in name for part in OF_ALB)]


@pytest.fixture
def program(run_program: Run) -> Recorder:
    return run_program({**CLOUD, **alb(**secure())})


def test_the_balancer_is_over_two_zones_with_an_address_in_each(program: Recorder) -> None:
    assert program.inputs("alb/loadBalancer:LoadBalancer") == {
        "loadBalancerName": "wsgi-ecs-dev",
        "loadBalancerEdition": "Standard",
        "loadBalancerBillingConfig": {"payType": "PayAsYouGo"},
        "addressType": "Internet",
        # Unset, it replaces the load balancer.
        "addressAllocatedMode": "Fixed",
        "addressIpVersion": "IPv4",
        "vpcId": "wsgi-ecs-dev-vpc-id",
        "zoneMappings": [
            {
                "zoneId": f"cn-hangzhou-{zone}",
                "vswitchId": f"wsgi-ecs-dev-entrance-{number}-switch-id",
                "allocationId": f"wsgi-ecs-dev-entrance-{number}-address-id",
                "eipType": "Common",
            }
            for number, zone in ((1, "i"), (2, "j"))
        ],
        "tags": TAGS,
    }
    request = program.request("alb/loadBalancer:LoadBalancer")
    # What is read back differs for ever.
    assert list(request.ignoreChanges) == ["zoneMappings"]
    # Its addresses are bound until it is gone.
    assert request.deleteBeforeReplace
    # Other switches are another load balancer, which the ignored input does not say.
    assert request.replacement_trigger.string_value == BALANCER
    for number, cidr in ((1, "10.76.18.0/24"), (2, "10.76.19.0/24")):
        address = program.inputs(":EipAddress", f"entrance-{number}-address")
        assert (address["addressName"], address["deletionProtection"]) == (f"wsgi-ecs-dev-entrance-{number}", False)
        switch = program.inputs("switch:Switch", f"entrance-{number}-switch")
        assert switch["cidrBlock"] == cidr
        assert list(program.request("switch:Switch", f"entrance-{number}-switch").ignoreChanges) == ["zoneId"]
    assert program.inputs("Ipv4CidrBlock")["secondaryCidrBlock"] == BALANCER


def test_a_server_gets_requests_when_it_has_its_release(program: Recorder) -> None:
    assert program.inputs("alb/serverGroup:ServerGroup") == {
        "serverGroupName": "wsgi-ecs-dev-app",
        "serverGroupType": "Instance",
        "vpcId": "wsgi-ecs-dev-vpc-id",
        "protocol": "HTTP",
        "scheduler": "Wrr",
        "healthCheckConfig": {
            "healthCheckEnabled": True,
            "healthCheckProtocol": "HTTP",
            "healthCheckHttpVersion": "HTTP1.1",
            "healthCheckMethod": "GET",
            "healthCheckPath": "/healthz",
            "healthCheckHost": WWW,
            "healthCheckCodes": ["http_2xx"],
            "healthCheckConnectPort": 0,
            "healthCheckInterval": 2,
            "healthCheckTimeout": 5,
            "healthyThreshold": 3,
            "unhealthyThreshold": 3,
        },
        "connectionDrainConfig": {"connectionDrainEnabled": True, "connectionDrainTimeout": 60},
        "stickySessionConfig": {"stickySessionEnabled": False},
        # All that is read back is named.
        "servers": [
            {
                "serverId": f"wsgi-ecs-dev-app-{number}-instance-id",
                "serverIp": "10.0.0.1",
                "serverType": "Ecs",
                "port": 80,
                "weight": 100,
                "description": f"app-{number}",
            }
            for number in (1, 2)
        ],
        "tags": TAGS,
    }
    request = program.request("alb/serverGroup:ServerGroup")
    assert not request.ignoreChanges, "the program's own servers are the program's"
    for number in (1, 2):
        assert [urn for urn in request.dependencies if urn.endswith(f"app-{number}-site-app-apply")]


def test_sessions_stay_with_a_server_if_they_are_asked_to(run_program: Run) -> None:
    own = {"alb": {"sticky_seconds": 600, "drain_seconds": 10}}
    inputs = run_program({**CLOUD, **alb(topology=own)}).inputs("alb/serverGroup:ServerGroup")
    assert inputs["stickySessionConfig"] == {
        "stickySessionEnabled": True,
        "stickySessionType": "Insert",
        "cookieTimeout": 600,
    }
    assert inputs["connectionDrainConfig"]["connectionDrainTimeout"] == 10
    assert "healthCheckHost" not in inputs["healthCheckConfig"], "the site answers to every name"


def test_https_ends_at_the_balancer_and_http_is_sent_there(program: Recorder) -> None:
    both = {
        "loadBalancerId": "wsgi-ecs-dev-balancer-id",
        "gzipEnabled": False,
        "idleTimeout": 65,
        # Longer than nginx waits, whose answer is the better one.
        "requestTimeout": 61,
        "xForwardedForConfig": {
            "xForwardedForEnabled": True,
            "xForwardedForProcessingMode": "append",
            "xForwardedForProtoEnabled": True,
        },
        "defaultActions": [
            {
                "type": "ForwardGroup",
                "forwardGroupConfig": {"serverGroupTuples": [{"serverGroupId": "wsgi-ecs-dev-app-servers-id"}]},
            }
        ],
        "tags": TAGS,
    }
    digits = fingerprint(SimpleNamespace(certificate=GIVEN.certificate))  # type: ignore[arg-type]
    assert program.inputs("alb/listener:Listener", "https-443") == {
        **both,
        "listenerProtocol": "HTTPS",
        "listenerPort": 443,
        "listenerDescription": "wsgi-ecs-dev: HTTPS",
        # One object, and no list.
        "certificates": {"certificateId": f"wsgi-ecs-dev-certificate-{digits}-id-cn-hangzhou"},
        "securityPolicyId": "tls_cipher_policy_1_2_strict_with_1_3",
        "http2Enabled": True,
    }
    assert program.inputs("alb/listener:Listener", "http-80") == {
        **both,
        "listenerProtocol": "HTTP",
        "listenerPort": 80,
        "listenerDescription": "wsgi-ecs-dev: HTTP",
    }
    for name in ("http-80", "https-443"):
        ignored = program.request("alb/listener:Listener", name).ignoreChanges
        assert list(ignored) == ["accessLogTracingConfig"], "it is read back though nobody asked for it"
    rule = program.inputs("alb/rule:Rule")
    assert rule["ruleConditions"] == [{"type": "Path", "pathConfig": {"values": ["/*"]}}]
    assert rule["ruleActions"] == [
        {
            "order": 1,
            "type": "Redirect",
            "redirectConfig": {
                **{"protocol": "HTTPS", "port": "443", "host": WWW, "path": "${path}", "query": "${query}"},
                "httpCode": "301",
            },
        }
    ]


def test_a_certificate_is_in_cas_under_a_name_of_its_own(run_program: Run, program: Recorder) -> None:
    made = program.request("cas/serviceCertificate:ServiceCertificate")
    inputs = program.inputs("cas/serviceCertificate:ServiceCertificate")
    assert made.name.rpartition("-")[2] == inputs["certificateName"].rpartition("-")[2]
    assert inputs["cert"] == GIVEN.certificate
    assert secret(inputs["key"]) == GIVEN.private_key
    # The next one is made, the listener changed in place, and this one deleted last.
    after = run_program({**CLOUD, **alb(**secure(NEXT))})
    assert after.request("cas/serviceCertificate:ServiceCertificate").name != made.name
    listeners = [each.inputs("alb/listener:Listener", "https-443") for each in (program, after)]
    differing = {key for key in listeners[0] if listeners[0][key] != listeners[1][key]}
    assert differing == {"certificates"}
    assert len(inputs["certificateName"]) <= 64


@pytest.mark.parametrize(("region", "place"), [("cn-beijing", "cn-hangzhou"), ("eu-central-1", "ap-southeast-1")])
def test_a_listener_names_a_certificate_with_the_place_of_cas(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, region: str, place: str
) -> None:
    monkeypatch.setenv("ALICLOUD_REGION", region)
    listener = run_program({**CLOUD, **alb(**secure())}).inputs("alb/listener:Listener", "https-443")
    assert listener["certificates"]["certificateId"].endswith(f"-id-{place}")


def test_several_sites_have_servers_rules_and_certificates_of_their_own(run_program: Run) -> None:
    sites = {
        "shop": secure(),
        "blog": {**secure(OTHER, "blog.example.test", redirect=False), "app": {"health": "/up"}},
        "docs": {"site": {"server_name": WWW, "location": "/docs/"}, "tls": secure()["tls"]},
    }
    program = run_program({**CLOUD, **alb(sites=sites)})
    paths = {
        name: program.inputs("alb/serverGroup:ServerGroup", f"{name}-servers")["healthCheckConfig"]["healthCheckPath"]
        for name in sites
    }
    assert paths == {"shop": "/healthz", "blog": "/up", "docs": "/docs/healthz"}
    rules = {r.name: program.inputs("alb/rule:Rule", r.name) for r in program.requests.values() if ":Rule" in r.type}
    assert sorted(rules) == sorted(f"wsgi-ecs-dev-{port}-{name}" for port in ("http-80", "https-443") for name in sites)
    docs, shop = rules["wsgi-ecs-dev-https-443-docs"], rules["wsgi-ecs-dev-https-443-shop"]
    assert docs["priority"] < shop["priority"], "the longest path first"
    assert docs["ruleConditions"] == [
        {"type": "Path", "pathConfig": {"values": ["/docs/*", "/docs"]}},
        {"type": "Host", "hostConfig": {"values": [WWW]}},
    ]
    kinds = {name: rules[f"wsgi-ecs-dev-http-80-{name}"]["ruleActions"][0]["type"] for name in sites}
    assert kinds == {"shop": "Redirect", "blog": "ForwardGroup", "docs": "Redirect"}
    # Two domains have a certificate each, and a certificate of two domains would be there once.
    assert program.inputs("ListenerAdditionalCertificateAttachment")["listenerId"] == "wsgi-ecs-dev-https-443-id"
    certificates = [r for r in program.requests.values() if r.type.endswith(":ServiceCertificate")]
    assert len(certificates) == 2


def test_no_two_rules_of_a_listener_have_the_same_priority() -> None:
    sites = parse({"sites": {f"site-{n}": {"site": {"server_name": f"s{n}.test"}} for n in range(40)}}, FILE).sites
    found = priorities(sites)
    assert len(set(found.values())) == 40
    assert all(1 <= each <= 10000 for each in found.values())
    few = priorities(sites[:3])
    assert few == {name: found[name] for name in few}, "another site leaves them as they are"


def test_the_release_goes_to_the_first_server_and_then_to_the_others(program: Recorder) -> None:
    first = program.request("remote:Command", "app-1-site-app-apply")
    second = program.request("remote:Command", "app-2-host-apply")
    assert [urn for urn in second.dependencies if urn.endswith("app-1-site-app-apply")]
    assert not [urn for urn in first.dependencies if "app-2" in urn]
    # The second follows, and knows the release by the id that the first has.
    assert " follow " in program.inputs("remote:Command", "app-2-site-app-apply")["create"]
    told = secret(program.inputs("remote:Command", "app-2-site-app-apply")["stdin"])
    assert f'"front": "{program.outputs["release"]}"' in told
    # No server has the key.
    for request in program.requests.values():
        if request.type == "command:remote:Command":
            assert "PRIVATE KEY" not in str(program.inputs("remote:Command", request.name).get("stdin", ""))


def test_the_outputs_say_where_the_domain_leads(program: Recorder) -> None:
    outputs = program.outputs
    assert outputs["url"] == f"https://{WWW}/"
    assert outputs["addresses"] == ["198.51.100.7"] * 2
    assert outputs["dns_name"] == "alb-1.cn-hangzhou.alb.aliyuncs.com"
    # SSH goes to the first server, which has an address for nothing else.
    assert outputs["ssh"] == "ssh root@198.51.100.7"
    assert [machine["name"] for machine in outputs["machines"]] == ["app-1", "app-2"]
    associations = [r.name for r in program.requests.values() if r.type.endswith(":EipAssociation")]
    assert associations == ["wsgi-ecs-dev-association"]


def test_protection_covers_what_the_domain_leads_to(run_program: Run) -> None:
    program = run_program({**CLOUD, **alb(server={"protect": True})})
    protected = {request.name for request in program.requests.values() if request.protect}
    assert {
        "wsgi-ecs-dev-balancer",
        "wsgi-ecs-dev-entrance-1-address",
        "wsgi-ecs-dev-entrance-2-address",
    } <= protected
    assert "deletionProtectionEnabled" not in program.inputs("alb/loadBalancer:LoadBalancer")


def test_a_region_with_one_zone_has_no_balancer(run_program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Cloud.call

    def call(self: Cloud, args: Any) -> Any:
        return ({"ids": ["cn-x-a"], "zones": []}, []) if args.token.startswith("alicloud:alb/") else known(self, args)

    monkeypatch.setattr(Cloud, "call", call)
    with pytest.raises(pulumi.RunError) as error:
        run_program({**CLOUD, **alb()})
    assert str(error.value) == (
        "stacks/Pulumi.dev.yaml: topology.entrance: this region has ALB in cn-x-a, and alb needs two zones; "
        "allowed: nginx (or another alicloud:region)"
    )


def test_all_servers_with_nginx_are_closed_for_maintenance() -> None:
    def machine(name: str, *sites: str) -> Machine:
        return Machine(name, name, sites, Way("10.0.0.1", name, None, None, False))  # type: ignore[arg-type]

    both = (machine("app-1", "app"), machine("app-2", "app"), machine("db"))
    assert [each.name for each in Stack("dev", both).with_nginx] == ["app-1", "app-2"]
    apart = (machine("front", "app"), machine("app-1", "app"))
    assert [each.name for each in Stack("dev", apart).with_nginx] == ["front"]
    assert [each.name for each in Stack("dev", (machine("server"),)).with_nginx] == ["server"]
    found = Stack("dev", both, {"address": "198.51.100.1", "addresses": ["198.51.100.2", "198.51.100.3"]})
    assert found.entrance == "198.51.100.2"
    assert Stack("dev", both, {"address": "198.51.100.1"}).entrance == "198.51.100.1"


def test_a_certificate_has_the_same_digits_on_every_computer() -> None:
    pair = Given(GIVEN.certificate, None, None)  # type: ignore[arg-type]
    assert re.fullmatch("[0-9a-f]{12}", fingerprint(pair))
    assert fingerprint(pair) == fingerprint(pair)


@pytest.mark.parametrize(("servers", "is_named"), [(1, False), (3, True)])
def test_the_first_server_names_the_release_of_the_others(
    run_program: Run, tmp_path: Path, servers: int, is_named: bool
) -> None:
    config = alb(topology={"app_servers": servers})
    run_program({**CLOUD, **config})
    settings, found = planned({**CLOUD, **config})
    built = archive.build_fleet(list(found.values()), settings, tmp_path / "built")

    def pair(name: str) -> str:
        with tarfile.open(built[name].sites["app"].path) as text:
            document = text.extractfile(RELEASE_FILE)
            assert document is not None
            return decode(Release, document.read().decode()).pair

    # A rollback takes all of them to the same release.
    assert pair("app-1") == (built["app-2"].sites["app"].id if is_named else "")
    assert [pair(name) for name in found if name != "app-1"] == [""] * (servers - 1)
    assert len({built[name].sites["app"].id for name in found if name != "app-1"}) == min(servers - 1, 1)


def test_static_files_that_one_server_alone_would_make_are_refused(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    own = {"nginx": {"static": {"/static/": "made"}}, "release": {"before": [["python", "manage.py", "collectstatic"]]}}
    with pytest.raises(SettingsError, match="which runs on app-1 and on no other server; allowed: a folder of"):
        static_files.resolve(parse(alb(**own), FILE), tmp_path, FILE)
    static_files.resolve(parse(alb(**own, topology={"app_servers": 1}), FILE), tmp_path, FILE)


def test_what_stands_on_something_is_deleted_before_it(program: Recorder) -> None:
    def needs(request: Any) -> set[str]:
        return {urn.rpartition("::")[2].removeprefix("wsgi-ecs-dev-") for urn in request.dependencies}

    digits = fingerprint(SimpleNamespace(certificate=GIVEN.certificate))  # type: ignore[arg-type]
    assert "http-80" in needs(program.request("alb/rule:Rule"))
    secured = needs(program.request("alb/listener:Listener", "https-443"))
    assert {"balancer", "app-servers", f"certificate-{digits}"} <= secured
    assert {"balancer", "app-servers"} <= needs(program.request("alb/listener:Listener", "http-80"))
    assert {"vpc", "app-1-instance", "app-2-instance"} <= needs(program.request("alb/serverGroup:ServerGroup"))
    below = needs(program.request("alb/loadBalancer:LoadBalancer"))
    assert {f"entrance-{n}-{what}" for n in (1, 2) for what in ("address", "switch")} <= below
    assert "entrance-cidr" in needs(program.request("switch:Switch", "entrance-1-switch"))
