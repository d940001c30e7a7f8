"""Tair of a rehearsal: who reaches it, and what it is told, on an LXD that only keeps what it is told."""

from collections.abc import Sequence
from typing import Any

import pytest

from rehearsal.cloud import group_bridge, image, instance_types, machine, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.image import BaseImage
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.resources import redis_instance
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.state import Record
from tests.builders.stores import NOWHERE, cloud_context

INSTANCE = {
    **{"instanceType": "Redis", "instanceClass": "redis.shard.small.ce", "engineVersion": "7.0"},
    **{"dbInstanceName": "wsgi-ecs-dev", "paymentType": "PostPaid", "password": "quiet", "vswitchId": "vsw-1"},
    **{"securityIps": ["10.76.0.0/20"], "secondaryZoneId": "cn-hangzhou-j", "tags": {"standby": "cn-hangzhou-j"}},
    "config": {"maxmemory-policy": "noeviction"},
}
ACCOUNT = {
    **{"instanceId": "r-1", "accountName": "app_1f3c", "accountPassword": "quiet"},
    **{"accountType": "Normal", "accountPrivilege": "RoleReadWrite"},
}


class Machines:
    """The machines of a stack. ran: the last words of what ran on each, written: path to text."""

    project = "wsgi-ecs-test"

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []
        self.written: dict[str, str] = {}
        self.is_there = True

    def find(self, path: str) -> Any:
        return {"status": "Running"} if self.is_there else None

    def exec(self, name: str, command: Sequence[str], timeout: float = 30) -> str:
        self.ran.append((name, " ".join(command)))
        return ""

    def write(self, name: str, path: str, text: str, mode: str = "0600") -> None:
        assert path != "/root/tair/password" or mode == "0600"
        self.written[path] = text


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    made = Machines()
    monkeypatch.setattr(CloudContext, "lxd", made)
    return made


@pytest.fixture
def context(machines: Machines) -> CloudContext:
    return cloud_context(NOWHERE, Keys(NOWHERE))


def record(type_: str, inputs: dict[str, Any]) -> Record:
    return Record("1", "urn:r-1", type_, "r-1", "r-1", inputs, status="done")


def test_it_is_redis_on_a_bridge_of_its_own_that_never_runs_without_a_password(
    context: CloudContext, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}
    bridge = group_bridge.GroupBridge("we1-1", "vsw-1", "r-1", None, {})  # type: ignore[arg-type]

    def ensure(found: CloudContext, switch: str, group: str) -> group_bridge.GroupBridge:
        made["place"] = (switch, group)
        return bridge

    monkeypatch.setattr(group_bridge, "ensure", ensure)
    monkeypatch.setattr(image, "ensure", lambda name, say: BaseImage(name, name, "alias", NOWHERE))
    monkeypatch.setattr(machine, "make", lambda *args: None)
    monkeypatch.setattr(machine, "power", lambda *args: None)
    monkeypatch.setattr(machine, "wait_for_address", lambda *args: "10.76.0.34")
    outputs = redis_instance.RedisInstance().create(context, record(tokens.REDIS_INSTANCE, INSTANCE), INSTANCE)
    assert made == {"place": ("vsw-1", "r-1")}
    assert outputs["connectionDomain"] == "10.76.0.34"
    masked, installed = (text for _, text in machines.ran[:2])
    assert masked == "systemctl mask -q redis-server"
    assert installed.endswith("--no-install-recommends redis-server")
    config = machines.written["/etc/tair.conf"].splitlines()
    assert {"bind 0.0.0.0", "maxmemory-policy noeviction", "aclfile /var/lib/redis/users.acl"} <= set(config)
    users = machines.written["/var/lib/redis/users.acl"]
    assert users == f"user default on #{redis_instance.hashed('quiet')} ~* &* +@all\n"
    assert not any("quiet" in text for _, text in machines.ran)


def test_its_allow_list_is_the_only_way_in() -> None:
    assert group_bridge._of_engine(record(tokens.REDIS_INSTANCE, INSTANCE), []) == [
        {"securityGroupId": "r-1", "ipProtocol": "tcp", "portRange": "6379/6379", "cidrIp": "10.76.0.0/20"}
    ]


def test_an_account_is_a_password_of_its_form_and_no_password_is_in_a_command(
    context: CloudContext, machines: Machines
) -> None:
    account, made = redis_instance.RedisAccount(), record(tokens.REDIS_ACCOUNT, ACCOUNT)
    account.create(context, made, ACCOUNT)
    account.update(context, made, {**ACCOUNT, "accountPassword": "other"}, ("accountPassword",))
    account.delete(context, made)
    created, dropped, changed, deleted = (text for _, text in machines.ran)
    assert created.endswith(redis_instance.hashed("app_1f3c:quiet"))
    assert changed.endswith(redis_instance.hashed("app_1f3c:other"))
    assert 'ask ACL SETUSER default "#$1"; ask ACL SAVE' in created
    assert dropped == deleted
    assert 'ask ACL SETUSER default "!$(cat /root/tair/accounts/app_1f3c)"; ask ACL SAVE' in deleted
    assert not any(password in text for _, text in machines.ran for password in ("quiet", "other"))


def test_another_password_and_another_policy_restart_nothing(context: CloudContext, machines: Machines) -> None:
    new = {**INSTANCE, "password": "other", "config": {"maxmemory-policy": "allkeys-lru"}}
    redis_instance.RedisInstance().update(context, record(tokens.REDIS_INSTANCE, INSTANCE), new, ("config", "password"))
    policy, added, dropped = (text for _, text in machines.ran)
    assert policy.endswith('ask CONFIG SET "$1" "$2" tair maxmemory-policy allkeys-lru')
    assert "maxmemory-policy allkeys-lru\n" in machines.written["/etc/tair.conf"]
    assert added.endswith(redis_instance.hashed("other"))
    assert dropped.endswith('ask ACL SETUSER default "!$(cat /root/tair/old)"; ask ACL SAVE tair')
    assert machines.written["/root/tair/password"] == "other"
    assert not any("systemctl" in text for _, text in machines.ran)


def test_what_is_in_an_instance_goes_with_it(context: CloudContext, machines: Machines) -> None:
    machines.is_there = False
    redis_instance.RedisAccount().delete(context, record(tokens.REDIS_ACCOUNT, ACCOUNT))
    assert machines.ran == []


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        ({"password": None}, "Tair without a password is not rehearsed"),
        ({"securityIps": []}, "an engine of the cloud without securityIps is not rehearsed"),
        ({"paymentType": "PrePaid"}, "paymentType='PrePaid' is not rehearsed"),
    ],
)
def test_what_is_not_rehearsed_is_one_line(inputs: dict[str, Any], line: str) -> None:
    with pytest.raises(RehearsalError, match=line):
        redis_instance.RedisInstance().check({**INSTANCE, **inputs})


def test_a_name_that_tair_does_not_take_is_refused() -> None:
    with pytest.raises(RehearsalError, match="no name that Tair takes"):
        redis_instance.RedisAccount().check({**ACCOUNT, "accountName": "a; reboot"})


def test_the_program_finds_the_redis_that_it_has_made() -> None:
    made = [record(tokens.REDIS_INSTANCE, INSTANCE)]
    found = instance_types.answer("alicloud:kvstore/getInstances:getInstances", {}, lambda *types: made)
    assert found["instances"] == [
        {"id": "r-1", "name": "wsgi-ecs-dev", "engineVersion": "7.0", "tags": {"standby": "cn-hangzhou-j"}}
    ]
    token = "alicloud:kvstore/getInstanceClasses:getInstanceClasses"
    classes = instance_types.answer(token, {"productType": "OnECS"}, lambda *types: made)
    assert "redis.shard.small.2.ce" in classes["instanceClasses"]
    assert instance_types.answer("alicloud:kvstore/getZones:getZones", {}, lambda *types: made)["ids"]
