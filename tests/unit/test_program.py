"""Every resource that the program registers, with its inputs, options and dependencies."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks
from pulumi.runtime.proto import provider_pb2

import settings
from components import lookup, way_in
from kinds.systems import SYSTEMS
from reference.samples import CLOUD, OFFICE, PUBLIC_KEY
from tests.builders.program import Cloud, Recorder, Run, secret
from tests.builders.stack import PROJECT, ssh_key

TAGS = {"project": "wsgi-ecs", "stack": "dev", "managed-by": "pulumi"}


@pytest.fixture
def program(run_program: Run) -> Recorder:
    return run_program()


def test_the_program_registers_these_resources_and_no_others(program: Recorder) -> None:
    assert sorted((r.type.split(":")[-1], r.name) for r in program.requests.values()) == [
        ("Command", "wsgi-ecs-dev-host-apply"),
        ("Command", "wsgi-ecs-dev-ready"),
        ("Command", "wsgi-ecs-dev-site-app-apply"),
        ("CopyToRemote", "wsgi-ecs-dev-host-archive"),
        ("CopyToRemote", "wsgi-ecs-dev-site-app-archive"),
        ("EcsKeyPair", "wsgi-ecs-dev-key"),
        ("EipAddress", "wsgi-ecs-dev-address"),
        ("EipAssociation", "wsgi-ecs-dev-association"),
        ("Fleet", "wsgi-ecs-dev"),
        ("Instance", "wsgi-ecs-dev-instance"),
        ("Login", "wsgi-ecs-dev"),
        ("Network", "wsgi-ecs-dev"),
        ("Network", "wsgi-ecs-dev-vpc"),
        ("Release", "wsgi-ecs-dev"),
        ("SecurityGroup", "wsgi-ecs-dev-group"),
        ("SecurityGroupRule", "wsgi-ecs-dev-22-from-203.0.113.0-24"),
        ("SecurityGroupRule", "wsgi-ecs-dev-80-from-0.0.0.0-0"),
        ("Server", "wsgi-ecs-dev"),
        ("Stack", "wsgi-ecs-dev"),
        ("Switch", "wsgi-ecs-dev-switch"),
    ]


def test_the_network(program: Recorder) -> None:
    assert program.inputs("network:Network", "-vpc") == {
        "vpcName": "wsgi-ecs-dev",
        "cidrBlock": "10.76.0.0/20",
        "tags": TAGS,
    }
    assert program.inputs("switch:Switch") == {
        "vswitchName": "wsgi-ecs-dev",
        "vpcId": "wsgi-ecs-dev-vpc-id",
        "cidrBlock": "10.76.0.0/20",
        "zoneId": "cn-hangzhou-i",
        "tags": TAGS,
    }
    # The zone is looked up at each run: another answer is no reason to rebuild.
    assert list(program.request("switch:Switch").ignoreChanges) == ["zoneId"]
    assert program.inputs(":SecurityGroup") == {
        "securityGroupName": "wsgi-ecs-dev",
        "description": "What may reach the servers; everything else is refused",
        "innerAccessPolicy": "Drop",
        "vpcId": "wsgi-ecs-dev-vpc-id",
        "tags": TAGS,
    }


def test_each_rule_of_the_security_group_is_described(program: Recorder) -> None:
    common = {
        "securityGroupId": "wsgi-ecs-dev-group-id",
        "type": "ingress",
        "ipProtocol": "tcp",
        "nicType": "intranet",
        "policy": "accept",
        "priority": 1,
    }
    assert program.inputs(":SecurityGroupRule", "80-from-0.0.0.0-0") == {
        **common,
        "portRange": "80/80",
        "cidrIp": "0.0.0.0/0",
        "description": "The site, from 0.0.0.0/0",
    }
    assert program.inputs(":SecurityGroupRule", "22-from-203.0.113.0-24") == {
        **common,
        "portRange": "22/22",
        "cidrIp": OFFICE,
        "description": f"SSH for releases, from {OFFICE}",
    }


def test_the_port_of_the_site_is_the_one_that_nginx_listens_on(run_program: Run) -> None:
    program = run_program({**CLOUD, "nginx": {"listen": 8080}})
    assert program.inputs(":SecurityGroupRule", "8080-from-0.0.0.0-0")["portRange"] == "8080/8080"
    assert program.outputs["url"] == "http://198.51.100.7:8080/"


@pytest.mark.parametrize(
    ("config", "port"),
    [
        ({"serving": {"front": "none"}, "uwsgi": {"http": "0.0.0.0:8080"}}, 8080),
        ({"serving": {"front": "none", "app_server": "gunicorn"}, "gunicorn": {"bind": "0.0.0.0:8000"}}, 8000),
    ],
)
def test_without_nginx_the_port_of_the_site_is_the_app_servers(run_program: Run, config: Any, port: int) -> None:
    program = run_program({**CLOUD, **config})
    rules = [r.name for r in program.requests.values() if r.type.endswith(":SecurityGroupRule")]
    assert sorted(rules) == ["wsgi-ecs-dev-22-from-203.0.113.0-24", f"wsgi-ecs-dev-{port}-from-0.0.0.0-0"]
    assert program.inputs(":SecurityGroupRule", f"{port}-from-0.0.0.0-0")["portRange"] == f"{port}/{port}"
    assert program.outputs["url"] == f"http://198.51.100.7:{port}/"


def test_the_ports_of_an_app_server_behind_nginx_stay_closed(run_program: Run) -> None:
    program = run_program({**CLOUD, "serving": {"app_server": "gunicorn"}, "gunicorn": {"bind": "127.0.0.1:8000"}})
    rules = [r.name for r in program.requests.values() if r.type.endswith(":SecurityGroupRule")]
    assert sorted(rules) == ["wsgi-ecs-dev-22-from-203.0.113.0-24", "wsgi-ecs-dev-80-from-0.0.0.0-0"]


def test_the_server(program: Recorder) -> None:
    inputs = program.inputs(":Instance")
    user_data = inputs.pop("userData")
    assert user_data.startswith("#cloud-config\n")
    assert inputs == {
        "instanceName": "wsgi-ecs-dev",
        "instanceType": "ecs.e-c1m1.large",
        "imageId": "centos_7_9_x64-image",
        "vswitchId": "wsgi-ecs-dev-switch-id",
        "securityGroups": ["wsgi-ecs-dev-group-id"],
        "keyName": program.inputs(":EcsKeyPair")["keyPairName"],
        "systemDiskCategory": "cloud_essd",
        "systemDiskSize": 20,
        "spotStrategy": "NoSpot",
        "status": "Running",
        "tags": TAGS,
    }
    request = program.request(":Instance")
    assert sorted(request.ignoreChanges) == ["imageId", "systemDiskEncrypted", "userData"]
    assert request.replacement_trigger.string_value.startswith("centos7-")
    assert not request.protect


def test_the_key_pair_is_named_after_the_key(run_program: Run) -> None:
    first = run_program().inputs(":EcsKeyPair")
    assert first["publicKey"] == PUBLIC_KEY
    other = PUBLIC_KEY[:-4] + "AAAA"
    second = run_program({"access": {"ssh": [OFFICE], "public_key": other}}).inputs(":EcsKeyPair")
    assert first["keyPairName"] != second["keyPairName"]


def test_the_address_outlives_the_server(program: Recorder) -> None:
    assert program.inputs(":EipAddress") == {
        "addressName": "wsgi-ecs-dev",
        "bandwidth": "5",
        "internetChargeType": "PayByTraffic",
        "deletionProtection": False,
        "tags": TAGS,
    }
    assert program.inputs(":EipAssociation") == {
        "allocationId": "wsgi-ecs-dev-address-id",
        "instanceId": "wsgi-ecs-dev-instance-id",
    }
    assert program.request(":EipAssociation").deleteBeforeReplace


def test_protection_covers_the_server_and_its_address_and_nothing_that_a_release_replaces(run_program: Run) -> None:
    program = run_program({**CLOUD, "server": {"protect": True}})
    protected = {r.type.split(":")[-1] for r in program.requests.values() if r.protect}
    assert protected == {"Instance", "EipAddress"}
    assert "deletionProtection" not in program.inputs(":Instance")


@pytest.mark.parametrize(
    ("spot", "strategy", "asked"), [(True, "SpotAsPriceGo", "SpotAsPriceGo"), (False, "NoSpot", None)]
)
def test_a_spot_server_stands_where_there_are_some(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, spot: bool, strategy: str, asked: str | None
) -> None:
    questions: list[dict[str, Any]] = []
    known = Cloud.call

    def call(cloud: Cloud, args: mocks.MockCallArgs) -> Any:
        questions.append(args.args)
        return known(cloud, args)

    monkeypatch.setattr(Cloud, "call", call)
    assert run_program({**CLOUD, "server": {"spot": spot}}).inputs(":Instance")["spotStrategy"] == strategy
    assert questions[0].get("spotStrategy") == asked


def test_a_given_image_and_zone_are_used_as_they_are(run_program: Run) -> None:
    program = run_program({**CLOUD, "server": {"image": "m-abc", "zone": "cn-hangzhou-j"}})
    assert program.inputs(":Instance")["imageId"] == "m-abc"
    assert program.inputs("switch:Switch")["zoneId"] == "cn-hangzhou-j"
    assert program.request(":Instance").replacement_trigger.string_value.split()[1] == "m-abc"


def test_the_key_pair_whose_name_another_state_may_have_comes_first(program: Recorder) -> None:
    for first in ("-vpc", "-address"):
        assert urn(program, "-key") in program.request("", first).dependencies
    for later in ("-switch", "-group", "-instance"):
        assert {urn(program, "-vpc"), urn(program, "-key"), urn(program, "-switch")} & set(
            program.request("", later).dependencies
        )


def test_the_release_waits_copies_and_applies_in_this_order(program: Recorder) -> None:
    assert urn(program, "-association") in program.request("", "-ready").dependencies
    for part, after in (("-host", "-ready"), ("-site-app", "-host-apply")):
        copy, apply = (program.request("", f"{part}-{name}") for name in ("archive", "apply"))
        assert urn(program, "-ready") in copy.dependencies
        assert {urn(program, f"{part}-archive"), urn(program, after)} <= set(apply.dependencies)


def urn(program: Recorder, name: str) -> str:
    return next(urn for urn in program.resources if urn.endswith(name))


def test_a_new_server_gets_the_release_again(program: Recorder) -> None:
    assert program.inputs("remote:Command", "-ready")["triggers"][0] == "wsgi-ecs-dev-instance-id"
    for part in ("-host", "-site-app"):
        archive = Path(program.inputs("CopyToRemote", f"{part}-archive")["source"].path)
        for type_, name in (("CopyToRemote", "-archive"), ("remote:Command", "-apply")):
            inputs = program.inputs(type_, part + name)
            # As many programs as the server has CPUs.
            own = ["ecs.e-c1m1.large"] if part + name == "-site-app-apply" else []
            assert inputs["triggers"] == [archive.name.partition(".")[0], "wsgi-ecs-dev-instance-id", *own]
            assert "delete" not in inputs


def test_the_archive_goes_where_the_command_unpacks_it(program: Recorder) -> None:
    copy = program.inputs("CopyToRemote", "-site-app-archive")
    release = program.outputs["release"]
    assert copy["remotePath"] == f"/srv/wsgi-ecs/incoming/{release}.tar.gz"
    assert isinstance(copy["source"], pulumi.FileAsset)
    assert copy["source"].path == f".build/{release}.tar.gz"
    create = program.inputs("remote:Command", "-site-app-apply")["create"]
    assert create.endswith(f" wsgi-ecs apply {copy['remotePath']}")
    assert " wsgi-ecs prepare " in program.inputs("remote:Command", "-host-apply")["create"]


def test_the_connection(run_program: Run, tmp_path: Any) -> None:
    key, (private, public) = tmp_path / "key", ssh_key()
    key.write_text(private)
    access = {**CLOUD["access"], "public_key": public, "private_key_file": str(key), "host_key": PUBLIC_KEY}
    config = {"access": access}
    connection = secret(run_program(config).inputs("remote:Command", "-ready")["connection"])
    assert connection == {
        "host": "198.51.100.7",
        "user": "root",
        "port": 22,
        "privateKey": private,
        "hostKey": PUBLIC_KEY,
        "dialErrorLimit": 60,
        "perDialTimeout": 5,
    }


def test_a_key_that_cannot_log_in_is_one_line(
    run_program: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi, "warn", warned.append)
    key = tmp_path / "key"
    config = {**CLOUD, "server": {"os": "debian12"}}
    config = {**config, "access": {**CLOUD["access"], "private_key_file": str(key)}}
    key.write_text(ssh_key()[0])
    other = (
        f"access.private_key_file: {key} is another key than access.public_key; a new server lets in who has the "
        "latter; allowed: the private key of access.public_key"
    )
    with pytest.raises(pulumi.RunError, match=re.escape(other)):
        run_program(config)
    assert warned == [other]
    key.write_text("no key")
    with pytest.raises(pulumi.RunError, match=r"key is no private key; allowed: a file with one$"):
        run_program(config)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "words", "-f", str(tmp_path / "locked")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    with pytest.raises(pulumi.RunError, match=r"locked wants a passphrase, .*; allowed: a key without one"):
        run_program({"access": {**CLOUD["access"], "private_key_file": str(tmp_path / "locked")}})


def test_without_a_key_file_the_agent_is_used(program: Recorder) -> None:
    connection = secret(program.inputs("remote:Command", "-ready")["connection"])
    # An agent's path in the state would redeploy at each login: SSH_AUTH_SOCK is left to the environment.
    assert not {"privateKey", "agentSocketPath"} & set(connection)


def test_the_outputs(program: Recorder) -> None:
    assert set(program.outputs) == {"url", "address", "ssh", "release", "machines", "edited_by_hand"}
    machine = {"name": "server", "id": "wsgi-ecs-dev-instance-id", "private_address": "10.0.0.1", "sites": ["app"]}
    assert program.outputs["machines"] == [machine]
    assert program.outputs["edited_by_hand"] == []
    assert program.outputs["url"] == "http://198.51.100.7/"
    assert program.outputs["address"] == "198.51.100.7"
    assert program.outputs["ssh"] == "ssh root@198.51.100.7"
    assert len(program.outputs["release"]) == 12


def test_the_machines_are_an_output_that_of_the_address_first(run_program: Run) -> None:
    settings = {**CLOUD, "topology": {"app_servers": 1}, "mysql": {"password": "p"}}
    machines = run_program(settings).outputs["machines"]
    assert [(each["name"], each["sites"]) for each in machines] == [("front", ["app"]), ("app-1", ["app"]), ("db", [])]


def test_files_that_were_edited_by_hand_are_an_output(run_program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = "wsgi-ecs: {} was edited by hand (changed): this release has its own\nwsgi-ecs: starting\n"
    monkeypatch.setattr(Cloud, "printed", printed.format("/srv/a b.conf"))
    line = "/srv/a b.conf was edited by hand (changed)"
    assert run_program().outputs["edited_by_hand"] == [line, line]
    several = {**CLOUD, "topology": {"app_servers": 1}}
    assert run_program(several).outputs["edited_by_hand"] == [
        f"{machine}: {line}" for machine in ("app-1", "app-1", "front", "front")
    ]


def test_a_command_is_one_short_line_that_runs_the_script_of_the_archive(run_program: Run, tmp_path: Path) -> None:
    program = run_program()
    create = program.inputs("remote:Command", "site-app-apply")["create"]
    assert len(create) < 300
    assert "\n" not in create
    sent = program.inputs("CopyToRemote", "site-app-archive")
    here = tmp_path / Path(sent["remotePath"]).name
    read, then, run = create.replace(sent["remotePath"], str(here)).partition("exec ")
    assert f"{then}{run}" == f'exec sh -c "$s" wsgi-ecs apply {here}'
    lost = subprocess.run(["sh", "-c", read], capture_output=True, text=True)
    assert lost.returncode == 1
    assert lost.stderr.endswith("wsgi-ecs: next: raise release.generation, which sends the archive again\n")
    shutil.copy(sent["source"].path, here)
    script = subprocess.run(["sh", "-c", f'{read}printf "%s\\n" "$s"'], capture_output=True, text=True, check=True)
    assert script.stdout == (PROJECT / "machine/run.sh").read_text()


def test_a_port_for_uwsgis_statistics_is_warned_of(run_program: Run, caplog: pytest.LogCaptureFixture) -> None:
    run_program({**CLOUD, "sites": {"shop": {"uwsgi": {"stats": 9300}}, "blog": {"site": {"location": "/blog/"}}}})
    told = [record.getMessage() for record in caplog.records if "uwsgi.stats" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("sites.shop.uwsgi.stats: every user of the server reads ")


SITES = {
    "shop": {"site": {"server_name": "*.example.com"}, "app": {"env": {"KEY": "of the shop"}}},
    "blog": {"site": {"location": "/blog/"}, "nginx": {"listen": 8080}, "release": {"generation": 1}},
}


def test_several_sites_are_a_copy_and_a_command_each_after_the_hosts(run_program: Run) -> None:
    program = run_program({**CLOUD, "sites": SITES})
    remote = sorted(r.name for r in program.requests.values() if r.type.startswith("command:"))
    parts = ("host", "site-blog", "site-shop")
    assert remote == sorted(
        ["wsgi-ecs-dev-ready", *(f"wsgi-ecs-dev-{part}-{name}" for part in parts for name in ("apply", "archive"))]
    )
    for part in parts[1:]:
        dependencies = set(program.request("", f"-{part}-apply").dependencies)
        assert urn(program, "-host-apply") in dependencies
        # Not one after another: what is wrong with a site is its own.
        assert not any("site-" in each and part not in each for each in dependencies)
    shop, blog = (dict.fromkeys(("DATA_DIR", "HOME"), f"/srv/wsgi-ecs/sites/{name}/data") for name in ("shop", "blog"))
    stdin = {part: json.loads(secret(program.inputs("", f"-{part}-apply")["stdin"])) for part in parts[1:]}
    # A checkout without git tells of no origin.
    assert len({json.dumps(sent.pop("origin", None)) for sent in stdin.values()}) == 1, "the same application"
    # The probe of a site without a domain names the server by the address that is put out.
    address = program.outputs["address"]
    assert stdin == {
        "site-shop": {
            "env": {**shop, "KEY": "of the shop", "PYTHONUNBUFFERED": "1"},
            "files": {},
            "address": address,
        },
        "site-blog": {"env": {**blog, "PYTHONUNBUFFERED": "1"}, "files": {}, "address": address},
    }
    rules = {r.name.removeprefix("wsgi-ecs-dev-") for r in program.requests.values() if "SecurityGroupRule" in r.type}
    assert rules == {"22-from-203.0.113.0-24", "80-from-0.0.0.0-0", "8080-from-0.0.0.0-0"}


def test_the_outputs_of_several_sites(run_program: Run) -> None:
    outputs = run_program({**CLOUD, "sites": SITES}).outputs
    assert set(outputs) == {
        "url", "address", "ssh", "release", "machines", "urls", "releases", "edited_by_hand",
    }  # fmt: skip
    assert outputs["urls"] == {"shop": "http://www.example.com/", "blog": "http://198.51.100.7:8080/blog/"}
    assert (outputs["url"], outputs["release"]) == (outputs["urls"]["shop"], outputs["releases"]["shop"])
    assert [len(release) for release in outputs["releases"].values()] == [12, 12]


def test_a_sites_release_changes_with_its_own_settings_alone(run_program: Run) -> None:
    before = run_program({**CLOUD, "sites": SITES}).outputs["releases"]
    changed = {**SITES, "blog": {**SITES["blog"], "uwsgi": {"processes": 3}}, "wiki": {"site": {"location": "/wiki/"}}}
    after = run_program({**CLOUD, "sites": changed}).outputs["releases"]
    assert after["shop"] == before["shop"]
    assert after["blog"] != before["blog"]


def test_a_domain_is_the_url(run_program: Run) -> None:
    assert (
        run_program({**CLOUD, "site": {"server_name": "www.example.com"}}).outputs["url"] == "http://www.example.com/"
    )


def test_the_same_settings_give_the_same_inputs(run_program: Run) -> None:
    first, second = run_program(), run_program()
    for request in first.requests.values():
        if request.type != "pulumi:pulumi:Stack":
            assert request.object == second.request(request.type, request.name).object, request.name


def test_the_stack_local_is_refused_in_the_cloud(run_program: Run) -> None:
    with pytest.raises(pulumi.RunError, match=r"^stacks/Pulumi\.local\.yaml: stack local is for \./rehearse up alone"):
        run_program(CLOUD, stack="local")
    assert run_program(CLOUD, stack="local", rehearsed=True).outputs["release"]


@pytest.mark.parametrize(
    ("access", "line"),
    [
        ({"public_key": PUBLIC_KEY}, "access.ssh: required"),
        ({"ssh": [OFFICE]}, "access.public_key: required"),
    ],
)
def test_what_the_cloud_needs_and_a_rehearsal_does_not(run_program: Run, access: Any, line: str) -> None:
    with pytest.raises(pulumi.RunError, match=rf"^stacks/Pulumi\.dev\.yaml: {line}"):
        run_program({"access": access})


def test_an_unknown_zone_or_image_is_one_line(run_program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cloud, "call", lambda self, args: ({"ids": []}, []))
    with pytest.raises(pulumi.RunError, match=r"^stacks/Pulumi\.dev\.yaml: server\.instance_type: no zone"):
        run_program()
    only = {
        "getZones": {"ids": ["cn-hangzhou-h", "cn-hangzhou-i"]},
        "getImages": {"ids": []},
        "getSwitches": {"ids": []},
    }
    monkeypatch.setattr(Cloud, "call", lambda self, args: (only[args.token.rpartition(":")[2]], []))
    with pytest.raises(pulumi.RunError, match=r"^stacks/Pulumi\.dev\.yaml: server\.os: no system image of centos7"):
        run_program({**CLOUD, "server": {"zone": "cn-hangzhou-i"}})
    with pytest.raises(pulumi.RunError) as error:
        run_program({**CLOUD, "server": {"zone": "cn-hangzhou-z"}})
    assert str(error.value) == (
        "stacks/Pulumi.dev.yaml: server.zone: no such zone is offered in this region; "
        "allowed: cn-hangzhou-h, cn-hangzhou-i"
    )
    # Where the network is already, a zone may be sold out.
    only["getSwitches"] = {"ids": ["vsw-1"]}
    with pytest.raises(pulumi.RunError, match="no system image"):
        run_program({**CLOUD, "server": {"zone": "cn-hangzhou-z"}})


def test_a_host_key_that_the_server_does_not_have_is_refused_before_the_first_resource(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, registered: list[str]
) -> None:
    known, asked = Cloud.call, []
    addresses = [{"ipAddress": "198.51.100.7", "addressName": "wsgi-ecs-dev", "instanceId": "i-1"}]

    def call(self: Cloud, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        return ({"addresses": addresses}, []) if args.token.endswith(":getEipAddresses") else known(self, args)

    def shown(address: str) -> list[str]:
        asked.append(address)
        return ["ssh-ed25519 AAAAmine"] if address == "198.51.100.7" else []

    monkeypatch.setattr(Cloud, "call", call)
    monkeypatch.setattr(way_in, "host_keys", shown)
    other = {**CLOUD, "access": {**CLOUD["access"], "host_key": PUBLIC_KEY}}
    with pytest.raises(pulumi.RunError) as error:
        run_program(other)
    assert str(error.value) == (
        "stacks/Pulumi.dev.yaml: access.host_key: the server at 198.51.100.7 does not have it; "
        "allowed: its own, such as ssh-ed25519 AAAAmine, if you trust this server"
    )
    assert registered == []
    # One that does not answer here, and one that does not exist yet.
    addresses[0]["ipAddress"] = "198.51.100.8"
    assert run_program(other).outputs["release"]
    addresses.clear()
    assert run_program(other).outputs["release"]
    assert asked == ["198.51.100.7", "198.51.100.8"]


@pytest.mark.parametrize(
    ("exists", "refuses", "refused"),
    [(False, False, True), (True, True, True), (True, False, False)],
)
def test_a_key_with_which_nobody_gets_in_is_refused_before_the_first_resource(
    exists: bool,
    refuses: bool,
    refused: bool,
    run_program: Run,
    monkeypatch: pytest.MonkeyPatch,
    registered: list[str],
    tmp_path: Path,
) -> None:
    private, _ = ssh_key()
    (tmp_path / "key").write_text(private)
    known = Cloud.call
    addresses = [{"ipAddress": "198.51.100.7", "addressName": "wsgi-ecs-dev", "instanceId": "i-1"}] if exists else []

    def call(self: Cloud, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        return ({"addresses": addresses}, []) if args.token.endswith(":getEipAddresses") else known(self, args)

    monkeypatch.setattr(Cloud, "call", call)
    monkeypatch.setattr(way_in, "refuses", lambda address, file: refuses)
    other = {**CLOUD, "access": {**CLOUD["access"], "private_key_file": str(tmp_path / "key")}}
    with monkeypatch.context() as preview:
        preview.setattr(pulumi.runtime, "is_dry_run", lambda: True)
        assert run_program(other).requests
    registered.clear()
    if refused:
        with pytest.raises(pulumi.RunError, match=r"access\.private_key_file: .* is another key"):
            run_program(other)
        assert registered == []
    else:
        # It may have let this key in before, as another of the team's.
        assert run_program(other).outputs["release"]
    assert run_program(other, rehearsed=True).outputs["release"]


def test_a_disk_that_would_shrink_is_refused_before_the_first_resource(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, registered: list[str]
) -> None:
    known = Cloud.call
    sizes = {"wsgi-ecs-dev-db-data": 60, "wsgi-ecs-other-db-data": 900}
    disks = [{"diskName": name, "size": size, "zoneId": "cn-hangzhou-g"} for name, size in sizes.items()]

    def call(self: Cloud, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        return ({"disks": disks}, []) if args.token.endswith(":getEcsDisks") else known(self, args)

    monkeypatch.setattr(Cloud, "call", call)
    with pytest.raises(pulumi.RunError) as error:
        run_program({**CLOUD, "mysql": {"password": "x", "disk_gib": 40}})
    assert str(error.value) == (
        "stacks/Pulumi.dev.yaml: mysql.disk_gib: 40 GiB, and the disk has 60, which never becomes smaller; "
        "allowed: 60 or more, or a backup that is restored into a new stack"
    )
    assert registered == []
    # Whatever else is replaced stays in the zone of the disk, which cannot leave it.
    for server in ({}, {"zone": "cn-hangzhou-i"}):
        program = run_program({**CLOUD, "server": server, "mysql": {"password": "x", "disk_gib": 60}})
        assert program.inputs("switch:Switch")["zoneId"] == "cn-hangzhou-g"


OFFERED = {
    "ecs.t6-c1m1.large": ["cn-hangzhou-h", "cn-hangzhou-i", "cn-hangzhou-j"],
    "ecs.c7.large": ["cn-hangzhou-j", "cn-hangzhou-i"],
    "ecs.g7.large": ["cn-hangzhou-g", "cn-hangzhou-j"],
    "ecs.g8i.large": ["cn-hangzhou-g"],
}


def of_types(server: str, app: str | None, db: str | None) -> dict[str, Any]:
    types = {"server": server, "topology": app, "mysql": db}
    own = {part: {"instance_type": type_} if type_ else {} for part, type_ in types.items()}
    return {
        **CLOUD,
        "server": own["server"],
        "topology": {"app_servers": 2, **own["topology"]},
        "mysql": {"password": "x", **own["mysql"]},
    }


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The provider offers what is in OFFERED; returns what it was asked for."""
    asked: list[str] = []

    def call(_: Cloud, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        if args.token.endswith(":getZones"):
            asked.append(args.args["availableInstanceType"])
            return {"ids": OFFERED.get(asked[-1], []), "zones": []}, []
        return {"ids": ["image"], "images": [], "disks": []}, []

    monkeypatch.setattr(Cloud, "call", call)
    return asked


def test_the_zone_has_the_instance_types_of_all_machines(run_program: Run, offers: list[str]) -> None:
    program = run_program(of_types("ecs.t6-c1m1.large", "ecs.c7.large", "ecs.g7.large"))
    assert program.inputs("switch:Switch")["zoneId"] == "cn-hangzhou-j"
    assert offers == ["ecs.t6-c1m1.large", "ecs.c7.large", "ecs.g7.large"]
    offers.clear()
    program = run_program(of_types("ecs.c7.large", None, "ecs.c7.large"))
    assert program.inputs("switch:Switch")["zoneId"] == "cn-hangzhou-j"
    assert offers == ["ecs.c7.large"]


def test_instance_types_that_no_zone_has_are_one_line(run_program: Run, offers: list[str]) -> None:
    with pytest.raises(pulumi.RunError) as error:
        run_program(of_types("ecs.t6-c1m1.large", None, "ecs.none.large"))
    assert str(error.value).startswith(
        "stacks/Pulumi.dev.yaml: mysql.instance_type: no zone of this region offers ecs.none.large; allowed: "
    )
    with pytest.raises(pulumi.RunError) as error:
        run_program(of_types("ecs.t6-c1m1.large", "ecs.c7.large", "ecs.g8i.large"))
    assert str(error.value) == (
        "stacks/Pulumi.dev.yaml: server.instance_type, topology.instance_type, mysql.instance_type: "
        "no zone of this region offers all of them: "
        "ecs.t6-c1m1.large is in cn-hangzhou-h, cn-hangzhou-i, cn-hangzhou-j; "
        "ecs.c7.large is in cn-hangzhou-j, cn-hangzhou-i; ecs.g8i.large is in cn-hangzhou-g; "
        "allowed: types that one zone has"
    )


def test_a_cloud_that_does_not_answer_is_mentioned_meanwhile(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    known = Cloud.call

    def slow(self: Cloud, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        time.sleep(0.3)
        return known(self, args)

    run_program()
    assert "no answer" not in capfd.readouterr().err
    monkeypatch.setattr(lookup, "_SILENCE", 0.1)
    monkeypatch.setattr(Cloud, "call", slow)
    run_program()
    assert "alicloud: no answer for 0 s; next: see that this machine reaches the cloud" in capfd.readouterr().err


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Types of what is registered."""
    seen: list[str] = []
    known = Cloud.new_resource

    def record(cloud: Cloud, args: Any) -> Any:
        seen.append(args.typ)
        return known(cloud, args)

    monkeypatch.setattr(Cloud, "new_resource", record)
    return seen


def test_a_wrong_value_registers_nothing(run_program: Run, registered: list[str]) -> None:
    with pytest.raises(pulumi.RunError, match=r"server\.os: got \w+; allowed: centos7, .* or ubuntu2204$"):
        run_program({**CLOUD, "server": {"os": "centos8"}})
    assert registered == []
    run_program()
    assert "alicloud:ecs/instance:Instance" in registered


def test_what_turns_out_wrong_later_registers_nothing_either(
    run_program: Run, registered: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`pulumi up --skip-preview` would build, and bill, all that comes before the error."""
    mirrors = [f"https://mirrors.example.com/{number:0900}/" for number in range(8)]
    with pytest.raises(pulumi.RunError, match="bytes of user data"):
        run_program({**CLOUD, "server": {"mirrors": {"packages": mirrors}}})
    (tmp_path / "app").unlink()
    shutil.copytree(PROJECT / "app", tmp_path / "app")
    (tmp_path / "app/out").symlink_to("/etc/passwd")
    with pytest.raises(pulumi.RunError, match="app/out is a link"):
        run_program()
    monkeypatch.setattr(Cloud, "call", lambda self, args: ({"ids": []}, []))
    with pytest.raises(pulumi.RunError, match="no such zone"):
        run_program({**CLOUD, "server": {"zone": "cn-hangzhou-i"}})
    assert registered == []


def test_a_cloud_that_cannot_be_asked_is_one_line(run_program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Failed!!!\n SDKError: InvalidAccessKeyId: https://ecs.aliyuncs.com/?AccessKeyId=LTAI5t&Signature=a x\nmore"
    answer = provider_pb2.InvokeResponse(failures=[provider_pb2.CheckFailure(property="zones", reason=said)])
    monkeypatch.setattr(Recorder, "Invoke", lambda self, request: answer)
    with pytest.raises(pulumi.RunError) as error:
        run_program()
    assert str(error.value) == (
        "alicloud: invoke of alicloud:index/getZones:getZones failed: Failed!!! SDKError: "
        "InvalidAccessKeyId: (address) x more (zones); "
        "next: see that this machine reaches the cloud, and that ALICLOUD_ACCESS_KEY, ALICLOUD_SECRET_KEY and "
        "alicloud:region are right"
    )


def test_the_settings_of_another_projects_name_are_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi, "get_project", lambda: "shop")
    pulumi.runtime.set_all_config({"wsgi-ecs:server": "{}", "shop:access": "{}"})
    with pytest.raises(pulumi.RunError, match=r"wsgi-ecs:server: this project's name is shop; allowed: shop:server$"):
        settings.load()


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_os_past_its_end_of_life_is_named_once_with_what_to_use(
    system: str, run_program: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run_program({**CLOUD, "topology": {"app_servers": 2}, "server": {"os": system}})
    told = [record.getMessage() for record in caplog.records if "end of life" in record.getMessage()]
    assert told == list(SYSTEMS[system].warnings)
    assert len(told) == (1 if system == "centos7" else 0)
    for line in told:
        assert "30 June 2024" in line
        assert all(other in line for other in SYSTEMS if other != system)
