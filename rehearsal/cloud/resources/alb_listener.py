"""A listener of a load balancer, its rules, and certificates beside its own: what HAProxy calls a frontend."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import group_bridge, haproxy, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record

_POLICIES = tuple(f"tls_cipher_policy_1_2{end}" for end in ("", "_strict", "_strict_with_1_3"))


class _Part(Resource[CloudContext]):
    """A part of HAProxy's configuration, which is written again for each change."""

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self._write(context)
        return {"status": "Running"}

    def updated(self, context: CloudContext) -> None:
        self._write(context)

    def delete(self, context: CloudContext, record: Record) -> None:
        # The engine has marked the record as doomed before, so the configuration leaves it out.
        self._write(context)

    def _write(self, context: CloudContext) -> None:
        haproxy.write_all(context)


class Listener(_Part):
    prefix = "lsn-"
    schema = Schema(
        replaces=frozenset({"loadBalancerId", "listenerPort", "listenerProtocol"}),
        updates=dict.fromkeys(
            (
                "defaultActions", "certificates", "securityPolicyId", "http2Enabled", "idleTimeout", "requestTimeout",
                "listenerDescription", "gzipEnabled", "xForwardedForConfig", "tags",
            ),
            "",
        ),
        recorded=frozenset({"accessLogTracingConfig"}),
        away=tokens.SITE,
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "listenerProtocol", "HTTP", "HTTPS")
        only(inputs, "gzipEnabled", False)
        only(inputs, "securityPolicyId", *_POLICIES)
        if inputs["listenerProtocol"] == "HTTPS" and not inputs.get("certificates"):
            raise RehearsalError("an HTTPS listener without a certificate is not rehearsed")

    def _write(self, context: CloudContext) -> None:
        super()._write(context)
        group_bridge.write_acls(context)


class ListenerRule(_Part):
    prefix = "rule-"
    schema = Schema(
        replaces=frozenset({"listenerId", "direction"}),
        updates=dict.fromkeys(("priority", "ruleConditions", "ruleActions", "ruleName"), ""),
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        for condition in inputs["ruleConditions"]:
            only(condition, "type", "Path", "Host")
        for action in inputs["ruleActions"]:
            only(action, "type", "ForwardGroup", "Redirect")


class ListenerCertificate(_Part):
    schema = Schema(replaces=frozenset({"listenerId", "certificateId"}))

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['listenerId']}:{inputs['certificateId']}"
