"""The engine's order of things, with resources that only write down what happens to them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from contract.resources import FIRST_CONTACT
from rehearsal.cloud import tokens
from rehearsal.cloud.registry import TYPES
from rehearsal.engine.compare import Op, Options, Schema
from rehearsal.engine.engine import Engine, Stopped
from rehearsal.engine.errors import RehearsalError, UserError
from rehearsal.engine.inputs import comparable, digest, is_digest, plain
from rehearsal.engine.registration import Registration
from rehearsal.engine.resource import Context, Provider, Resource
from rehearsal.engine.state import KEY, Record, State, decode, encode
from tests.builders.stores import DIGEST_KEY, MemoryStore

TYPE = "test:Probe"


class Probe(Resource[Context]):
    """Writes down what is done to it. An input `fail` makes its creation fail."""

    schema = Schema(replaces=frozenset({"zone"}), updates={"size": "", "fail": "", "text": ""})

    def __init__(self) -> None:
        self.log: list[str] = []
        self.there = True

    def exists(self, context: Context, record: Record) -> bool:
        return self.there

    def create(self, context: Context, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        kept = next(other for other in context.state.records() if other.serial == record.serial)
        self.log.append(f"create {record.name} while {kept.status}")
        if inputs.get("fail"):
            raise RehearsalError("no room")
        return {"made": record.serial, "hidden": "plain text"}

    def update(
        self, context: Context, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        self.log.append(f"update {record.name} {inputs.get('size')}")
        return record.outputs

    def delete(self, context: Context, record: Record) -> None:
        self.log.append(f"delete {record.name} {record.inputs.get('zone', '')}".strip())


class Silent:
    def __init__(self) -> None:
        self.ops: list[tuple[str, Op]] = []
        self.errors: list[str] = []

    def started(self, key: str, op: Op, type_: str, name: str) -> None: ...

    def finished(self, key: str, op: Op, type_: str, name: str, seconds: float, note: str) -> None:
        self.ops.append((name, op))

    def failed(self, key: str, type_: str, name: str, message: str) -> None:
        self.errors.append(message)


class Runs:
    """Runs over one store, each with an engine as a new process has it."""

    def __init__(self) -> None:
        self.probe = Probe()
        self.store = MemoryStore()
        self.log = self.probe.log

    def engine(self, values: dict[str, str] | None = None) -> Engine[Context]:
        """An engine over what was written last. values: what the store holds instead."""
        kept = values or self.store.load() or {KEY: DIGEST_KEY, "folder": "/"}
        provider = Provider({TYPE: self.probe}, lambda token, args, records: {})
        return Engine(Context(Path("/"), State(self.store, kept)), provider, Silent())


@pytest.fixture
def runs() -> Runs:
    return Runs()


def registration(name: str, options: Options | None = None, needs: tuple[str, ...] = (), **inputs: Any) -> Registration:
    secret = frozenset({"text"} & set(inputs))
    hidden = frozenset({"hidden"})
    return Registration(name, TYPE, name, inputs, secret, needs, options or Options(), hidden)


def test_a_record_is_written_before_its_object_is_made(runs: Runs) -> None:
    record = runs.engine().register(registration("a"))
    assert runs.log == ["create a while pending"]
    assert record.outputs["made"] == "1"
    assert decode(runs.store.writes[-1]["resource.1"]).status == "done"


def test_the_second_run_finds_nothing_to_do(runs: Runs) -> None:
    runs.engine().register(registration("a", size=1))
    count = len(runs.store.writes)
    engine = runs.engine()
    assert engine.register(registration("a", size=1)).outputs["made"] == "1"
    assert runs.log == ["create a while pending"]
    assert len(runs.store.writes) == count
    assert engine.changes == 0


def test_what_a_killed_run_began_is_cleared_away_and_begun_again(runs: Runs) -> None:
    runs.engine().register(registration("a"))
    killed = next(write for write in runs.store.writes if '"pending"' in write.get("resource.1", ""))
    runs.log.clear()
    runs.engine(killed).register(registration("a"))
    assert runs.log == ["delete a", "create a while pending"]


def test_what_no_longer_exists_is_made_again(runs: Runs) -> None:
    runs.engine().register(registration("a"))
    runs.probe.there = False
    runs.log.clear()
    runs.engine().register(registration("a"))
    assert runs.log == ["delete a", "create a while pending"]


def test_the_new_one_is_made_before_the_old_one_goes(runs: Runs) -> None:
    runs.engine().register(registration("a", zone="x"))
    runs.log.clear()
    engine = runs.engine()
    engine.register(registration("a", zone="y"))
    assert runs.log == ["create a while pending"]
    engine.delete_rest()
    assert runs.log == ["create a while pending", "delete a x"]
    assert [record.inputs["zone"] for record in engine.context.state.records()] == ["y"]


def test_delete_before_replace_turns_that_round(runs: Runs) -> None:
    runs.engine().register(registration("a", zone="x"))
    runs.log.clear()
    runs.engine().register(registration("a", Options(delete_before_replace=True), zone="y"))
    assert runs.log == ["delete a x", "create a while pending"]


def test_a_failed_replacement_keeps_the_old_one(runs: Runs) -> None:
    runs.engine().register(registration("a", zone="x"))
    with pytest.raises(RehearsalError):
        runs.engine().register(registration("a", zone="y", fail=True))
    done = runs.engine().context.state.done("a")
    assert done is not None
    assert done.inputs == {"zone": "x"}


def test_after_a_failure_nothing_else_is_started(runs: Runs) -> None:
    engine = runs.engine()
    with pytest.raises(RehearsalError):
        engine.register(registration("a", fail=True))
    with pytest.raises(Stopped):
        engine.register(registration("b"))
    assert engine.watcher.errors == ["no room"]  # type: ignore[attr-defined]
    assert runs.log == ["create a while pending"]


def test_ignored_inputs_are_applied_as_they_were(runs: Runs) -> None:
    runs.engine().register(registration("a", size=1, text="1"))
    runs.engine().register(registration("a", Options(ignore_changes=("size",)), size=2, text="2"))
    assert runs.log[-1] == "update a 1"


def test_what_is_no_longer_registered_goes_dependents_first(runs: Runs) -> None:
    first = runs.engine()
    for name, needs in (("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ())):
        first.register(registration(name, needs=needs))
    runs.log.clear()
    second = runs.engine()
    second.register(registration("d"))
    second.delete_rest()
    assert runs.log == ["delete c", "delete b", "delete a"]


def test_protection_refuses_before_anything_is_deleted(runs: Runs) -> None:
    first = runs.engine()
    first.register(registration("a", Options(protect=True)))
    first.register(registration("b", needs=("a",)))
    runs.log.clear()
    second = runs.engine()
    with pytest.raises(RehearsalError, match=r"protected.* a;"):
        second.delete_rest()
    assert runs.log == []
    second.delete(second.context.state.records(), force=True)
    assert runs.log == ["delete b", "delete a"]


def test_two_resources_of_one_name_are_refused(runs: Runs) -> None:
    engine = runs.engine()
    engine.register(registration("a"))
    with pytest.raises(UserError, match="two resources"):
        engine.register(registration("a"))


def test_no_secret_reaches_the_state_in_plain(runs: Runs) -> None:
    record = runs.engine().register(registration("a", text="open sesame"))
    assert record.outputs["hidden"] == "plain text"
    assert "open sesame" not in str(runs.store.writes)
    assert "plain text" not in str(runs.store.writes)


def test_a_changed_secret_is_a_change(runs: Runs) -> None:
    runs.engine().register(registration("a", text="1"))
    engine = runs.engine()
    engine.register(registration("a", text="1"))
    assert engine.changes == 0
    changes = []
    for _ in range(2):
        engine = runs.engine()
        engine.register(registration("a", text="2"))
        changes.append(engine.changes)
    assert changes == [1, 0]


def test_whole_numbers_are_whole_again_after_their_way_through_protobuf() -> None:
    values, _ = plain({"port": 22.0, "list": [{"n": 1.0}], "half": 0.5})
    assert str(values) == "{'port': 22, 'list': [{'n': 1}], 'half': 0.5}"


def test_digests_of_one_secret_differ_between_stacks() -> None:
    assert digest("a", DIGEST_KEY) != digest("a", "11" * 32)


def test_a_file_is_compared_by_its_content(tmp_path: Path) -> None:
    import pulumi

    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("same")
    two.write_text("same")

    def seen(path: Path) -> dict[str, Any]:
        return comparable({"source": pulumi.FileAsset(str(path))}, frozenset(), DIGEST_KEY)

    assert seen(one) == seen(two)
    two.write_text("other")
    assert seen(one) != seen(two)


def test_of_user_data_only_the_secret_of_the_first_contact_is_not_recorded() -> None:
    texts = TYPES[tokens.INSTANCE].schema.without_secret
    inputs = {"userData": f"#cloud-config\n{FIRST_CONTACT}quiet\nruncmd: []\n", "other": "quiet"}
    found = comparable(inputs, frozenset(inputs), DIGEST_KEY, texts)
    assert found == {"userData": "#cloud-config\nruncmd: []\n", "other": digest("quiet", DIGEST_KEY)}
    assert [is_digest(value) for value in found.values()] == [False, True]


def test_a_record_reads_back_as_it_was_written() -> None:
    record = Record(
        "7", "urn", "type", "名", "id", {"a": [1, {"b": None}]}, {"c": 1.5}, {"d": "e"}, ("u", "v"), '"1"', True
    )
    assert decode(encode(record)) == record
    # Another stack of this host may be of a later version.
    assert decode(json.dumps({**json.loads(encode(record)), "later": 1})) == record


def test_serials_go_on_where_they_ended() -> None:
    record = Record("41", "urn", "type", "name", "id", {})
    assert State(MemoryStore(), {KEY: DIGEST_KEY, "resource.41": encode(record)}).new_serial() == "42"


def test_an_object_that_is_to_stay_only_leaves_the_state(runs: Runs) -> None:
    runs.engine().register(registration("a", Options(retain=True), zone="h"))
    engine = runs.engine()
    engine.register(registration("a", Options(retain=True), zone="i"))
    engine.delete_rest()
    engine = runs.engine()
    engine.delete_rest()
    assert engine.records() == []
    assert runs.log == ["create a while pending"] * 2
