"""The program run under Pulumi's mocks: what answers it, and what it registered."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pulumi.runtime import mocks, rpc

from components.first_contact import proof
from contract.resources import FIRST_CONTACT

HOST_KEY = f"ssh-ed25519 {'A' * 68}"


class Cloud(mocks.Mocks):
    """Answers as the provider does, with made-up ids.

    printed: what each command prints. databases, redises, networks: what exists of them. classes, redis_classes: zone →
    classes of RDS and of Tair that it offers. first_session: user data of the server → what its first session prints.
    """

    printed = ""
    databases: tuple[dict[str, Any], ...] = ()
    redises: tuple[dict[str, Any], ...] = ()
    networks: tuple[dict[str, Any], ...] = ()
    classes: Mapping[str, list[str]] = MappingProxyType(
        {f"cn-hangzhou-{zone}": ["mysql.n2.medium.2c", "mysql.n2.medium.1"] for zone in "ij"}
    )
    redis_classes: Mapping[str, list[str]] = MappingProxyType(
        {f"cn-hangzhou-{zone}": ["redis.shard.small.2.ce", "redis.shard.mid.2.ce"] for zone in "ij"}
    )

    def __init__(self) -> None:
        self.user_data: dict[str, str] = {}

    def first_session(self, user_data: str) -> str:
        (secret,) = re.findall(f"^{FIRST_CONTACT}(.+)$", user_data, re.MULTILINE)
        return f"{HOST_KEY}\n{proof(secret, HOST_KEY)}"

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        known = {
            ":EipAddress": {"ipAddress": "198.51.100.7"},
            "ecs/instance:Instance": {"primaryIpAddress": "10.0.0.1"},
            ":LoadBalancer": {"dnsName": "alb-1.cn-hangzhou.alb.aliyuncs.com"},
            "rds/instance:Instance": {"connectionString": "rm-1.mysql.rds.aliyuncs.com"},
            "kvstore/instance:Instance": {"connectionDomain": "r-1.redis.rds.aliyuncs.com"},
            ":MountTarget": {"mountTargetDomain": "0a1b-x.cn-hangzhou.nas.aliyuncs.com"},
            ":Command": {"stdout": self.printed},
        }
        if args.typ.endswith("ecs/instance:Instance"):
            self.user_data[args.name.removesuffix("-instance")] = rpc.unwrap_rpc_secret(args.inputs["userData"])
        if args.name.endswith("-host-key"):
            known[":Command"] = {"stdout": self.first_session(self.user_data[args.name.removesuffix("-host-key")])}
        extra = next((outputs for end, outputs in known.items() if args.typ.endswith(end)), {})
        return f"{args.name}-id", {**args.inputs, **extra}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        if args.token.endswith("rds/getInstances:getInstances"):
            return {"ids": [], "instances": self.databases}, []
        if args.token.endswith("kvstore/getInstances:getInstances"):
            return {"ids": [], "instances": self.redises}, []
        if args.token.endswith("kvstore/getInstanceClasses:getInstanceClasses"):
            return {"ids": [], "instanceClasses": self.redis_classes.get(args.args["zoneId"], [])}, []
        if args.token.endswith(":getInstanceClasses"):
            return {"ids": self.classes.get(args.args["zoneId"], []), "instanceClasses": []}, []
        if args.token.endswith(":getNetworks"):
            return {"ids": [], "vpcs": self.networks}, []
        if args.token.endswith("nas/getZones:getZones"):
            return {"id": "", "zones": []}, []
        if args.token.endswith(":getZones"):
            return {"ids": ["cn-hangzhou-i", "cn-hangzhou-j"], "zones": []}, []
        if args.token.endswith(":getImages"):
            return {"ids": [f"{args.args['nameRegex'].strip('^')}-image"], "images": []}, []
        if args.token.endswith(":getEcsDisks"):
            return {"ids": [], "disks": []}, []
        if args.token.endswith(":getSwitches"):
            return {"ids": [], "vswitches": []}, []
        if args.token.endswith(":getEipAddresses"):
            return {"ids": [], "addresses": []}, []
        raise AssertionError(f"the program calls {args.token}")


class Recorder(mocks.MockMonitor):
    """Keeps every registration as the engine receives it, with secrets marked.

    messages: all that was sent, in its order.
    """

    def __init__(self, answers: mocks.Mocks) -> None:
        super().__init__(answers)
        self.requests: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.messages: list[Any] = []

    def Invoke(self, request: Any) -> Any:
        self.messages.append(request)
        return super().Invoke(request)  # type: ignore[no-untyped-call]

    def RegisterResource(self, request: Any) -> Any:
        self.messages.append(request)
        self.requests[f"{request.type}::{request.name}"] = request
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:
        self.messages.append(request)
        if "pulumi:pulumi:Stack" in request.urn:
            self.outputs = rpc.deserialize_properties(request.outputs)
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]

    def inputs(self, type_: str, name: str = "") -> dict[str, Any]:
        """Inputs of the one resource of a type (its end is enough) whose name ends in `name`."""
        return dict(rpc.deserialize_properties(self.request(type_, name).object, keep_unknowns=False))

    def request(self, type_: str, name: str = "") -> Any:
        found = [r for r in self.requests.values() if r.type.endswith(type_) and r.name.endswith(name)]
        assert len(found) == 1, [r.name for r in found]
        return found[0]


Run = Callable[..., Recorder]


def secret(value: Any) -> Any:
    assert isinstance(value, dict)
    assert value["4dabf18193072939515e22adb298388d"] == "1b47061264138c4ac30d75fd1eb44270"  # Pulumi's mark of a secret
    return value["value"]
