"""RDS of a rehearsal: who reaches it, and what it is told, on an LXD that only keeps what it is told."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any

import pytest

from rehearsal.cloud import group_bridge, image, instance_types, machine, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.image import BaseImage
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.resources import rds_contents, rds_instance
from rehearsal.cloud.resources.switch import Switch
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.state import Record
from tests.builders.stores import NOWHERE, cloud_context

INSTANCE = {
    **{"engine": "MySQL", "engineVersion": "8.0", "instanceStorage": 20, "instanceName": "wsgi-ecs-dev"},
    **{"vswitchId": "vsw-1,vsw-2", "securityIps": ["10.76.0.0/20"], "zoneIdSlaveA": "cn-hangzhou-j"},
}
ACCOUNT = {"dbInstanceId": "rm-1", "accountName": "app_1f3c", "accountType": "Normal", "accountPassword": "quiet"}
PRIVILEGE = {"instanceId": "rm-1", "accountName": "app_1f3c", "privilege": "ReadWrite", "dbNames": ["my_app"]}


class Machines:
    """The machines of a stack. ran: what ran on each, written: path to text."""

    project = "wsgi-ecs-test"

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []
        self.written: dict[str, str] = {}
        self.is_there = True

    def find(self, path: str) -> Any:
        return {"status": "Running"} if self.is_there else None

    def exec(self, name: str, command: Sequence[str], timeout: float = 30) -> str:
        self.ran.append((name, command[-1]))
        return ""

    def write(self, name: str, path: str, text: str, mode: str = "0600") -> None:
        self.written[path] = text


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    made = Machines()
    monkeypatch.setattr(CloudContext, "lxd", made)
    return made


@pytest.fixture
def context(machines: Machines) -> CloudContext:
    return cloud_context(NOWHERE, Keys(NOWHERE))


def record(type_: str, name: str, inputs: dict[str, Any]) -> Record:
    return Record("1", f"urn:{name}", type_, name, name, inputs, status="done")


def test_it_is_mariadb_on_a_bridge_of_its_own_in_the_first_zone(
    context: CloudContext, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}
    bridge = group_bridge.GroupBridge("we1-1", "vsw-1", "rm-1", None, {})  # type: ignore[arg-type]

    def ensure(found: CloudContext, switch: str, group: str) -> group_bridge.GroupBridge:
        made["place"] = (switch, group)
        return bridge

    def make(found: CloudContext, name: str, inputs: dict[str, Any], devices: dict[str, Any]) -> None:
        made.update(image=found.images[inputs["imageId"]].name, network=devices["eth0"]["network"])

    monkeypatch.setattr(group_bridge, "ensure", ensure)
    monkeypatch.setattr(image, "ensure", lambda name, say: BaseImage(name, name, "alias", NOWHERE))
    monkeypatch.setattr(machine, "make", make)
    monkeypatch.setattr(machine, "power", lambda *args: None)
    monkeypatch.setattr(machine, "wait_for_address", lambda *args: "10.76.0.34")
    outputs = rds_instance.RdsInstance().create(context, record(tokens.RDS_INSTANCE, "rm-1", INSTANCE), INSTANCE)
    assert made == {"place": ("vsw-1", "rm-1"), "image": "debian12", "network": "we1-1"}
    assert outputs["connectionString"] == "10.76.0.34"
    assert "bind-address = 0.0.0.0\n" in machines.written["/etc/mysql/mariadb.conf.d/90-rds.cnf"]
    assert [name for name, _ in machines.ran] == ["rm-1", "rm-1"]
    assert "mariadb-server" in machines.ran[0][1]


def test_its_allow_list_is_the_only_way_in_and_does_not_let_this_host_in() -> None:
    def allowed(cidr: str) -> list[str]:
        rules = group_bridge._of_engine(
            record(tokens.RDS_INSTANCE, "rm-1", {**INSTANCE, "securityIps": [cidr]}), bridges
        )
        ports = {(rule["securityGroupId"], rule["ipProtocol"], rule["portRange"]) for rule in rules}
        assert ports == {("rm-1", "tcp", "3306/3306")}
        return [rule["cidrIp"] for rule in rules]

    bridges = [
        group_bridge.GroupBridge("we", "vsw-1", group, IPv4Interface(f"10.76.0.{number}/27"), {})
        for group, number in (("sg-1", 1), ("rm-1", 33), ("sg-2", 65))
    ]
    assert allowed("10.76.0.0/20") == ["10.76.0.0/27", "10.76.0.64/27"]
    assert allowed("192.0.2.7") == ["192.0.2.7"]


def test_an_account_has_its_password_as_a_hash_and_its_privileges_in_its_database(
    context: CloudContext, machines: Machines
) -> None:
    account, privilege = rds_contents.RdsAccount(), rds_contents.RdsAccountPrivilege()
    made = record(tokens.RDS_ACCOUNT, "a", ACCOUNT)
    granted = record(tokens.RDS_ACCOUNT_PRIVILEGE, "p", PRIVILEGE)
    account.create(context, made, ACCOUNT)
    privilege.create(context, granted, PRIVILEGE)
    account.update(context, made, {**ACCOUNT, "accountPassword": "other"}, ("accountPassword",))
    privilege.update(context, granted, {**PRIVILEGE, "dbNames": ["shop"]}, ("dbNames",))
    privilege.delete(context, granted)
    account.delete(context, made)
    create, grant, change, both, revoke, drop = (text for _, text in machines.ran)
    assert create.startswith("CREATE USER 'app_1f3c'@'%' IDENTIFIED BY PASSWORD '*")
    assert grant == "GRANT ALL PRIVILEGES ON `my\\_app`.* TO 'app_1f3c'@'%'"
    assert change.startswith("SET PASSWORD FOR 'app_1f3c'@'%' = '*")
    assert both == (
        "GRANT ALL PRIVILEGES ON `shop`.* TO 'app_1f3c'@'%'; REVOKE ALL PRIVILEGES ON `my\\_app`.* FROM 'app_1f3c'@'%'"
    )
    assert revoke == "REVOKE ALL PRIVILEGES ON `my\\_app`.* FROM 'app_1f3c'@'%'"
    assert drop == "DROP USER IF EXISTS 'app_1f3c'@'%'"
    assert not any(password in text for _, text in machines.ran for password in ("quiet", "other"))


def test_what_is_in_an_instance_goes_with_it(context: CloudContext, machines: Machines) -> None:
    machines.is_there = False
    rds_contents.RdsAccount().delete(context, record(tokens.RDS_ACCOUNT, "a", ACCOUNT))
    assert machines.ran == []


@pytest.mark.parametrize("name", ["App", "app_", "a'b", "1app"])
def test_a_name_that_rds_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(RehearsalError, match="no name that RDS takes"):
        rds_contents.RdsAccount().check({**ACCOUNT, "accountName": name})
    with pytest.raises(RehearsalError, match="no name that RDS takes"):
        rds_contents.RdsDatabase().check({"dataBaseName": name, "characterSet": "utf8mb4"})


def test_a_switch_may_be_in_more_addresses_of_the_vpc(context: CloudContext) -> None:
    vpc = record(tokens.VPC, "vpc-1", {"cidrBlock": "10.76.0.0/20"})
    block = record(tokens.IPV4_CIDR_BLOCK, "b", {"vpcId": "vpc-1", "secondaryCidrBlock": "10.76.16.0/24"})
    second = {"vpcId": "vpc-1", "cidrBlock": "10.76.16.0/24", "zoneId": "cn-hangzhou-j"}
    context.state.put(replace(vpc, serial="2"))
    with pytest.raises(RehearsalError, match=r"not inside the VPC's 10\.76\.0\.0/20"):
        Switch().create(context, record(tokens.SWITCH, "s", second), second)
    context.state.put(replace(block, serial="3"))
    assert Switch().create(context, record(tokens.SWITCH, "s", second), second)


def test_the_program_finds_the_database_that_it_has_made() -> None:
    made = [record(tokens.RDS_INSTANCE, "rm-1", INSTANCE)]
    found = instance_types.answer("alicloud:rds/getInstances:getInstances", {}, lambda *types: made)
    assert found["instances"] == [
        {
            **{"id": "rm-1", "name": "wsgi-ecs-dev", "engineVersion": "8.0", "instanceStorage": 20},
            "zoneIdSlaveA": "cn-hangzhou-j",
        }
    ]
    classes = instance_types.answer(
        "alicloud:rds/getInstanceClasses:getInstanceClasses", {"category": "Basic"}, lambda *types: made
    )
    assert "mysql.n2.medium.1" in classes["ids"]
    assert "mysql.n2.medium.2c" not in classes["ids"]
