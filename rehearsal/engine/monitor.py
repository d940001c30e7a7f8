"""The monitor that Pulumi's SDK registers resources with: it hands them to the engine.

It supports the resource types of a provider, and the options that the program uses. It refuses all others by name,
rather than rehearse something that the cloud would not do.
"""

import json
from collections.abc import Callable
from typing import Any

from google.protobuf import empty_pb2, json_format, struct_pb2  # type: ignore[import-untyped]
from pulumi.runtime import mocks, rpc
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_project, get_stack
from pulumi.runtime.sync_await import _ensure_event_loop

from rehearsal.engine.compare import Options
from rehearsal.engine.errors import UserError
from rehearsal.engine.inputs import is_digest, is_known, plain
from rehearsal.engine.registration import Registrar, Registration
from rehearsal.engine.resource import Provider

_STACK = "pulumi:pulumi:Stack"

# Field of RegisterResourceRequest → the name of the option that sets it.
_REFUSED = {
    "importId": "import_",
    "aliases": "aliases",
    "aliasURNs": "aliases",
    "customTimeouts": "custom_timeouts",
    "deletedWith": "deleted_with",
    "replace_with": "replace_with",
    "transforms": "transforms",
    "hooks": "hooks",
    "state_migrations": "state_migrations",
    "provider": "provider",
    "providers": "providers",
}


class NoMocks(mocks.Mocks):
    """MockMonitor requires mocks; this monitor never calls them."""

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise NotImplementedError

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        raise NotImplementedError


class RehearsalMonitor(mocks.MockMonitor):
    """Hands registrations to a registrar. outputs: what the stack exports, once the program has ended.

    secret_outputs: names of the secret outputs.

    refuse(text): hears of everything that is refused, because the SDK may hide an exception.
    """

    def __init__(self, registrar: Registrar, provider: Provider[Any], refuse: Callable[[str], None]) -> None:
        super().__init__(NoMocks())
        self.registrar = registrar
        self._types, self._answer = provider.types, provider.answer
        self.outputs: dict[str, Any] = {}
        self.secret_outputs: set[str] = set()
        self._refuse = refuse

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """The urn that Pulumi's engine makes, with the types of all parents except the stack."""
        qualified = parent.split("::")[2] if parent else ""
        if qualified and qualified != _STACK:
            type_ = f"{qualified}${type_}"
        return f"urn:pulumi:{get_stack()}::{get_project()}::{type_}::{name}"

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> resource_pb2.RegisterResourceResponse:
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == _STACK or not request.custom:
            return resource_pb2.RegisterResourceResponse(urn=urn)
        # Deserializing needs an event loop on its thread.
        _ensure_event_loop()  # type: ignore[no-untyped-call]
        try:
            registration = self._registration(urn, request)
            record = self.registrar.register(registration)
        except UserError as error:
            self._refuse(str(error))
            raise
        response = struct_pb2.Struct()
        response.CopyFrom(request.object)
        for key in registration.options.ignore_changes:
            # What has parts that are known later has unknown ones in the request, too.
            if key in record.inputs and is_known(record.inputs[key]):
                # A secret is recorded as a digest, so its text is unknown, unless the resource has just been made.
                response.update({key: None if is_digest(record.inputs[key]) else record.inputs[key]})
        for key, value in record.outputs.items():
            response.update({key: rpc.wrap_rpc_secret(value) if key in registration.secret_outputs else value})
        return resource_pb2.RegisterResourceResponse(urn=urn, id=record.id, object=response)

    def _registration(self, urn: str, request: resource_pb2.RegisterResourceRequest) -> Registration:
        what = f"{request.name} ({request.type})"
        handler = self._types.get(request.type)
        if handler is None:
            raise UserError(f"{what}: this resource type is not rehearsed; allowed: {', '.join(sorted(self._types))}")
        present = {descriptor.name for descriptor, _ in request.ListFields()}
        for field, option in _REFUSED.items():
            if field in present and not _empty(request, field):
                raise UserError(f"{what}: the option {option} is not rehearsed")
        inputs, secret = plain(rpc.deserialize_properties(request.object))
        for key in inputs:
            if key not in handler.schema.known:
                raise UserError(f"{what}: the input {key} is not rehearsed")
        for path in request.ignoreChanges:
            if "." in path or "[" in path or path == "*":
                raise UserError(f"{what}: ignore_changes {path}: allowed: names of whole inputs")
        trigger = None
        if "replacement_trigger" in present:
            trigger = json.dumps(json_format.MessageToDict(request.replacement_trigger), sort_keys=True)
        first = request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None
        options = Options(
            tuple(request.ignoreChanges),
            tuple(request.replaceOnChanges),
            trigger,
            first,
            request.protect,
            request.retainOnDelete,
        )
        dependencies = tuple(sorted(set(request.dependencies)))
        return Registration(
            urn,
            request.type,
            request.name,
            inputs,
            secret,
            dependencies,
            options,
            frozenset(request.additionalSecretOutputs),
        )

    def RegisterResourceOutputs(self, request: resource_pb2.RegisterResourceOutputsRequest) -> empty_pb2.Empty:
        if request.urn.split("::")[2] == _STACK:
            _ensure_event_loop()  # type: ignore[no-untyped-call]
            values, secret = plain(rpc.deserialize_properties(request.outputs))
            self.outputs.update(values)
            self.secret_outputs |= secret
        return empty_pb2.Empty()

    def Invoke(self, request: resource_pb2.ResourceInvokeRequest) -> resource_pb2.ResourceInvokeResponse:
        _ensure_event_loop()  # type: ignore[no-untyped-call]
        args, _ = plain(rpc.deserialize_properties(request.args))
        try:
            found = self._answer(request.tok, args, self.registrar.records)
        except UserError as error:
            self._refuse(str(error))
            raise
        result = struct_pb2.Struct()
        result.update(found)
        return resource_pb2.ResourceInvokeResponse(**{"return": result})

    def ReadResource(self, request: resource_pb2.ReadResourceRequest) -> resource_pb2.ReadResourceResponse:
        error = UserError(f"{request.name} ({request.type}): reading a resource that exists is not rehearsed")
        self._refuse(str(error))
        raise error


def _empty(request: resource_pb2.RegisterResourceRequest, field: str) -> bool:
    value = getattr(request, field)
    # The SDK sends bindings of hooks even when there are no hooks.
    return field == "hooks" and not value.ListFields()
