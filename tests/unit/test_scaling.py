"""Servers that come and go: what a member is, what is registered for them, and what the release host brings them."""

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc

from components.managed_lookup import second_zone
from components.network import Rule, groups
from components.server import checked
from contract.documents import Host
from contract.nfs import OPTIONS
from contract.service_documents import Database
from kinds.systems import SYSTEMS
from policies import POLICIES, Resource
from reference.samples import CLOUD, OFFICE
from serving import bootstrap, machines, members, store
from serving.plan import Machine
from settings import StackSettings, static_files
from settings.loader import parse
from tests.builders.certificates import Authority
from tests.builders.program import Recorder, Run, secret
from tests.unit.machine import module

FILE = "stacks/Pulumi.dev.yaml"
TAGS = {"project": "wsgi-ecs", "stack": "dev", "managed-by": "pulumi"}
BALANCER, SECOND = "10.76.18.0/23", "10.76.16.0/24"
ADDRESS = "0a1b-x.cn-hangzhou.nas.aliyuncs.com"
GIVEN = Authority().sign("www.example.test")
MEMBERS = "wsgi-ecs-dev-members"


def scaled(config: dict[str, Any] | None = None, **scaling: Any) -> dict[str, Any]:
    """A stack with a scaling group. scaling: its settings."""
    return {"topology": {"entrance": "alb", "scaling": scaling}, **(config or {})}


def planned(config: dict[str, Any]) -> tuple[StackSettings, Machine]:
    settings = parse(config, FILE)
    (found,) = members(settings)
    return settings, found


def version(config: dict[str, Any]) -> str:
    settings, machine = planned(config)
    assert settings.topology.scaling
    return store.version(bootstrap.version(machine.plan, settings), settings, settings.topology.scaling)


def test_a_member_is_what_a_server_behind_the_balancer_is_and_takes_releases_from_the_store() -> None:
    schedule = {"schedule": {"nightly": {"command": ["python"], "at": "0 3 * * *"}}, "server": {"os": "debian12"}}
    settings, member = planned(scaled(schedule))
    fixed, *_ = machines(parse({"topology": {"entrance": "alb", "app_servers": 2}, **schedule}, FILE))
    assert (member.name, member.group, member.plan.role) == ("members", "members", "whole")
    # Any member may be the one that runs a command at its time, and asks for the lease before that.
    script_of_job = "schedule-nightly.sh"
    (own,), (other,) = member.plan.sites, fixed.plan.sites
    asks = "/usr/bin/python3 @@release_dir@@/tool/has_lease.py || exit 0\n"
    assert asks in own.configs[script_of_job]
    assert asks not in other.configs[script_of_job]
    assert replace(own, configs={**own.configs, script_of_job: other.configs[script_of_job]}) == other
    assert member.plan.configs == fixed.plan.configs
    assert member.plan.packages == (*fixed.plan.packages, "nfs-common")
    text = bootstrap.user_data(member.plan, settings)
    unit = "ExecStart=/usr/bin/python3 -B /srv/wsgi-ecs-store/@@store_version@@/tool/member.py\n"
    assert unit in text and '"@@store_address@@:$1"' in text
    # They are started when the server can take a release.
    script = text.partition("ready for its first release")[2]
    assert [line.split()[-1] for line in script.splitlines() if "--no-block" in line] == [
        "wsgi-ecs-store",
        "wsgi-ecs-member",
    ]
    assert "http://mirrors.cloud.aliyuncs.com/pypi/simple/" in text


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("manager", ["supervisor", "systemd", "emperor"])
def test_user_data_of_each_member_fit_with_all_that_is_filled_in(system: str, manager: str) -> None:
    config = {"server": {"os": system}, "serving": {"process_manager": manager}, "data": {"shared": True}}
    settings, member = planned(scaled(config))
    text = checked(bootstrap.user_data(member.plan, settings))
    # A file that is packed could not be filled.
    assert "@@store_address@@" in text and "@@store_version@@" in text
    assert "@@" not in store.filled(text, ADDRESS, "0" * 12)
    release, *_ = machines(settings)
    assert len(checked(bootstrap.user_data(release.plan, settings))) < 6000


def test_user_data_that_fit_only_before_they_are_filled_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("settings.loader.pulumi.get_stack", lambda: "dev")
    text = "@@store_address@@" + "x" * 16300
    with pytest.raises(pulumi.RunError, match="bytes of user data"):
        checked(text)
    assert checked(text.replace("@", "a"))


def test_a_release_host_has_nothing_of_a_site(tmp_path: Path) -> None:
    settings = parse(scaled({"server": {"os": "debian12"}, "metrics": {"port": 9464}}), FILE)
    (release,) = machines(settings)
    plan = release.plan
    assert (release.name, release.group, plan.role) == ("release", "release", "release")
    assert (plan.ports, plan.sites, plan.services, plan.users) == ((), (), (), ())
    assert plan.packages == ("python3", "python3-venv", "nfs-common")
    assert {"sshd.conf", "journald.conf", "updates.json", "wsgi-ecs-metrics.socket"} <= set(plan.configs)
    assert isinstance(plan.host, Host)
    assert (plan.host.has_nginx, plan.host.sites, plan.host.shared) == (False, [], None)
    script = {file.path: file.text for file in bootstrap.files(plan, settings)}["/usr/local/sbin/wsgi-ecs-bootstrap"]
    # It is ready when it has the store.
    assert script.index("mountpoint -q /srv/wsgi-ecs-store") < script.index("/var/lib/wsgi-ecs/bootstrapped")
    (tmp_path / "script").write_text(script)
    subprocess.run(["sh", "-n", tmp_path / "script"], check=True)


def test_the_store_is_a_folder_of_root_alone_and_its_mount_is_hard(tmp_path: Path) -> None:
    """The script runs on stand-ins: the file system, mounted whole or in part, is a folder."""
    text = store.filled(store.release_files()["/usr/local/sbin/wsgi-ecs-store"], ADDRESS, "")
    share, here, bin_ = (tmp_path / name for name in ("share", "here", "bin"))
    share.mkdir()
    bin_.mkdir()
    stand_ins = {
        "mountpoint": f"[ -e {tmp_path}/mounted ]",
        "mount": f'echo "$@" >>{tmp_path}/log; [ -d "{share}${{5#*:}}" ] && rmdir {here} && '
        f'ln -s "{share}${{5#*:}}" {here} && touch {tmp_path}/mounted',
        "umount": f"rm {here} {tmp_path}/mounted && mkdir {here}",
    }
    for name, line in stand_ins.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin_ / name).chmod(0o755)
    script = text.replace("/srv/wsgi-ecs-store", str(here))
    for _ in range(2):
        subprocess.run(["sh", "-eu", "-c", script], check=True, env={"PATH": f"{bin_}:/usr/bin:/bin"}, timeout=20)
        assert here.resolve() == share / "store"
    assert (share / "store").stat().st_mode & 0o777 == 0o700
    mounted = (tmp_path / "log").read_text().splitlines()
    assert mounted == [f"-t nfs -o {OPTIONS} {ADDRESS}:{path} {here}" for path in ("/", "/store")]
    assert ",hard," in OPTIONS and module("shared_data").OPTIONS == OPTIONS


def test_members_of_another_system_network_or_way_of_paying_are_another_version() -> None:
    base = version(scaled())
    assert re.fullmatch("[0-9a-f]{12}", base)
    for config in (
        scaled({"server": {"os": "debian12"}}),
        scaled({"network": {"standby_cidr": "10.90.0.0/24"}}),
        scaled({"network": {"cidr": "10.80.0.0/20"}}),
        scaled(spot_percent=20),
    ):
        assert version(config) != base
    for config in (
        scaled({"app": {"module": "other"}}),
        scaled({"server": {"mirrors": {"index": ["https://m.example.com/"]}}}),
        scaled(min=1, max=9, cpu=30, at_once=3, instance_types=["ecs.c6.large"]),
    ):
        assert version(config) == base


def test_nobody_logs_in_to_a_member_and_only_the_balancer_asks_it() -> None:
    config = scaled({"mysql": {"password": "x"}, "access": {"ssh": [OFFICE], "metrics": ["10.0.0.0/8"]}, "metrics": {}})
    settings = parse({**config, "metrics": {"port": 9464}}, FILE)
    metrics = Rule(9464, "10.0.0.0/8", "Metrics, from 10.0.0.0/8")
    assert groups(machines(settings), settings.access, 9464, BALANCER, members(settings)) == {
        "release": [Rule(22, OFFICE, f"SSH for releases, from {OFFICE}"), metrics],
        "db": [
            Rule(3306, "members", "Queries, from the application"),
            Rule(22, "release", "SSH for releases, by way of the first machine"),
            metrics,
        ],
        "members": [Rule(80, BALANCER, "Requests, from the balancer"), metrics],
    }


def test_a_database_lets_members_of_both_zones_in() -> None:
    for network, wanted in (
        ({}, "10.76.0.0/255.255.224.0"),
        ({"standby_cidr": "10.90.0.0/24"}, "10.64.0.0/255.224.0.0"),
    ):
        config = {"mysql": {"password": "x"}, "network": network}
        _, database = machines(parse(scaled(config), FILE))
        assert isinstance(database.plan.host, Database)
        assert database.plan.host.network == wanted
    (_, alone) = machines(parse({"mysql": {"password": "x"}}, FILE))
    assert isinstance(alone.plan.host, Database)
    assert alone.plan.host.network == "10.76.0.0/255.255.240.0"


def test_redis_has_a_server_of_its_own_and_shared_data_have_owners_of_the_same_numbers() -> None:
    settings, member = planned(scaled({"redis": {"password": "x" * 24}, "data": {"shared": True}}))
    assert [machine.name for machine in machines(settings)] == ["release", "redis"]
    assert member.plan.numbers
    assert isinstance(member.plan.host, Host)
    assert member.plan.host.shared and member.plan.host.shared.is_several


def test_static_files_that_one_member_would_make_are_refused(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    site = {"nginx": {"static": {"/static/": "built"}}, "release": {"before": [["make"]]}}
    with pytest.raises(Exception, match=r"runs on the first member and on no other server; .* without scaling$"):
        static_files.resolve(parse(scaled(site), FILE), tmp_path, FILE)


def registered(program: Recorder) -> set[tuple[str, str]]:
    return {(request.type, request.name) for request in program.requests.values()}


def names(request: Any) -> set[str]:
    """Names of what a resource depends on."""
    return {urn.rpartition("::")[2] for urn in request.dependencies}


def test_a_stack_without_it_registers_nothing_of_it(run_program: Run) -> None:
    found = registered(run_program({**CLOUD, "topology": {"entrance": "alb", "app_servers": 1}}))
    assert not [pair for pair in found if any(word in "".join(pair) for word in (":ess/", ":nas/", "members"))]


def secure() -> dict[str, Any]:
    given = {"certificate": GIVEN.certificate, "private_key": GIVEN.private_key}
    mysql = {"managed": True, "password": "Hunter2-hunter2"}
    app = {"env": {"TOKEN": "hunter-2"}}
    return {**CLOUD, **scaled({"site": {"server_name": "www.example.test"}, "tls": given, "mysql": mysql, "app": app})}


def test_the_group_has_what_the_provider_reads_back_and_never_a_capacity(run_program: Run) -> None:
    config = secure()
    program = run_program(config)
    found = version(config)
    assert program.inputs("ess/scalingGroup:ScalingGroup") == {
        # Two versions have two names, because both are there for a while.
        "scalingGroupName": f"{MEMBERS}-{found}",
        "minSize": 2,
        "maxSize": 4,
        "vswitchIds": ["wsgi-ecs-dev-switch-id", "wsgi-ecs-dev-standby-switch-id"],
        "multiAzPolicy": "BALANCE",
        "healthCheckTypes": ["ECS", "LOAD_BALANCER"],
        "removalPolicies": ["OldestScalingConfiguration", "OldestInstance"],
        "defaultCooldown": 60,
        "albServerGroups": [{"albServerGroupId": "wsgi-ecs-dev-app-servers-id", "port": 80, "weight": 100}],
        "tags": TAGS,
    }
    group = program.request("ess/scalingGroup:ScalingGroup")
    # Set, it would take back what the rule has done; taken out later, it would be 0.
    assert list(group.ignoreChanges) == ["desiredCapacity"]
    assert group.replacement_trigger.string_value == found
    assert not group.deleteBeforeReplace, "the group before it serves until this one does"
    # It is enabled when the listeners, what its members take, and what they mount are there.
    assert names(group) >= {
        *("wsgi-ecs-dev-http-80", "wsgi-ecs-dev-https-443", "wsgi-ecs-dev-app-servers", f"{MEMBERS}-roll"),
        *("wsgi-ecs-dev-data-target", "wsgi-ecs-dev-network-data-rule", "wsgi-ecs-dev-standby-data-rule"),
    }
    # The run after a refresh would take all members out.
    servers = program.request("alb/serverGroup:ServerGroup")
    assert list(servers.ignoreChanges) == ["servers"]
    assert "servers" not in program.inputs("alb/serverGroup:ServerGroup")
    _configuration(program, config, found)
    _hooks_and_rule(program)
    _joined(program, found)
    _roll(program, found)
    _network(program)


def _configuration(program: Recorder, config: dict[str, Any], found: str) -> None:
    inputs = program.inputs("ess/scalingConfiguration:ScalingConfiguration")
    settings, member = planned({key: value for key, value in config.items() if key != "access"})
    text = inputs.pop("userData")
    # Nothing of it is secret, and all of it is readable in a preview.
    assert text == store.filled(bootstrap.user_data(member.plan, settings), ADDRESS, found)
    key = inputs.pop("keyName")
    assert key.startswith("wsgi-ecs-dev-")
    assert inputs == {
        "scalingConfigurationName": f"{MEMBERS}-{found}",
        "scalingGroupId": f"{MEMBERS}-scaling-id",
        "imageId": "centos_7_9_x64-image",
        "instanceTypes": ["ecs.e-c1m1.large"],
        "instanceName": MEMBERS,
        "securityGroupIds": [f"{MEMBERS}-group-id"],
        # Unset, they differ for ever, and securityEnhancementStrategy replaces the configuration.
        "systemDiskCategory": "cloud_essd",
        "systemDiskSize": 20,
        "systemDiskEncrypted": False,
        "spotStrategy": "NoSpot",
        "securityEnhancementStrategy": "Deactive",
        "internetMaxBandwidthIn": 200,
        "internetMaxBandwidthOut": 0,
        "active": True,
        "enable": True,
        # Otherwise a destroy could not delete the last configuration.
        "forceDelete": True,
        "tags": TAGS,
    }
    request = program.request("ess/scalingConfiguration:ScalingConfiguration")
    # User data and the image are for members that are made later, and change in place.
    assert not request.ignoreChanges and not request.HasField("replacement_trigger")
    assert names(request) >= {f"{MEMBERS}-scaling", f"{MEMBERS}-joins-hook", "wsgi-ecs-dev-data-target"}


def _hooks_and_rule(program: Recorder) -> None:
    hooks = {"joins": ("SCALE_OUT", 300), "leaves": ("SCALE_IN", 60)}
    for name, (transition, seconds) in hooks.items():
        assert program.inputs(":LifecycleHook", f"{name}-hook") == {
            "name": name,
            "scalingGroupId": f"{MEMBERS}-scaling-id",
            "lifecycleTransition": transition,
            "heartbeatTimeout": seconds,
            # ABANDON would delete each new member when its time is over.
            "defaultResult": "CONTINUE",
        }
    assert program.inputs(":ScalingRule") == {
        "scalingGroupId": f"{MEMBERS}-scaling-id",
        "scalingRuleName": f"{MEMBERS}-cpu",
        "scalingRuleType": "TargetTrackingScalingRule",
        "metricName": "CpuUtilization",
        "targetValue": 60,
        "estimatedInstanceWarmup": 300,
    }
    # A destroy deletes the rule before the configuration, which takes the group with it.
    assert f"{MEMBERS}-configuration" in names(program.request(":ScalingRule"))


def _joined(program: Recorder, found: str) -> None:
    inputs = program.inputs("remote:Command", "members-joined")
    assert inputs["create"] == f"exec /usr/bin/python3 -B /srv/wsgi-ecs-store/{found}/tool/release.py joined 2 300"
    assert inputs["triggers"] == [f"{MEMBERS}-scaling-id"]
    assert names(program.request("remote:Command", "members-joined")) >= {f"{MEMBERS}-configuration"}


def _roll(program: Recorder, found: str) -> None:
    copies = {
        request.name: program.inputs(request.type, request.name)
        for request in program.requests.values()
        if request.type.endswith(":CopyToRemote") and request.name.startswith(MEMBERS)
    }
    assert set(copies) == {f"{MEMBERS}-host-archive", f"{MEMBERS}-site-app-archive"}
    host, site = (copies[f"{MEMBERS}-{part}-archive"]["triggers"][0] for part in ("host", "site-app"))
    roll = program.inputs("remote:Command", "members-roll")
    assert f"wsgi-ecs roll /srv/wsgi-ecs/incoming/{host}.tar.gz" in roll["create"]
    assert roll["triggers"] == [host, site, found, "wsgi-ecs-dev-release-instance-id"]
    parts = json.loads(secret(roll["stdin"]))
    assert (parts["archives"], parts["version"], parts["at_once"]) == ({"app": site}, found, 1)
    assert parts["prepare"]["database"]["host"] == "rm-1.mysql.rds.aliyuncs.com"
    # The balancer has the certificate.
    assert parts["prepare"]["tls"] == {}
    env = parts["apply"]["app"]["env"]
    assert (env["TOKEN"], env["MYSQL_HOST"]) == ("hunter-2", "rm-1.mysql.rds.aliyuncs.com")
    plain = [name for name, request in program.requests.items() if "hunter-2" in str(without_secrets(request))]
    assert plain == []
    # What the members need is there before their release.
    assert names(program.request("remote:Command", "members-roll")) >= {
        *("wsgi-ecs-dev-mysql-backups", "wsgi-ecs-dev-release-host-apply"),
        *copies,
    }
    assert (program.outputs["release"], program.outputs["scaling_group"]) == (site, f"{MEMBERS}-scaling-id")
    assert program.outputs["url"] == "https://www.example.test/"
    assert [(each["name"], each["sites"]) for each in program.outputs["machines"]] == [("release", [])]


def without_secrets(request: Any) -> Any:
    """The inputs of a resource without those that are marked as secret."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            is_secret = "4dabf18193072939515e22adb298388d" in value and "value" in value
            return None if is_secret else {key: plain(part) for key, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, list) else value

    return plain(dict(rpc.deserialize_properties(request.object, keep_unknowns=False)))


def _network(program: Recorder) -> None:
    rules = {"network": "10.76.0.0/20", "standby": SECOND}
    for name, cidr in rules.items():
        request = program.request(":AccessRule", f"{name}-data-rule")
        inputs = program.inputs(":AccessRule", f"{name}-data-rule")
        assert (inputs["sourceCidrIp"], inputs["userAccessType"]) == (cidr, "no_squash")
        assert list(request.replaceOnChanges) == ["sourceCidrIp"]
    # The members of both zones reach RDS.
    assert program.inputs("rds/instance:Instance")["securityIps"] == list(rules.values())
    release = program.request("ecs/instance:Instance", "release-instance")
    # The release host goes before what it mounts.
    assert names(release) >= {"wsgi-ecs-dev-data-target", "wsgi-ecs-dev-network-data-rule"}
    assert f'"{ADDRESS}:$1"' in secret(program.inputs("ecs/instance:Instance", "release-instance")["userData"])
    assert program.inputs(":EipAssociation")["instanceId"] == "wsgi-ecs-dev-release-instance-id"


def test_members_beyond_the_first_may_be_spot_instances_and_still_fill_both_zones(run_program: Run) -> None:
    program = run_program({**CLOUD, **scaled(min=3, max=9, spot_percent=70, instance_types=["ecs.c6.large"])})
    inputs = program.inputs(":ScalingGroup")
    assert inputs["multiAzPolicy"] == "COMPOSABLE"
    assert inputs["azBalance"] is True
    assert inputs["capacityOptionsOnDemandBaseCapacity"] == 3
    assert inputs["capacityOptionsOnDemandPercentageAboveBaseCapacity"] == 30
    configuration = program.inputs(":ScalingConfiguration")
    assert (configuration["spotStrategy"], configuration["instanceTypes"]) == ("SpotAsPriceGo", ["ecs.c6.large"])
    # The release host is none of them.
    assert program.inputs("ecs/instance:Instance")["instanceType"] == "ecs.e-c1m1.large"
    # The file system has nothing of a site, unless it is asked to.
    assert not program.request(":FileSystem").protect


def test_an_old_password_ends_when_the_members_have_the_new_one(run_program: Run) -> None:
    program = run_program({**CLOUD, **scaled({"mysql": {"password": "x"}, "server": {"protect": True}})})
    settle = names(program.request("remote:Command", "db-settle"))
    assert {f"{MEMBERS}-roll", f"{MEMBERS}-joined"} <= settle
    rules = [program.inputs(r.type, r.name) for r in program.requests.values() if r.type.endswith(":SecurityGroupRule")]
    of_members = [rule for rule in rules if rule["securityGroupId"] == f"{MEMBERS}-group-id"]
    assert [(rule["cidrIp"], rule["portRange"]) for rule in of_members] == [(BALANCER, "80/80")]
    assert program.request(":FileSystem").protect


def test_the_policies_know_a_scaling_group() -> None:
    checks = {policy.name: policy.check for policy in POLICIES}

    def of(type_: str, inputs: dict[str, Any]) -> Resource:
        return Resource(f"alicloud:ess/{type_[0].lower()}{type_[1:]}:{type_}", "prod", inputs, False)

    assert list(checks["tagged"](of("ScalingGroup", {})))
    assert not list(checks["tagged"](of("ScalingGroup", {"tags": TAGS})))
    assert list(checks["encrypted-disks"](of("ScalingConfiguration", {"systemDiskEncrypted": False})))
    assert not list(checks["encrypted-disks"](of("ScalingConfiguration", {"systemDiskEncrypted": True})))
    # A new version of the members replaces it.
    assert not list(checks["protected-prod"](of("ScalingGroup", {})))


def offering(offers: dict[str, list[str]], switch: str = "") -> Callable[..., Any]:
    """The cloud's answer. offers: instance type → zones that have it. switch: zone of a switch that exists."""

    def answer(function: Any, **arguments: Any) -> Any:
        if function.__name__ == "get_switches":
            found = [type("Switch", (), {"zone_id": switch})] if switch else []
            return type("Answer", (), {"vswitches": found})
        return type("Answer", (), {"ids": offers.get(arguments["available_instance_type"], [])})

    return answer


ZONE, NEXT, LAST = (f"cn-hangzhou-{zone}" for zone in "ijk")


@pytest.mark.parametrize(
    ("offers", "standby", "switch", "second"),
    [
        ({"ecs.a.large": [ZONE, NEXT]}, None, "", NEXT),
        ({"ecs.a.large": [ZONE], "ecs.b.large": [LAST]}, None, "", LAST),
        ({"ecs.a.large": [ZONE, NEXT, LAST], "ecs.b.large": [LAST]}, LAST, "", LAST),
        # Sold out is no reason to refuse a release to members that exist.
        ({}, None, NEXT, NEXT),
        (
            {"ecs.a.large": [ZONE]},
            None,
            "",
            "only cn-hangzhou-i offers ecs.a.large, ecs.b.large; allowed: other types in",
        ),
        (
            {"ecs.a.large": [NEXT, LAST], "ecs.b.large": [LAST]},
            None,
            "",
            "cn-hangzhou-i offers none of ecs.a.large, ecs.b.la",
        ),
        (
            {"ecs.a.large": [ZONE, NEXT], "ecs.b.large": [ZONE]},
            LAST,
            "",
            "cn-hangzhou-k offers none of ecs.a.large, ecs.b.large;",
        ),
        (
            {"ecs.a.large": [ZONE, NEXT], "ecs.b.large": []},
            None,
            "",
            "no zone of this region offers ecs.b.large; allowed: t",
        ),
    ],
)
def test_members_are_in_two_zones_that_offer_a_type_of_theirs(
    offers: dict[str, list[str]], standby: str | None, switch: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if offers:
        offers = {"ecs.b.large": offers["ecs.a.large"], **offers}
    answer = offering(offers, switch)
    monkeypatch.setattr("components.managed_lookup.ask", answer)
    monkeypatch.setattr("components.lookup.ask", answer)
    monkeypatch.setattr("settings.loader.pulumi.get_stack", lambda: "dev")
    settings = parse(scaled(instance_types=["ecs.a.large", "ecs.b.large"]), FILE)
    if second in (ZONE, NEXT, LAST):
        assert second_zone("wsgi-ecs-dev", settings, ZONE, standby) == second
    else:
        with pytest.raises(pulumi.RunError, match=f"^{re.escape(FILE)}: topology.scaling[a-z_.]*: .*{second}"):
            second_zone("wsgi-ecs-dev", settings, ZONE, standby)
