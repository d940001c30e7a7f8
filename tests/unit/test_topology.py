"""Several machines: what each has, who reaches whom, and how a release goes from one to the next."""

import configparser
import json
from typing import Any

import crossplane
import pytest

from components.network import Rule, groups
from contract.documents import Host
from kinds.systems import SYSTEMS
from reference.samples import CLOUD, OFFICE
from serving import Machine, bootstrap, machines
from settings import StackSettings
from settings.loader import parse
from tests.builders.program import Recorder, Run, secret

KINDS: dict[str, dict[str, Any]] = {
    "uwsgi": {},
    "uwsgi-http": {"uwsgi": {"http_socket": "0.0.0.0:3031"}},
    "gunicorn": {"serving": {"app_server": "gunicorn"}, "gunicorn": {"bind": "0.0.0.0:3031"}},
    "systemd": {"serving": {"process_manager": "systemd"}},
    "emperor": {"serving": {"process_manager": "emperor"}},
}

GTHREAD: dict[str, Any] = {"serving": {"app_server": "gunicorn"}, "gunicorn": {"worker_class": "gthread"}}


def fleet(config: dict[str, Any] | None = None, servers: int = 2) -> tuple[StackSettings, dict[str, Machine]]:
    settings = parse({"topology": {"app_servers": servers}, "server": {"os": "debian12"}, **(config or {})}, "stack")
    return settings, {machine.name: machine for machine in machines(settings)}


def upstream(text: str) -> list[dict[str, Any]]:
    """The directives of the one upstream block."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(f"http {{ {text} }}")
        file.flush()
        parsed = crossplane.parse(file.name, check_args=False, check_ctx=False)
    (block,) = [each for each in parsed["config"][0]["parsed"][0]["block"] if each["directive"] == "upstream"]
    return list(block["block"])


def test_one_machine_has_no_name_and_everything() -> None:
    settings = parse({}, "stack")
    (machine,) = machines(settings)
    assert (machine.name, machine.group, machine.plan.role) == ("", "", "whole")


@pytest.mark.parametrize("kind", KINDS)
def test_nginx_and_the_application_are_on_machines_of_their_own(kind: str) -> None:
    _, found = fleet(KINDS[kind])
    assert list(found) == ["front", "app-1", "app-2"]
    front, app = found["front"].plan, found["app-1"].plan
    assert found["app-2"].plan == app
    assert set(front.packages) == {"python3", "python3-venv", "nginx", "logrotate"}
    assert front.services == ("nginx",)
    assert set(front.sites[0].configs) == {"http.conf", "server.conf"}
    assert front.sites[0].release.endpoint is None
    assert front.sites[0].release.requirements is None
    assert "nginx" not in app.packages
    assert not {"nginx.conf", "http.conf", "server.conf"} & {*app.configs, *app.sites[0].configs}
    endpoint = app.sites[0].release.endpoint
    assert endpoint is not None
    assert endpoint.address == "@@app_host@@:@@app_port@@"
    assert app.sites[0].release.front == "apart"
    assert app.ports == (3031, 3032)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_each_begins_with_what_it_needs_and_no_more(system: str, kind: str) -> None:
    settings, found = fleet({**KINDS[kind], "server": {"os": system}})
    front, app = (bootstrap.user_data(found[name].plan, settings) for name in ("front", "app-1"))
    assert max(len(front.encode()), len(app.encode())) < 16384
    # The front waits with a page of nginx's own, an app server with nothing at all.
    assert "return 503;" in front
    # pip alone, for what asks a CA.
    assert "within_5_minutes make_venv" in front
    assert "pip install -r build-pins.txt" in front and "server-pins.txt" not in front
    assert "uwsgi==" not in front.lower()
    assert "gunicorn==" not in front
    assert "builtin" not in front + app
    assert "nginx" not in app.replace("wsgi-ecs: installs Python 3, the app server, nginx", "")
    assert bootstrap.version(found["front"].plan, settings) != bootstrap.version(found["app-1"].plan, settings)


def test_nginx_shares_the_requests_as_it_is_told() -> None:
    chosen = {"method": "least_conn", "weights": {"app-2": 3}, "keepalive": 8, "max_fails": 2, "fail_timeout": 9}
    _, found = fleet({**GTHREAD, "nginx": {"upstream": chosen}})
    (site,) = found["front"].plan.sites
    directives = [(line["directive"], *line["args"]) for line in upstream(site.configs["http.conf"])]
    # A machine's release takes one of two ports in turn, and nginx finds out which.
    assert directives == [
        ("zone", "wsgi-app", "256k"),
        ("least_conn",),
        *(
            ("server", f"{name}:{port}", f"weight={weight}", *rest)
            for rest in (("max_fails=2", "fail_timeout=9s"), ("max_fails=0", "backup"))
            for name, weight in (("app-1", 1), ("app-2", 3))
            for port in (8000, 8001)
        ),
        ("keepalive", "8"),
        # Less than gunicorn's 2 seconds.
        ("keepalive_timeout", "1000ms"),
    ]
    # So the old program may stop only when nginx has tried the new port again.
    assert found["app-1"].plan.sites[0].release.handover_seconds == 10


def test_nginx_has_no_last_resort_for_ip_hash() -> None:
    _, found = fleet({"nginx": {"upstream": {"method": "ip_hash"}}})
    (site,) = found["front"].plan.sites
    lines = [(line["directive"], *line["args"]) for line in upstream(site.configs["http.conf"])]
    assert ("ip_hash",) in lines
    assert len([line for line in lines if line[0] == "server"]) == 4
    assert not any("backup" in line for line in lines)


def test_an_nginx_older_than_the_directive_does_not_get_it() -> None:
    old = {"install": "source", "version": "1.14.2", "archive": "https://example.com/nginx.tar.gz", "sha256": "0" * 64}
    _, found = fleet({**GTHREAD, "nginx": {**old, "upstream": {"keepalive": 8}}})
    assert "keepalive_timeout" not in found["front"].plan.sites[0].configs["http.conf"]


@pytest.mark.parametrize(
    ("servers", "read", "connect", "seconds"),
    [(1, 60, 2, 60), (2, 60, 2, 120), (2, 3, 2, 6), (3, 60, 2, 120), (3, 3, 2, 9), (20, 60, 5, 191)],
)
def test_a_request_tries_two_stuck_app_servers_or_all_that_are_down(
    servers: int, read: int, connect: int, seconds: int
) -> None:
    upstream = {"connect_timeout": connect}
    _, found = fleet({"nginx": {"uwsgi_read_timeout": read, "upstream": upstream}}, servers)
    assert f"uwsgi_next_upstream_timeout {seconds}s;" in found["front"].plan.sites[0].configs["server.conf"]
    _, found = fleet({**GTHREAD, "nginx": {"proxy_read_timeout": read, "upstream": upstream}}, servers)
    assert f"proxy_next_upstream_timeout {seconds}s;" in found["front"].plan.sites[0].configs["server.conf"]


def test_gunicorn_believes_nginx_on_the_other_machine() -> None:
    _, found = fleet(GTHREAD)
    assert 'forwarded_allow_ips = "*"' in found["app-1"].plan.sites[0].configs["gconf.py"]
    (whole,) = machines(parse(GTHREAD, "stack"))
    assert "forwarded_allow_ips" not in whole.plan.sites[0].configs["gconf.py"]


def test_another_app_server_is_another_front_and_the_same_app_servers() -> None:
    _, two = fleet()
    _, three = fleet(servers=3)
    assert two["app-1"].plan == three["app-1"].plan
    assert two["front"].plan.bootstrap_version == three["front"].plan.bootstrap_version
    assert "app-3:3031" in three["front"].plan.sites[0].configs["http.conf"]


def test_the_world_reaches_the_front_alone_and_nginx_the_app_servers() -> None:
    settings, found = fleet({"access": {"ssh": [OFFICE]}})
    rules = groups(list(found.values()), settings.access)
    assert {name: {(rule.port, rule.source) for rule in each} for name, each in rules.items()} == {
        "front": {(80, "0.0.0.0/0"), (22, OFFICE)},
        "app": {(3031, "front"), (3032, "front"), (22, "front")},
    }
    assert all(rule.description for each in rules.values() for rule in each)
    assert Rule(22, "203.0.113.0/24", "x").name == "22-from-203.0.113.0-24"


def test_one_app_server_takes_a_release_before_the_others_and_the_front_last(run_program: Run) -> None:
    program = run_program({**CLOUD, "topology": {"app_servers": 3, "instance_type": "ecs.e-c1m2.large"}})

    def waits_for(name: str) -> set[str]:
        """The releases that must have been taken before one is begun."""
        dependencies = program.request("remote:Command", f"-{name}-host-apply").dependencies
        return {urn.rpartition("-dev-")[2] for urn in dependencies if urn.endswith("-site-app-apply")}

    assert waits_for("app-1") == set()
    assert waits_for("app-2") == waits_for("app-3") == {"app-1-site-app-apply"}
    assert waits_for("front") == {f"app-{number}-site-app-apply" for number in (1, 2, 3)}
    types = {name: program.inputs(":Instance", f"-{name}-instance")["instanceType"] for name in ("front", "app-2")}
    assert types == {"front": "ecs.e-c1m1.large", "app-2": "ecs.e-c1m2.large"}


def test_only_the_front_has_an_address_in_the_world_and_ssh_goes_through_it(run_program: Run) -> None:
    program = run_program({**CLOUD, "topology": {"app_servers": 2}})
    assert [r.name for r in program.requests.values() if r.type.endswith(":EipAddress")] == [
        # The same as of one machine alone, so that it stays when there are several.
        "wsgi-ecs-dev-address"
    ]
    connection = secret(program.inputs("remote:Command", "-app-1-ready")["connection"])
    assert connection["host"] == "10.0.0.1"
    assert connection["proxy"]["host"] == "198.51.100.7"
    assert "proxy" not in secret(program.inputs("remote:Command", "-front-ready")["connection"])
    # nginx's machine knows the others by their names; a new address is told again.
    told = program.inputs("remote:Command", "-front-host-apply")
    hosts = {"app-1": "10.0.0.1", "app-2": "10.0.0.1"}
    assert json.loads(secret(told["stdin"])) == {"hosts": hosts, "tls": {}}
    assert told["triggers"][2:] == ["10.0.0.1", "10.0.0.1"]
    rules = [r.name for r in program.requests.values() if r.type.endswith(":SecurityGroupRule")]
    assert "wsgi-ecs-dev-app-3031-from-front" in rules


@pytest.mark.parametrize("own", [{"acme": True}, {"certificate": "x", "private_key": "y"}], ids=["acme", "given"])
def test_certificates_are_the_matter_of_nginxs_machine(own: dict[str, Any]) -> None:
    name = "www.example.test"
    settings, found = fleet({"site": {"server_name": name}, "tls": own})
    front, app = found["front"].plan, found["app-1"].plan
    assert isinstance(front.host, Host)
    assert isinstance(app.host, Host)
    assert [front.host.acme, front.host.given] == ([[name], []] if "acme" in own else [[], [name]])
    assert (app.host.acme, app.host.given) == ([], [])
    assert not app.configs
    assert front.sites[0].url("192.0.2.1") == f"https://{name}/"
    rules = groups(list(found.values()), settings.access)
    assert {rule.port for rule in rules["front"]} - {22} == {80, 443}
    assert {rule.port for rule in rules["app"]} - {22} == {3031, 3032}
    # HTTPS on a running stack builds no server anew.
    before = fleet()[1]
    assert all(found[each].plan.bootstrap_version == before[each].plan.bootstrap_version for each in found)


def test_a_program_of_an_app_server_is_its_managers_as_ever() -> None:
    _, found = fleet()
    parser = configparser.RawConfigParser()
    parser.read_string(found["app-1"].plan.sites[0].configs["supervisor.conf"])
    assert parser.sections() == ["program:app-@@slot@@"]


def test_each_server_of_the_sites_has_a_data_disk_before_its_release(run_program: Run) -> None:
    disk: dict[str, Any] = {"data": {"disk_gib": 30, "protect": True}}
    assert not [name for name in names(run_program(CLOUD)) if "-data-" in name]
    alone = run_program({**CLOUD, **disk})
    assert [name for name in names(alone) if name.endswith("-data-disk")] == ["wsgi-ecs-dev-data-disk"]
    assert alone.inputs(":EcsDisk")["size"] == 30
    assert alone.request(":EcsDisk").protect
    several = run_program({**CLOUD, **disk, "topology": {"app_servers": 2}})
    disks = ["wsgi-ecs-dev-app-1-data-disk", "wsgi-ecs-dev-app-2-data-disk"]
    assert [name for name in names(several) if name.endswith("-data-disk")] == disks
    for program, server in ((alone, "dev"), (several, "app-1"), (several, "app-2")):
        urns = program.request("remote:Command", f"{server}-host-apply").dependencies
        assert [urn for urn in urns if urn.endswith(f"{server}-data-attachment")], server
        ready = program.request(":EcsDiskAttachment", f"{server}-data-attachment").dependencies
        assert [urn for urn in ready if urn.endswith(f"{server}-ready")], server


def test_a_data_disk_needs_no_other_server() -> None:
    for role, config in (("whole", {}), ("app", {"topology": {"app_servers": 1}})):
        one, other = (parse({**config, **more}, "stack") for more in ({}, {"data": {"disk_gib": 30}}))
        for before, after in zip(machines(one), machines(other), strict=True):
            assert bootstrap.user_data(before.plan, one) == bootstrap.user_data(after.plan, other)
            assert bootstrap.version(before.plan, one) == bootstrap.version(after.plan, other)
            assert isinstance(after.plan.host, Host)
            assert after.plan.host.disk_gib == (30 if after.plan.role == role else None)


def names(program: Recorder) -> list[str]:
    return sorted(request.name for request in program.requests.values())
