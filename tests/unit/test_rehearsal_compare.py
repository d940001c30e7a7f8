"""What a rehearsal does to a resource: the engine's rules, and each type's own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehearsal.cloud.registry import TYPES
from rehearsal.engine.compare import KNOWN_LATER, Op, Options, Recorded, Schema, Step, changed, compare, delete_order

SCHEMA = Schema(replaces=frozenset({"zone"}), updates={"size": "restarts", "name": ""}, recorded=frozenset({"note"}))


def step(old: dict[str, Any] | None, new: dict[str, Any], schema: Schema = SCHEMA, **options: Any) -> Step:
    trigger = options.pop("old_trigger", None)
    return compare(None if old is None else Recorded(old, trigger), new, Options(**options), schema)


def test_what_is_not_recorded_is_created() -> None:
    assert step(None, {"size": 1}) == Step(Op.CREATE, inputs={"size": 1})


def test_equal_inputs_change_nothing() -> None:
    assert step({"size": 1}, {"size": 1}).op is Op.SAME


def test_an_update_names_its_keys_and_what_it_interrupts() -> None:
    done = step({"size": 1, "name": "a"}, {"size": 2, "name": "b"})
    assert (done.op, done.keys, done.reason) == (Op.UPDATE, ("name", "size"), "restarts")


def test_what_an_update_interrupts_is_perhaps_where_its_value_is_known_later() -> None:
    assert step({"size": 1, "name": "a"}, {"size": KNOWN_LATER, "name": "b"}).reason == "perhaps restarts"


def test_a_list_that_repeats_itself_is_named_alone() -> None:
    assert changed("triggers", ["a"], ["a", "a"]) == "triggers"
    assert changed("triggers", ["a", "b"], ["a", "c", "d"]) == "triggers (b → c, none → d)"


@pytest.mark.parametrize(("old", "new"), [({}, {"size": 1}), ({"size": 1}, {})])
def test_an_input_added_or_taken_away_is_a_change(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert step(old, new).keys == ("size",)


def test_a_replacing_key_replaces_even_beside_an_updating_one() -> None:
    done = step({"zone": "a", "size": 1}, {"zone": "b", "size": 2})
    assert (done.op, done.reason) == (Op.REPLACE, "replaced for zone (a → b)")


def test_an_ignored_change_keeps_the_recorded_value() -> None:
    done = step({"zone": "a"}, {"zone": "b"}, ignore_changes=("zone",))
    assert (done.op, done.inputs) == (Op.SAME, {"zone": "a"})


def test_an_ignored_input_that_was_never_recorded_is_not_added() -> None:
    assert step({}, {"zone": "b"}, ignore_changes=("zone",)).inputs == {}


def test_ignoring_one_key_does_not_hide_another() -> None:
    done = step({"zone": "a", "size": 1}, {"zone": "b", "size": 2}, ignore_changes=("zone",))
    assert (done.op, done.keys) == (Op.UPDATE, ("size",))


def test_a_replacement_is_made_from_what_is_otherwise_ignored() -> None:
    done = step({"size": 1}, {"size": 2}, ignore_changes=("size",), old_trigger="1", trigger="2")
    assert (done.op, done.inputs) == (Op.REPLACE, {"size": 2})


@pytest.mark.parametrize(("old", "new", "op"), [("1", "2", Op.REPLACE), ("1", "1", Op.SAME)])
def test_a_trigger_acts_when_its_value_changes(old: str, new: str, op: Op) -> None:
    assert step({}, {}, old_trigger=old, trigger=new).op is op


@pytest.mark.parametrize(("old", "new"), [(None, "1"), ("1", None)])
def test_a_trigger_acts_between_two_recorded_values_only(old: str | None, new: str | None) -> None:
    assert step({}, {}, old_trigger=old, trigger=new).op is Op.SAME


def test_replace_on_changes_turns_an_update_into_a_replacement() -> None:
    assert step({"size": [1]}, {"size": [2]}, replace_on_changes=("size[*]",)).op is Op.REPLACE
    assert step({"size": [1]}, {"size": [2]}, replace_on_changes=("name",)).op is Op.UPDATE


@pytest.mark.parametrize(
    ("option", "schema", "first"), [(None, True, True), (None, False, False), (False, True, False), (True, False, True)]
)
def test_the_option_decides_over_the_type_what_goes_first(option: bool | None, schema: bool, first: bool) -> None:
    type_ = Schema(replaces=frozenset({"zone"}), delete_before_replace=schema)
    done = step({"zone": 1}, {"zone": 2}, type_, delete_before_replace=option)
    assert done.delete_first is first


def test_protection_refuses_a_replacement_and_says_why() -> None:
    refused = step({"zone": 1}, {"zone": 2}, protect=True).refused
    assert refused is not None
    assert "protected" in refused
    assert "zone (1 → 2)" in refused


def test_protection_lets_an_update_pass() -> None:
    assert step({"size": 1}, {"size": 2}, protect=True).refused is None


@given(st.dictionaries(st.sampled_from(["zone", "size", "name"]), st.integers()), st.sets(st.sampled_from(["size"])))
def test_applying_the_same_twice_changes_nothing(inputs: dict[str, Any], ignored: set[str]) -> None:
    first = step({}, inputs, ignore_changes=tuple(ignored))
    again = step(dict(first.inputs), inputs, ignore_changes=tuple(ignored) if first.op is not Op.REPLACE else ())
    assert again.op is Op.SAME


INSTANCE = "alicloud:ecs/instance:Instance"
ASSOCIATION = "alicloud:ecs/eipAssociation:EipAssociation"
DISK = "alicloud:ecs/ecsDisk:EcsDisk"
ATTACHMENT = "alicloud:ecs/ecsDiskAttachment:EcsDiskAttachment"
RULE = "alicloud:ecs/securityGroupRule:SecurityGroupRule"


@pytest.mark.parametrize(
    ("type_", "key", "op", "reason"),
    [
        (INSTANCE, "vswitchId", Op.REPLACE, ""),
        (INSTANCE, "userData", Op.UPDATE, "reboots"),
        (INSTANCE, "instanceType", Op.UPDATE, "restarts"),
        (INSTANCE, "keyName", Op.UPDATE, "reboots"),
        (INSTANCE, "instanceName", Op.UPDATE, ""),
        (INSTANCE, "tags", Op.UPDATE, ""),
        ("alicloud:ecs/ecsKeyPair:EcsKeyPair", "keyPairName", Op.REPLACE, ""),
        ("alicloud:ecs/ecsKeyPair:EcsKeyPair", "publicKey", Op.REPLACE, ""),
        ("alicloud:ecs/eipAddress:EipAddress", "bandwidth", Op.UPDATE, ""),
        (ASSOCIATION, "instanceId", Op.REPLACE, ""),
        (ASSOCIATION, "allocationId", Op.REPLACE, ""),
        (RULE, "portRange", Op.REPLACE, ""),
        (RULE, "cidrIp", Op.REPLACE, ""),
        (RULE, "description", Op.UPDATE, ""),
        ("alicloud:vpc/switch:Switch", "zoneId", Op.REPLACE, ""),
        (DISK, "zoneId", Op.REPLACE, ""),
        (DISK, "tags", Op.UPDATE, ""),
        (DISK, "category", Op.UPDATE, ""),
        (ATTACHMENT, "diskId", Op.REPLACE, ""),
        (ATTACHMENT, "instanceId", Op.REPLACE, ""),
        ("command:remote:Command", "triggers", Op.REPLACE, ""),
        ("command:remote:Command", "stdin", Op.UPDATE, "runs again"),
        ("command:remote:Command", "create", Op.UPDATE, "runs again"),
        ("command:remote:Command", "connection", Op.UPDATE, "runs again"),
        ("command:remote:CopyToRemote", "source", Op.UPDATE, "copies again"),
        ("command:remote:CopyToRemote", "triggers", Op.REPLACE, ""),
    ],
)
def test_each_type_takes_a_change_as_its_provider_does(type_: str, key: str, op: Op, reason: str) -> None:
    done = step({key: "old"}, {key: "new"}, TYPES[type_].schema)
    assert done.op is op
    assert reason in done.reason


@pytest.mark.parametrize(("type_", "key"), [(DISK, "size"), (INSTANCE, "systemDiskSize")])
def test_a_disk_grows_and_never_becomes_smaller(type_: str, key: str) -> None:
    schema = TYPES[type_].schema
    larger = step({key: 20}, {key: 40}, schema)
    assert (larger.op, larger.refused) == (Op.UPDATE, None)
    assert step({key: 40}, {key: 20}, schema).refused == f"the cloud makes nothing smaller: {key} (40 → 20)"
    assert step({key: 40}, {key: KNOWN_LATER}, schema).refused is None


def test_no_change_of_a_public_address_replaces_it() -> None:
    assert not TYPES["alicloud:ecs/eipAddress:EipAddress"].schema.replaces


def test_an_association_goes_before_its_successor() -> None:
    assert step({"instanceId": 1}, {"instanceId": 2}, TYPES[ASSOCIATION].schema).delete_first


def test_dependents_are_deleted_first_and_the_independent_side_by_side() -> None:
    graph = {
        "1": ("vpc", frozenset[str]()),
        "2": ("switch", frozenset({"vpc"})),
        "3": ("group", frozenset({"vpc"})),
        "4": ("instance", frozenset({"switch", "group", "elsewhere"})),
    }
    assert [sorted(wave) for wave in delete_order(graph)] == [["4"], ["2", "3"], ["1"]]


def test_a_cycle_does_not_hang() -> None:
    assert delete_order({"1": ("a", frozenset({"b"})), "2": ("b", frozenset({"a"}))}) == [["1", "2"]]
