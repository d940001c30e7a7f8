"""What the monitor takes from Pulumi's SDK and what it refuses, and that the SDK is as it was."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2  # type: ignore[import-untyped]
from pulumi.runtime import mocks, rpc
from pulumi.runtime.proto import resource_pb2

from rehearsal.cloud import instance_types
from rehearsal.cloud.registry import PROVIDER
from rehearsal.engine import monitor
from rehearsal.engine.compare import KNOWN_LATER
from rehearsal.engine.errors import RehearsalError, UserError
from rehearsal.engine.registration import Registration
from rehearsal.engine.state import Record

VPC = "alicloud:vpc/network:Network"
SECRET_SIG = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}


class Engine:
    def __init__(self) -> None:
        self.registered: list[Registration] = []

    def records(self, *types: str) -> list[Record]:
        return []

    def register(self, registration: Registration) -> Record:
        self.registered.append(registration)
        return Record(
            "1",
            registration.urn,
            registration.type,
            registration.name,
            "vpc-1",
            {"cidrBlock": "old"},
            {"status": "Available"},
        )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> tuple[monitor.RehearsalMonitor, Engine, list[str]]:
    monkeypatch.setattr(monitor, "get_stack", lambda: "dev")
    monkeypatch.setattr(monitor, "get_project", lambda: "site")
    engine, refused = Engine(), list[str]()
    return monitor.RehearsalMonitor(engine, PROVIDER, refused.append), engine, refused


Made = tuple[monitor.RehearsalMonitor, Engine, list[str]]


def request(type_: str = VPC, inputs: dict[str, Any] | None = None, **fields: Any) -> Any:
    values = struct_pb2.Struct()
    values.update(inputs or {})
    return resource_pb2.RegisterResourceRequest(
        **{"type": type_, "name": "one", "custom": True, "object": values, **fields}
    )


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [(KNOWN_LATER, rpc.UNKNOWN), ([{"zone": "i", "switch": KNOWN_LATER}], [{"zone": "i", "switch": rpc.UNKNOWN}])],
    ids=["whole", "part"],
)
def test_what_is_ignored_and_known_later_is_unknown_to_the_program(
    made: Made, monkeypatch: pytest.MonkeyPatch, recorded: Any, asked: Any
) -> None:
    one, engine, _ = made
    register = engine.register
    monkeypatch.setattr(engine, "register", lambda each: replace(register(each), inputs={"cidrBlock": recorded}))
    answer = one.RegisterResource(request(inputs={"cidrBlock": asked}, ignoreChanges=["cidrBlock"]))
    assert json_format.MessageToDict(answer.object)["cidrBlock"] == asked


def test_a_resource_goes_to_the_engine_with_its_options(made: Made) -> None:
    one, engine, _ = made
    trigger = struct_pb2.Value(string_value="v1")
    answer = one.RegisterResource(
        request(
            inputs={"cidrBlock": "10.0.0.0/8", "tags": {"n": 2}},
            ignoreChanges=["cidrBlock"],
            replacement_trigger=trigger,
            protect=True,
            dependencies=["b", "a"],
        )
    )
    registration = engine.registered[0]
    assert registration.urn == f"urn:pulumi:dev::site::{VPC}::one"
    assert registration.inputs == {"cidrBlock": "10.0.0.0/8", "tags": {"n": 2}}
    assert registration.dependencies == ("a", "b")
    assert (registration.options.trigger, registration.options.protect) == ('"v1"', True)
    assert registration.options.delete_before_replace is None
    assert answer.id == "vpc-1"
    assert dict(answer.object)["status"] == "Available"
    assert dict(answer.object)["cidrBlock"] == "old"


def test_secret_inputs_are_known_as_such(made: Made) -> None:
    one, engine, _ = made
    one.RegisterResource(request(inputs={"description": {**SECRET_SIG, "value": "quiet"}}))
    assert engine.registered[0].inputs == {"description": "quiet"}
    assert engine.registered[0].secret == {"description"}


def test_a_child_has_its_parents_types_in_its_urn(made: Made) -> None:
    one, engine, _ = made
    parent = "urn:pulumi:dev::site::wsgi:a:A$wsgi:b:B::p"
    one.RegisterResource(request(parent=parent))
    assert engine.registered[0].urn == f"urn:pulumi:dev::site::wsgi:a:A$wsgi:b:B${VPC}::one"


def test_a_component_is_a_group_and_no_object(made: Made) -> None:
    one, engine, _ = made
    assert one.RegisterResource(request("wsgi:a:A", custom=False)).urn.endswith("wsgi:a:A::one")
    assert engine.registered == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"importId": "vpc-9"}, "import_"),
        ({"deletedWith": "urn"}, "deleted_with"),
        ({"provider": "urn::id"}, "provider"),
        ({"aliasURNs": ["urn"]}, "aliases"),
        ({"replace_with": ["urn"]}, "replace_with"),
        ({"customTimeouts": {"create": "5m"}}, "custom_timeouts"),
        ({"hooks": {"before_create": ["h"]}}, "hooks"),
        ({"ignoreChanges": ["tags.name"]}, "ignore_changes"),
    ],
)
def test_an_option_that_is_not_rehearsed_is_refused_by_name(made: Made, fields: dict[str, Any], named: str) -> None:
    one, engine, refused = made
    with pytest.raises(UserError, match=named):
        one.RegisterResource(request(**fields))
    assert engine.registered == []
    assert len(refused) == 1
    assert "\n" not in refused[0]


def test_an_unknown_type_or_input_is_refused_by_name(made: Made) -> None:
    one, engine, _ = made
    with pytest.raises(UserError, match="alicloud:oss/bucket:Bucket"):
        one.RegisterResource(request("alicloud:oss/bucket:Bucket"))
    with pytest.raises(UserError, match="enableIpv6"):
        one.RegisterResource(request(inputs={"enableIpv6": True}))
    assert engine.registered == []


def test_the_stacks_outputs_are_kept_and_secret_ones_known(made: Made) -> None:
    one, _, _ = made
    outputs = struct_pb2.Struct()
    outputs.update({"url": "http://a/", "key": {**SECRET_SIG, "value": "quiet"}})
    urn = "urn:pulumi:dev::site::pulumi:pulumi:Stack::site-dev"
    one.RegisterResourceOutputs(resource_pb2.RegisterResourceOutputsRequest(urn=urn, outputs=outputs))
    assert one.outputs == {"url": "http://a/", "key": "quiet"}
    assert one.secret_outputs == {"key"}


def test_a_function_that_is_not_rehearsed_is_refused_by_name(made: Made) -> None:
    one, _, refused = made
    with pytest.raises(UserError, match="getRegions"):
        one.Invoke(resource_pb2.ResourceInvokeRequest(tok="alicloud:index/getRegions:getRegions"))
    assert len(refused) == 1


def answer(name: str, **args: Any) -> list[str]:
    ids: list[str] = instance_types.answer(f"alicloud:{name}:{name.split('/')[1]}", args, lambda *types: [])["ids"]
    return ids


def test_a_zone_is_found_for_a_known_type_and_none_for_another() -> None:
    assert answer("index/getZones", availableInstanceType="ecs.t6-c1m1.large")
    assert answer("index/getZones", availableInstanceType="ecs.nope") == []


def test_each_system_has_an_image_and_another_pattern_none() -> None:
    for pattern in ("^centos_7_9_x64", "^aliyun_3", "^debian_12", "^debian_13", "^ubuntu_22_04"):
        assert len(answer("ecs/getImages", nameRegex=pattern)) == 1
    assert answer("ecs/getImages", nameRegex="^windows") == []


def test_instance_types_are_found_by_size() -> None:
    assert "ecs.t6-c1m1.large" in answer("ecs/getInstanceTypes", cpuCoreCount=2, memorySize=2)
    assert "ecs.t6-c1m1.large" not in answer("ecs/getInstanceTypes", cpuCoreCount=4)


def test_an_unknown_size_is_refused_with_some_that_are_known() -> None:
    with pytest.raises(RehearsalError, match=r"ecs\.nope.*ecs\.t6-c1m1\.large"):
        instance_types.size("ecs.nope")


@pytest.mark.parametrize(
    ("member", "parameters"),
    [
        (mocks.MockMonitor.__init__, ["self", "mocks"]),
        (mocks.MockMonitor.make_urn, ["self", "parent", "type_", "name"]),
        (mocks.MockMonitor.RegisterResource, ["self", "request"]),
        (mocks.MockMonitor.RegisterResourceOutputs, ["self", "request"]),
        (mocks.MockMonitor.ReadResource, ["self", "request"]),
        (mocks.MockMonitor.Invoke, ["self", "request"]),
        (
            mocks.set_mocks,
            ["mocks", "project", "stack", "preview", "logger", "monitor", "organization"],
        ),
    ],
)
def test_contract_what_we_override_and_call_is_as_it_was(member: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(member).parameters) == parameters


def test_contract_the_sdk_sends_no_option_that_we_do_not_know() -> None:
    handled = {
        "type", "name", "parent", "custom", "object", "protect", "dependencies", "propertyDependencies",
        "deleteBeforeReplace", "deleteBeforeReplaceDefined", "ignoreChanges", "additionalSecretOutputs",
        "replaceOnChanges", "replacement_trigger", "retainOnDelete",
    }  # fmt: skip
    # Of the protocol between SDK and engine, without a meaning for what is made.
    of_the_protocol = {
        "version", "acceptSecrets", "acceptResources", "supportsPartialValues", "remote", "pluginDownloadURL",
        "pluginChecksums", "aliasSpecs", "sourcePosition", "stackTrace", "parentStackTraceHandle",
        "supportsResultReporting", "packageRef", "hideDiffs", "envVarMappings", "snippetId", "accepts_byte_string",
    }  # fmt: skip
    fields = {field.name for field in resource_pb2.RegisterResourceRequest.DESCRIPTOR.fields}
    assert fields == handled | of_the_protocol | set(monitor._REFUSED)


def test_contract_no_output_values_arrive_as_inputs() -> None:
    features = monitor.RehearsalMonitor(None, PROVIDER, print).GetDeploymentInfo(None).supportedFeatures  # type: ignore
    assert resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS in features
    assert resource_pb2.RESOURCE_MONITOR_FEATURE_OUTPUT_VALUES not in features
