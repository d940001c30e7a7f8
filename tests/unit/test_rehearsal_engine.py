"""The engine's order of things, with resources that only write down what happens to them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rehearsal import state as state_module
from rehearsal.compare import Op, Options, Schema
from rehearsal.engine import Engine, Registration, Stopped
from rehearsal.errors import RehearsalError, UserError
from rehearsal.inputs import comparable, digest, plain
from rehearsal.keys import Keys
from rehearsal.resources import TYPES, Context, Resource
from rehearsal.state import Record, State, decode, encode

KEY = "00" * 32


class Probe(Resource):
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


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    made = Probe()
    monkeypatch.setitem(TYPES, "test:Probe", made)
    return made


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What goes to LXD: one entry for each write of the project's config."""
    writes: list[dict[str, str]] = []
    monkeypatch.setattr(State, "_write", lambda self: writes.append(dict(self._config)))
    return writes


def start(written: list[dict[str, str]], config: dict[str, str] | None = None) -> Engine:
    """An engine as a new process has it: over what was written last."""
    kept = config or (written[-1] if written else {"user.key": KEY, "user.folder": "/"})
    keys = Keys(Path("/nonexistent"))
    context = Context(Path("/"), State("test", kept), keys, "image", Path("/nonexistent"), lambda text: None)
    return Engine(context, Silent())


def wanted(name: str, options: Options | None = None, needs: tuple[str, ...] = (), **inputs: Any) -> Registration:
    secret = frozenset({"text"} & set(inputs))
    hidden = frozenset({"hidden"})
    return Registration(name, "test:Probe", name, inputs, secret, needs, options or Options(), hidden)


def test_a_record_is_written_before_its_object_is_made(probe: Probe, written: list[dict[str, str]]) -> None:
    record = start(written).register(wanted("a"))
    assert probe.log == ["create a while pending"]
    assert record.outputs["made"] == "1"
    assert decode(written[-1]["user.resource.1"]).status == "done"


def test_the_second_run_finds_nothing_to_do(probe: Probe, written: list[dict[str, str]]) -> None:
    start(written).register(wanted("a", size=1))
    count = len(written)
    engine = start(written)
    assert engine.register(wanted("a", size=1)).outputs["made"] == "1"
    assert probe.log == ["create a while pending"]
    assert len(written) == count
    assert engine.changes == 0


def test_what_a_killed_run_began_is_cleared_away_and_begun_again(probe: Probe, written: list[dict[str, str]]) -> None:
    start(written).register(wanted("a"))
    killed = next(write for write in written if '"pending"' in write.get("user.resource.1", ""))
    probe.log.clear()
    start(written, killed).register(wanted("a"))
    assert probe.log == ["delete a", "create a while pending"]


def test_what_is_gone_from_lxd_is_made_again(probe: Probe, written: list[dict[str, str]]) -> None:
    start(written).register(wanted("a"))
    probe.there = False
    probe.log.clear()
    start(written).register(wanted("a"))
    assert probe.log == ["delete a", "create a while pending"]


def test_the_new_one_is_made_before_the_old_one_goes(probe: Probe, written: list[dict[str, str]]) -> None:
    start(written).register(wanted("a", zone="x"))
    probe.log.clear()
    engine = start(written)
    engine.register(wanted("a", zone="y"))
    assert probe.log == ["create a while pending"]
    engine.delete_rest()
    assert probe.log == ["create a while pending", "delete a x"]
    assert [record.inputs["zone"] for record in engine.context.state.records()] == ["y"]


def test_delete_before_replace_turns_that_round(probe: Probe, written: list[dict[str, str]]) -> None:
    start(written).register(wanted("a", zone="x"))
    probe.log.clear()
    start(written).register(wanted("a", Options(delete_before_replace=True), zone="y"))
    assert probe.log == ["delete a x", "create a while pending"]


def test_a_failed_replacement_keeps_the_old_one(probe: Probe, written: list[dict[str, str]]) -> None:
    start(written).register(wanted("a", zone="x"))
    with pytest.raises(RehearsalError):
        start(written).register(wanted("a", zone="y", fail=True))
    done = start(written).context.state.done("a")
    assert done is not None
    assert done.inputs == {"zone": "x"}


def test_after_a_failure_nothing_else_is_started(probe: Probe, written: list[dict[str, str]]) -> None:
    engine = start(written)
    with pytest.raises(RehearsalError):
        engine.register(wanted("a", fail=True))
    with pytest.raises(Stopped):
        engine.register(wanted("b"))
    assert engine.watcher.errors == ["no room"]  # type: ignore[attr-defined]
    assert probe.log == ["create a while pending"]


def test_ignored_inputs_are_applied_as_they_were(probe: Probe, written: list[dict[str, str]]) -> None:
    start(written).register(wanted("a", size=1, text="1"))
    start(written).register(wanted("a", Options(ignore_changes=("size",)), size=2, text="2"))
    assert probe.log[-1] == "update a 1"


def test_what_is_no_longer_registered_goes_dependents_first(probe: Probe, written: list[dict[str, str]]) -> None:
    first = start(written)
    for name, needs in (("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ())):
        first.register(wanted(name, needs=needs))
    probe.log.clear()
    second = start(written)
    second.register(wanted("d"))
    second.delete_rest()
    assert probe.log == ["delete c", "delete b", "delete a"]


def test_protection_refuses_before_anything_is_deleted(probe: Probe, written: list[dict[str, str]]) -> None:
    first = start(written)
    first.register(wanted("a", Options(protect=True)))
    first.register(wanted("b", needs=("a",)))
    probe.log.clear()
    second = start(written)
    with pytest.raises(RehearsalError, match=r"protected.* a;"):
        second.delete_rest()
    assert probe.log == []
    second.delete(second.context.state.records(), force=True)
    assert probe.log == ["delete b", "delete a"]


def test_two_resources_of_one_name_are_refused(probe: Probe, written: list[dict[str, str]]) -> None:
    engine = start(written)
    engine.register(wanted("a"))
    with pytest.raises(UserError, match="two resources"):
        engine.register(wanted("a"))


def test_no_secret_reaches_the_state_in_plain(probe: Probe, written: list[dict[str, str]]) -> None:
    record = start(written).register(wanted("a", text="open sesame"))
    assert record.outputs["hidden"] == "plain text"
    assert "open sesame" not in str(written)
    assert "plain text" not in str(written)


def test_a_changed_secret_is_a_change(probe: Probe, written: list[dict[str, str]]) -> None:
    start(written).register(wanted("a", text="1"))
    engine = start(written)
    engine.register(wanted("a", text="1"))
    assert engine.changes == 0
    changes = []
    for _ in range(2):
        engine = start(written)
        engine.register(wanted("a", text="2"))
        changes.append(engine.changes)
    assert changes == [1, 0]


def test_whole_numbers_are_whole_again_after_their_way_through_protobuf() -> None:
    values, _ = plain({"port": 22.0, "list": [{"n": 1.0}], "half": 0.5})
    assert str(values) == "{'port': 22, 'list': [{'n': 1}], 'half': 0.5}"


def test_digests_of_one_secret_differ_between_stacks() -> None:
    assert digest("a", KEY) != digest("a", "11" * 32)


def test_a_file_is_compared_by_its_content(tmp_path: Path) -> None:
    import pulumi

    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("same")
    two.write_text("same")

    def seen(path: Path) -> dict[str, Any]:
        return comparable({"source": pulumi.FileAsset(str(path))}, frozenset(), KEY)

    assert seen(one) == seen(two)
    two.write_text("other")
    assert seen(one) != seen(two)


def test_a_record_reads_back_as_it_was_written() -> None:
    record = Record(
        "7", "urn", "type", "名", "id", {"a": [1, {"b": None}]}, {"c": 1.5}, {"d": "e"}, ("u", "v"), '"1"', True
    )
    assert decode(encode(record)) == record
    # Another stack of this host may be of a later version.
    assert decode(json.dumps({**json.loads(encode(record)), "later": 1})) == record


def test_serials_go_on_where_they_ended() -> None:
    record = Record("41", "urn", "type", "name", "id", {})
    assert State("test", {"user.key": KEY, "user.resource.41": encode(record)}).new_serial() == "42"


def test_records_of_all_stacks_are_found() -> None:
    record = Record("1", "urn", "type", "name", "id", {}, facts={"address": "198.18.0.1"})
    config = {"user.key": KEY, "user.resource.1": encode(record)}
    assert state_module.all_records({"one": config, "two": {"features.images": "false"}}) == [record]
    assert dataclasses.replace(record, status="doomed") != record
