"""NAS of a rehearsal: one volume that several machines have, on an LXD that only keeps what it is told."""

import gzip
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest

from rehearsal.cloud import instance_types, tokens, volume
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.resources.nas_access import NasAccessGroup, NasAccessRule, NasMountTarget
from rehearsal.cloud.resources.nas_file_system import NasFileSystem
from rehearsal.engine.compare import Op, Options, Recorded, compare
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource
from rehearsal.engine.state import Record
from tests.builders.stores import NOWHERE, cloud_context

FILE_SYSTEM = {"protocolType": "NFS", "storageType": "Capacity", "encryptType": 1, "description": "wsgi-ecs-dev"}
TARGET = {"fileSystemId": "nas-1", "accessGroupName": "dev-data", "vswitchId": "vsw-1"}
RULE = {
    "accessGroupName": "dev-data",
    "sourceCidrIp": "10.76.0.4",
    "rwAccessType": "RDWR",
    "userAccessType": "no_squash",
}


class Lxd:
    """Machines with their devices, and volumes."""

    project = "wsgi-ecs-test"

    def __init__(self) -> None:
        self.machines: dict[str, Any] = {name: {"name": name, "status": "Running", "devices": {}} for name in "ab"}
        self.made: list[str] = []
        self.unmounted: list[str] = []
        self.deleted: list[str] = []

    def find(self, path: str, **_: str) -> Any:
        return self.machines.get(path.rpartition("/")[2])

    get = find

    def post(self, path: str, body: dict[str, Any]) -> None:
        self.made.append(body["name"])

    def delete(self, path: str) -> None:
        self.deleted.append(path.rpartition("/")[2])

    def patch(self, path: str, body: dict[str, Any]) -> None:
        self.machines[path.rpartition("/")[2]]["devices"].update(body["devices"])

    def put(self, path: str, body: dict[str, Any]) -> None:
        self.machines[path.rpartition("/")[2]] = body

    def exec(self, name: str, command: Sequence[str], timeout: float = 30) -> str:
        self.unmounted.append(f"{name} {command[-1]}")
        return ""


@pytest.fixture
def lxd(monkeypatch: pytest.MonkeyPatch) -> Lxd:
    made = Lxd()
    monkeypatch.setattr(CloudContext, "lxd", made)
    return made


@pytest.fixture
def context(lxd: Lxd) -> CloudContext:
    context = cloud_context(NOWHERE, Keys(NOWHERE), lxd)  # type: ignore[arg-type]
    for number, (id_, address) in enumerate((("a", "10.76.0.4"), ("b", "10.76.0.5"))):
        context.state.put(record(tokens.INSTANCE, id_, {}, str(number), {"primaryIpAddress": address}))
    context.state.put(record(tokens.NAS_MOUNT_TARGET, "t-1", TARGET, "8"))
    return context


def record(
    type_: str, id_: str, inputs: dict[str, Any], serial: str = "9", outputs: dict[str, Any] | None = None
) -> Record:
    return Record(serial, f"urn:{id_}", type_, id_, id_, inputs, outputs=outputs or {}, status="done")


def test_a_rule_gives_the_volume_to_the_machine_that_has_its_address(context: CloudContext, lxd: Lxd) -> None:
    NasFileSystem().create(context, record(tokens.NAS_FILE_SYSTEM, "nas-1", FILE_SYSTEM), FILE_SYSTEM)
    assert lxd.made == ["nas-1"]
    rules = []
    for name, address in (("a", "10.76.0.4"), ("b", "10.76.0.5")):
        inputs = {**RULE, "sourceCidrIp": address}
        outputs = NasAccessRule().create(context, record(tokens.NAS_ACCESS_RULE, f"rule-{name}", inputs), inputs)
        rules.append(record(tokens.NAS_ACCESS_RULE, f"rule-{name}", inputs, outputs=outputs))
        assert lxd.machines[name]["devices"]["data"]["source"] == "nas-1"
        assert lxd.machines[name]["devices"]["data"]["path"] == "/srv/data"
    assert all(NasAccessRule().exists(context, rule) for rule in rules)
    NasAccessRule().delete(context, rules[0])
    assert [NasAccessRule().exists(context, rule) for rule in rules] == [False, True]
    assert lxd.unmounted == ["a /srv/data"]
    # What a killed run has made is found by its inputs.
    NasAccessRule().delete(context, record(tokens.NAS_ACCESS_RULE, "rule-b", {**RULE, "sourceCidrIp": "10.76.0.5"}))
    assert not volume.is_attached(context, "nas-1", "b")


@pytest.mark.parametrize("inputs", [{"sourceCidrIp": "10.76.0.9"}, {"accessGroupName": "other"}])
def test_a_rule_for_nobody_is_refused(context: CloudContext, inputs: dict[str, str]) -> None:
    rule = {**RULE, **inputs}
    with pytest.raises(RehearsalError, match="is no machine's address, or no mount target of this stack has"):
        NasAccessRule().create(context, record(tokens.NAS_ACCESS_RULE, "rule-1", rule), rule)


def test_a_rule_for_a_switch_mounts_nothing_and_is_of_a_switch(context: CloudContext, lxd: Lxd) -> None:
    rule = {**RULE, "sourceCidrIp": "10.76.0.0/20"}
    own = record(tokens.NAS_ACCESS_RULE, "rule-1", rule)
    with pytest.raises(RehearsalError, match=r"10\.76\.0\.0/20 is no switch's block"):
        NasAccessRule().create(context, own, rule)
    context.state.put(record(tokens.SWITCH, "vsw-1", {"cidrBlock": "10.76.0.0/20"}, "7"))
    NasAccessRule().create(context, own, rule)
    assert NasAccessRule().exists(context, own)
    NasAccessRule().delete(context, own)
    assert [machine["devices"] for machine in lxd.machines.values()] == [{}, {}]


def test_a_machine_whose_user_data_name_the_mount_target_has_the_file_system_and_its_store(
    context: CloudContext, lxd: Lxd
) -> None:
    domain = "nas-1-vsw-1.rehearsal.nas.aliyuncs.com"
    context.state.put(record(tokens.NAS_MOUNT_TARGET, "t-1", TARGET, "8", {"mountTargetDomain": domain}))
    packed = b64encode(gzip.compress(f"mount {domain}:/store".encode())).decode()
    for text in (f"mount {domain}:/store", f"#cloud-config\n  encoding: gz+b64\n  content: {packed}\n"):
        found = volume.devices(context, text)
        assert {device["path"]: device["source"] for device in found.values()} == {
            "/srv/data": "nas-1",
            "/srv/wsgi-ecs-store": "nas-1-store",
        }
    assert volume.devices(context, "#cloud-config") == {}
    NasFileSystem().delete(context, record(tokens.NAS_FILE_SYSTEM, "nas-1", FILE_SYSTEM))
    assert lxd.deleted == ["nas-1-store", "nas-1"]


def test_a_machine_with_a_data_disk_gets_no_other(context: CloudContext, lxd: Lxd) -> None:
    lxd.machines["a"]["devices"]["data"] = {"source": "d-1"}
    with pytest.raises(RehearsalError, match="a second place for data on a is not rehearsed"):
        NasAccessRule().create(context, record(tokens.NAS_ACCESS_RULE, "rule-1", RULE), RULE)


@pytest.mark.parametrize(
    ("resource", "inputs", "named"),
    [
        (NasFileSystem(), {"protocolType": "SMB"}, "protocolType"),
        (NasFileSystem(), {"storageType": "Premium"}, "storageType"),
        (NasAccessGroup(), {"accessGroupType": "Classic"}, "accessGroupType"),
        (NasAccessRule(), {"userAccessType": "root_squash"}, "userAccessType"),
        (NasAccessRule(), {"rwAccessType": "RDONLY"}, "rwAccessType"),
    ],
)
def test_what_is_not_rehearsed_is_refused_by_name(
    resource: Resource[CloudContext], inputs: dict[str, Any], named: str
) -> None:
    with pytest.raises(RehearsalError, match=named):
        resource.check(inputs)


def test_another_storage_would_be_another_file_system_unless_it_is_ignored() -> None:
    other = {**FILE_SYSTEM, "storageType": "Performance", "zoneId": "cn-hangzhou-k"}
    assert compare(Recorded(FILE_SYSTEM), other, Options(), NasFileSystem.schema).op is Op.REPLACE
    ignored = Options(ignore_changes=("storageType", "zoneId"))
    assert compare(Recorded(FILE_SYSTEM), other, ignored, NasFileSystem.schema).op is Op.SAME
    network = {**TARGET, "vswitchId": "vsw-2"}
    assert compare(Recorded(TARGET), network, Options(), NasMountTarget.schema).op is Op.REPLACE


def test_a_mount_target_has_a_name_and_each_zone_has_nas(context: CloudContext) -> None:
    outputs = NasMountTarget().create(context, record(tokens.NAS_MOUNT_TARGET, "t", TARGET), TARGET)
    assert outputs["mountTargetDomain"] == "nas-1-vsw-1.rehearsal.nas.aliyuncs.com"
    answer = instance_types.answer("alicloud:nas/getZones:getZones", {}, lambda *_: [])
    assert [zone["zoneId"] for zone in answer["zones"]] == list(instance_types.ZONES)
