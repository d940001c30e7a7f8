"""Tair in place of Redis of the stack's own: what is refused, what is registered, and what the applications see."""

import json
from typing import Any
from urllib.parse import unquote, urlsplit

import pulumi
import pytest

from components.managed_lookup import redis_standby_zone
from contract.codec import decode
from contract.documents import Host, Release
from kinds import managed
from reference.samples import CLOUD, RDS
from serving import host_files, machines, release_files
from settings import SettingsError
from settings.loader import parse
from tests.builders.program import Cloud, Recorder, Run, secret

FILE = "stacks/Pulumi.dev.yaml"
PASSWORD = "Hunter2-hunter2-01"
MANAGED = {"redis": {"managed": True, "password": PASSWORD}}
TAGS = {"project": "wsgi-ecs", "stack": "dev", "managed-by": "pulumi"}
HOST = "r-1.redis.rds.aliyuncs.com"


def redis(**values: Any) -> dict[str, Any]:
    return {"redis": {**MANAGED["redis"], **values}}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (redis(own_server=False), "redis.own_server: set, but redis.managed has no server of the stack's own"),
        (redis(instance_type="ecs.c6.large"), "redis.instance_type: set, but redis.managed has no server"),
        (redis(maxmemory="auto"), "redis.maxmemory: set, but redis.managed has no server"),
        (redis(persistence="aof"), "redis.persistence: set, but redis.managed has no server"),
        (redis(port=6380), "redis.port: Tair answers on another port; allowed: 6379, or none"),
        (
            redis(instance_class="ecs.c6.large"),
            "redis.instance_class: got ecs.c6.large; allowed: an instance class of T",
        ),
        (redis(instance_class="redis.shard.with.proxy.small.ce"), "redis.instance_class: got redis.shard.with.proxy."),
        (redis(instance_class="redis.basic.small.default"), "redis.instance_class: got redis.basic.small.default"),
        (redis(engine_version="4.0"), "redis.engine_version: got 4.0; allowed: "),
        (redis(password="hunter2"), "redis.password: allowed: 16 to 256 letters"),
        (redis(password="hunter2-hunter2-01"), ""),
        (redis(password="hunterhunterhunter2"), "redis.password: Tair refuses it; allowed: 16 to 32 letters, digits"),
        (redis(password="Hunter2.hunter2.01"), "redis.password: Tair refuses it"),
        (redis(password="Hunter2-" * 5), "redis.password: Tair refuses it"),
        ({"redis": {"managed": True}}, "redis.password: required with redis.managed; allowed: 16 to 32 letters"),
        (
            {"redis": {"engine_version": "7.0"}},
            "redis.engine_version: set, but Redis is on a server of the stack's own",
        ),
        ({"redis": {"high_availability": True}}, "redis.high_availability: set, but Redis is on a server of the stac"),
        ({**MANAGED, "app": {"env": {"REDIS_URL": "x"}}}, "app.env.REDIS_URL: redis sets it"),
        (
            {**MANAGED, "network": {"standby_cidr": "10.80.0.0/24"}},
            "network.standby_cidr: set, but nothing is in a sec",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(config: dict[str, Any], line: str) -> None:
    if not line:
        parse(config, FILE)
        return
    with pytest.raises(SettingsError) as error:
        parse(config, FILE)
    assert str(error.value).removeprefix(f"{FILE}: ").startswith(line)
    assert PASSWORD not in str(error.value)


def registered(program: Recorder) -> set[tuple[str, str]]:
    return {(request.type, request.name) for request in program.requests.values()}


def test_a_stack_without_it_registers_nothing_of_tair(run_program: Run) -> None:
    alone = {"own_server": True, "password": PASSWORD}
    configs: tuple[dict[str, Any], ...] = ({}, {"redis": {}}, {"redis": alone}, RDS)
    for config in configs:
        assert not [name for type_, name in registered(run_program({**CLOUD, **config})) if "kvstore/" in type_]


def test_the_instance_has_what_the_provider_reads_back(run_program: Run) -> None:
    program = run_program({**CLOUD, **redis(instance_class="redis.shard.mid.ce")})
    inputs = program.inputs("kvstore/instance:Instance")
    assert secret(inputs.pop("password")) == PASSWORD
    assert inputs == {
        "dbInstanceName": "wsgi-ecs-dev",
        "instanceType": "Redis",
        "instanceClass": "redis.shard.mid.ce",
        "engineVersion": "7.0",
        "paymentType": "PostPaid",
        "zoneId": "cn-hangzhou-i",
        "secondaryZoneId": "cn-hangzhou-j",
        "vswitchId": "wsgi-ecs-dev-switch-id",
        # The servers' network alone.
        "securityIps": ["10.76.0.0/20"],
        # The provider reads back the directives that it was told, and no others.
        "config": {"maxmemory-policy": "noeviction"},
        "tags": {**TAGS, "standby": "cn-hangzhou-j"},
    }
    request = program.request("kvstore/instance:Instance")
    # After a switch of roles, each of them would move the instance.
    assert sorted(request.ignoreChanges) == ["secondaryZoneId", "vswitchId", "zoneId"]
    assert not request.protect
    # It is deleted before the network.
    assert [urn for urn in request.dependencies if urn.endswith("Switch::wsgi-ecs-dev-switch")]
    # Its standby needs no switch of its own.
    assert not [name for _, name in registered(program) if "standby" in name]
    assert not [name for _, name in registered(program) if name.endswith("-redis-instance")]


def test_no_network_is_replaced_and_no_server_is_built_anew(run_program: Run) -> None:
    before, after = (run_program({**CLOUD, **config}) for config in ({}, MANAGED))
    for type_ in ("ecs/instance:Instance", "vpc/network:Network", "switch:Switch", "securityGroup:SecurityGroup"):
        old, new = before.inputs(type_), after.inputs(type_)
        # User data end in a secret of their own each time.
        texts = [secret(found.pop("userData")).rpartition("#")[0] for found in (old, new) if "userData" in found]
        assert len(set(texts)) <= 1
        assert old == new, type_


def test_settings_reach_the_instance(run_program: Run) -> None:
    settings = {"high_availability": False, "engine_version": "6.0", "maxmemory_policy": "allkeys-lru", "protect": True}
    program = run_program({**CLOUD, **redis(**settings)})
    inputs = program.inputs("kvstore/instance:Instance")
    assert (inputs["instanceClass"], inputs["engineVersion"]) == ("redis.shard.small.ce", "6.0")
    assert inputs["config"] == {"maxmemory-policy": "allkeys-lru"}
    assert inputs["tags"]["standby"] == "none"
    assert "secondaryZoneId" not in inputs
    protected = {request.type for request in program.requests.values() if request.protect}
    assert protected == {"alicloud:kvstore/instance:Instance"}
    # Release protection would let `destroy` fail half-way.
    assert "instanceReleaseProtection" not in inputs


def test_another_password_is_another_account_before_the_releases(run_program: Run) -> None:
    names = []
    for password in (PASSWORD, "Other-password-02"):
        program = run_program({**CLOUD, **redis(password=password)})
        inputs = program.inputs("kvstore/account:Account")
        name = inputs["accountName"]
        request = program.request("kvstore/account:Account", f"dev-redis-account-{name}")
        assert secret(inputs.pop("accountPassword")) == password
        assert inputs == {
            "instanceId": "wsgi-ecs-dev-redis-id",
            "accountName": name,
            "accountType": "Normal",
            "accountPrivilege": "RoleReadWrite",
        }
        # It is deleted before the instance.
        assert [urn for urn in request.dependencies if urn.endswith("Instance::wsgi-ecs-dev-redis")]
        names.append(name)
    # Both exist until the end of the run: what is registered no longer is deleted last.
    assert len(set(names)) == 2
    assert names[0] == managed.account("app", PASSWORD)
    assert PASSWORD not in names[0]


@pytest.mark.parametrize("servers", [0, 2])
def test_the_application_has_the_same_variable_and_its_account_is_there_before(run_program: Run, servers: int) -> None:
    program = run_program({**CLOUD, **MANAGED, "topology": {"app_servers": servers}})
    account = managed.account("app", PASSWORD)
    for machine in ("app-1", "app-2") if servers else ("dev",):
        stdin = json.loads(secret(program.inputs("remote:Command", f"{machine}-site-app-apply")["stdin"]))
        assert stdin["env"]["REDIS_URL"] == f"redis://:{account}%3A{PASSWORD}@{HOST}:6379/0"
        prepared = program.request("remote:Command", f"{machine}-host-apply").dependencies
        assert [urn for urn in prepared if urn.endswith(f"redis-account-{account}")], machine
    url = urlsplit(stdin["env"]["REDIS_URL"])
    assert (url.username, unquote(url.password or ""), url.hostname) == ("", f"{account}:{PASSWORD}", HOST)
    if servers:
        front = json.loads(secret(program.inputs("remote:Command", "front-site-app-apply")["stdin"]))
        assert front["env"] == {}
        before = program.request("remote:Command", "front-host-apply").dependencies
        assert not [urn for urn in before if "-redis-account-" in urn]
    assert program.outputs["redis"] == HOST
    assert "redis" not in [machine["name"] for machine in program.outputs["machines"]]
    assert not [name for _, name in registered(program) if name.endswith("-settle")]


def test_a_database_of_the_cloud_may_be_beside_it(run_program: Run) -> None:
    program = run_program({**CLOUD, **RDS, **MANAGED})
    stdin = json.loads(secret(program.inputs("remote:Command", "dev-site-app-apply")["stdin"]))
    assert stdin["env"]["MYSQL_HOST"] == "rm-1.mysql.rds.aliyuncs.com"
    assert HOST in stdin["env"]["REDIS_URL"]
    assert program.inputs("kvstore/instance:Instance")["vswitchId"] == "wsgi-ecs-dev-switch-id"


def test_no_server_has_a_redis_and_a_rollback_keeps_the_credentials_of_today() -> None:
    for topology in ({}, {"topology": {"app_servers": 2}}):
        found = machines(parse({**MANAGED, **topology}, FILE))
        assert "redis" not in [machine.name for machine in found]
        for machine in found:
            host = decode(Host, host_files(machine.plan)["host.json"])
            assert host.redis is None
            for site in machine.plan.sites:
                release = decode(Release, release_files(site)["release.json"])
                has_app = machine.plan.role != "front"
                assert (release.managed, release.redis_port) == (["REDIS_URL"] if has_app else [], None)
            assert PASSWORD not in json.dumps(host_files(machine.plan))


KEPT = {"id": "r-1", "name": "wsgi-ecs-dev", "engineVersion": "7.0", "tags": {"standby": "cn-hangzhou-k"}}


@pytest.mark.parametrize(
    ("kept", "config", "line"),
    [
        (KEPT, redis(engine_version="6.0"), "redis.engine_version: 6.0, and Redis has 7.0; allowed: 7.0 or higher, or"),
        (
            KEPT,
            redis(high_availability=False),
            "redis.high_availability: Redis was made with a standby; allowed: true, or a backup",
        ),
        (
            {**KEPT, "tags": {"standby": "none"}},
            MANAGED,
            "redis.high_availability: Redis was made without a standby; allowed: false, or a backup",
        ),
        (
            KEPT,
            {**MANAGED, "network": {"cidr": "10.90.0.0/20"}},
            "network.cidr: the managed Redis cannot leave 10.76.0.0/20; allowed: 10.76.0.0/20, or a backup",
        ),
    ],
)
def test_what_an_existing_one_cannot_become_is_refused_before_the_first_resource(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, kept: dict[str, Any], config: dict[str, Any], line: str
) -> None:
    other = {**KEPT, "name": "wsgi-ecs-dev-2", "engineVersion": "9.0"}
    monkeypatch.setattr(Cloud, "redises", (other, kept))
    monkeypatch.setattr(Cloud, "networks", ({"vpcName": "wsgi-ecs-dev", "cidrBlock": "10.76.0.0/20"},))
    with pytest.raises(pulumi.RunError) as error:
        run_program({**CLOUD, **config})
    assert str(error.value).startswith(f"stacks/Pulumi.dev.yaml: {line}")


def test_the_zone_of_an_existing_one_is_not_looked_up_again(run_program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cloud, "redises", (KEPT,))
    # What is sold out is no reason to refuse a release.
    monkeypatch.setattr(Cloud, "redis_classes", {})
    inputs = run_program({**CLOUD, **MANAGED}).inputs("kvstore/instance:Instance")
    assert (inputs["secondaryZoneId"], inputs["tags"]["standby"]) == ("cn-hangzhou-k", "cn-hangzhou-k")
    monkeypatch.setattr(Cloud, "redises", ({**KEPT, "tags": {"standby": "none"}},))
    inputs = run_program({**CLOUD, **redis(high_availability=False)}).inputs("kvstore/instance:Instance")
    assert inputs["tags"]["standby"] == "none"
    # Without the tag, the zone is one of today's.
    monkeypatch.undo()
    monkeypatch.setattr(Cloud, "redises", ({**KEPT, "tags": {}},))
    inputs = run_program({**CLOUD, **MANAGED}).inputs("kvstore/instance:Instance")
    assert inputs["tags"]["standby"] == "cn-hangzhou-j"


@pytest.mark.parametrize(
    ("classes", "line"),
    [
        (
            {},
            "redis.instance_class: cn-hangzhou-i does not offer redis.shard.small.ce; allowed: a class that the region",
        ),
        (
            {"cn-hangzhou-j": ["redis.shard.small.ce"]},
            "redis.instance_class: cn-hangzhou-i does not offer redis.shard.small.ce; allowed: server.zone: cn",
        ),
        ({"cn-hangzhou-i": ["redis.shard.small.2.ce"]}, "redis.high_availability: no second zone of this region offer"),
    ],
)
def test_a_class_that_the_zones_do_not_offer_is_one_line(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, classes: dict[str, list[str]], line: str
) -> None:
    monkeypatch.setattr(Cloud, "redis_classes", classes)
    with pytest.raises(pulumi.RunError) as error:
        run_program({**CLOUD, **MANAGED})
    assert str(error.value).startswith(f"stacks/Pulumi.dev.yaml: {line}")


@pytest.mark.parametrize(
    ("class_", "product"), [("redis.shard.small.ce", "OnECS"), ("redis.master.small.default", "Local")]
)
def test_a_class_is_asked_for_where_the_cloud_lists_it(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, class_: str, product: str
) -> None:
    known, asked = Cloud.call, []

    def call(self: Cloud, args: Any) -> Any:
        if "kvstore/" in args.token and args.token.endswith(("Classes", "Zones")):
            asked.append(args.args)
        if args.token.endswith("kvstore/getInstanceClasses:getInstanceClasses"):
            return {"instanceClasses": [class_]}, []
        return known(self, args)

    monkeypatch.setattr(Cloud, "call", call)
    run_program({**CLOUD, **redis(instance_class=class_, engine_version="5.0")})
    assert {args["productType"] for args in asked} == {product}
    # The provider's default is subscription.
    assert {args["instanceChargeType"] for args in asked} == {"PostPaid"}
    assert {args.get("engineVersion") for args in asked} == {"5.0", None}


def test_no_question_is_asked_without_it() -> None:
    configs: tuple[dict[str, Any], ...] = ({}, {"redis": {}})
    for config in configs:
        assert redis_standby_zone("any", parse(config, FILE), "cn-hangzhou-i") is None
