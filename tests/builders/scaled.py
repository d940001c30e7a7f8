"""A stack with a scaling group on an LXD that only keeps what it is told, and a HAProxy that says what a test sets."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud import group_bridge, haproxy, haproxy_socket, machine, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.image import BaseImage
from rehearsal.cloud.keys import Keys
from rehearsal.cloud.lxd import LxdError
from rehearsal.cloud.registry import PROVIDER
from rehearsal.cloud.scaling import Group
from rehearsal.engine.compare import Op, Options
from rehearsal.engine.engine import Engine
from rehearsal.engine.registration import Registration
from rehearsal.engine.state import KEY, Record, State
from tests.builders.stores import DIGEST_KEY, NOWHERE, MemoryStore

SERVERS = {
    **{"protocol": "HTTP", "serverGroupType": "Instance", "scheduler": "Wrr"},
    "healthCheckConfig": {
        **{"healthCheckMethod": "GET", "healthCheckPath": "/healthz", "healthCheckInterval": 2},
        **{"healthyThreshold": 3, "unhealthyThreshold": 3},
    },
    "connectionDrainConfig": {"connectionDrainTimeout": 1},
    "stickySessionConfig": {"stickySessionEnabled": False},
}
LISTENER = {
    **{"loadBalancerId": "alb-1", "listenerPort": 80, "listenerProtocol": "HTTP"},
    "defaultActions": [
        {"type": "ForwardGroup", "forwardGroupConfig": {"serverGroupTuples": [{"serverGroupId": "sgp-1"}]}}
    ],
}
GROUP: dict[str, Any] = {
    **{"scalingGroupName": "wsgi-ecs-fleet", "minSize": 2, "maxSize": 4, "multiAzPolicy": "BALANCE"},
    **{"vswitchIds": ["vsw-1", "vsw-2"], "removalPolicies": ["NewestInstance"]},
    "albServerGroups": [{"albServerGroupId": "sgp-1", "port": 8080, "weight": 100}],
}
CONFIGURATION: dict[str, Any] = {
    **{"imageId": "debian_12", "instanceTypes": ["ecs.x9.unknown", "ecs.e-c1m1.large"], "userData": "#cloud-config"},
    **{"securityGroupIds": ["sg-1"], "keyName": "key", "active": True, "enable": True, "forceDelete": True},
}


class Lxd:
    """The machines of a stack by their names. events: what happened, in its order."""

    project = "wsgi-ecs-test"

    def __init__(self) -> None:
        self.machines: dict[str, Any] = {}
        self.written: dict[str, str] = {}
        self.events: list[str] = []
        self.broken = ""

    def find(self, path: str, **query: str) -> Any:
        if path == "/1.0/instances":
            return list(self.machines.values())
        name = path.split("/")[3]
        return {"name": name, "status": "Running"} if name == "alb-1" else self.machines.get(name)

    def get(self, path: str, **query: str) -> Any:
        return {"pid": 1} if path.endswith("/state") else self.find(path)

    def post(self, path: str, body: dict[str, Any]) -> None:
        if self.broken:
            raise LxdError(self.broken)
        self.machines[body["name"]] = {**body, "status": "Running"}

    def put(self, path: str, body: dict[str, Any]) -> None:
        pass

    def patch(self, path: str, body: dict[str, Any]) -> None:
        self.machines[path.rpartition("/")[2]]["config"].update(body["config"])

    def delete(self, path: str) -> None:
        name = path.rpartition("/")[2]
        if self.machines.pop(name, None):
            self.events.append(f"delete {name}")

    def exec(self, name: str, command: Sequence[str], timeout: float = 30) -> str:
        return ""

    def write(self, name: str, path: str, text: str, mode: str = "0600") -> None:
        if path == haproxy.CONFIG and self.written.get(path) != text:
            self.events.append(f"servers {' '.join(self.servers(text))}".rstrip())
        self.written[path] = text

    def servers(self, text: str | None = None) -> list[str]:
        """The servers of the backend."""
        return re.findall(r"^    server (\S+) ", self.written.get(haproxy.CONFIG, "") if text is None else text, re.M)


class Scaled:
    """The stack. heals: whether HAProxy finds new members healthy. ill: member → seconds for which it has been down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.lxd, self.folder = Lxd(), folder
        self.store = MemoryStore()
        self.heals = True
        self.ill: dict[str, int] = {}
        self.requests: Callable[[str], int] = lambda member: 0
        self.said: list[str] = []
        self.ops: list[tuple[str, Op]] = []
        self.errors: list[str] = []
        self.booting: Callable[[str], None] = lambda name: None
        monkeypatch.setattr(CloudContext, "lxd", self.lxd)
        monkeypatch.setattr(haproxy_socket, "ask", self._ask)
        monkeypatch.setattr(machine, "wait_for_address", self._boot)
        monkeypatch.setattr(machine, "wait_for_sshd", lambda context, name: None)
        monkeypatch.setattr(group_bridge, "ensure", lambda context, switch, group: self._bridge(switch, group))
        monkeypatch.setattr(group_bridge, "of_stack", lambda host, stack: [])
        monkeypatch.setattr(group_bridge, "write_acls", lambda context: None)
        state = State(self.store, {KEY: DIGEST_KEY, "folder": "/"})
        parts: tuple[tuple[str, str, dict[str, Any]], ...] = (
            (tokens.LOAD_BALANCER, "alb-1", {}),
            (tokens.SERVER_GROUP, "sgp-1", SERVERS),
            (tokens.LISTENER, "lsn-1", LISTENER),
            (tokens.KEY_PAIR, "key", {"publicKey": "ssh-ed25519 AAAA"}),
            *((tokens.SWITCH, f"vsw-{n}", {"cidrBlock": f"10.7{n}.0.0/20"}) for n in (1, 2)),
        )
        for type_, id_, inputs in parts:
            facts = {"source": "10.76.18.1"} if id_ == "alb-1" else {}
            serial = state.new_serial()
            state.put(Record(serial, f"urn:{id_}", type_, id_, id_, inputs, facts=facts, status="done"))
        (folder / "id_ed25519.pub").write_text("ssh-ed25519 BBBB")

    def _bridge(self, switch: str, group: str) -> group_bridge.GroupBridge:
        return group_bridge.GroupBridge(f"{switch}-{group}", switch, group, None, {})  # type: ignore[arg-type]

    def _boot(self, context: CloudContext, name: str, bridge: str) -> str:
        self.booting(name)
        return f"10.7{bridge[4]}.0.{name.rpartition('-')[2]}"

    def _ask(self, context: CloudContext, balancer: str, command: str) -> str:
        if command != haproxy_socket.SHOW_HEALTH:
            self.lxd.events.append(command)
            return ""
        rows = ["# pxname,svname,scur,status,lastchg"]
        for member in self.lxd.servers():
            seconds = self.ill.get(member, 0 if self.heals else 1)
            rows.append(f"sgp-1,{member},{self.requests(member)},{'DOWN' if seconds else 'UP'},{seconds}")
        return "\n".join(rows)

    def context(self) -> CloudContext:
        """A run, as a new process has it."""
        image = BaseImage("debian12", "Debian 12", "alias", NOWHERE)
        state = State(self.store, self.store.load())
        return CloudContext(NOWHERE, state, Keys(self.folder), {"debian_12": image}, self.said.append)

    def up(
        self, group: dict[str, Any] = GROUP, configuration: dict[str, Any] = CONFIGURATION, **others: dict[str, Any]
    ) -> Group:
        """Register group and configuration, and `others` by the last parts of their types, in a run of its own."""
        engine = Engine(self.context(), PROVIDER, self)
        made = engine.register(_registration(tokens.SCALING_GROUP, group))
        of_group = {"scalingGroupId": made.id}
        trigger = Options(trigger=json.dumps(configuration["userData"]))
        engine.register(_registration(tokens.SCALING_CONFIGURATION, {**configuration, **of_group}, trigger))
        for type_, inputs in others.items():
            engine.register(_registration(getattr(tokens, type_), {**inputs, **of_group}, trigger))
        engine.delete([record for record in engine.records() if record.status == "doomed"])
        return Group(engine.context, made.id)

    def numbers(self) -> list[int]:
        """The numbers of the machines that there are."""
        return sorted(int(name.rpartition("-")[2]) for name in self.lxd.machines)

    def started(self, key: str, op: Op, type_: str, name: str) -> None: ...

    def finished(self, key: str, op: Op, type_: str, name: str, seconds: float, note: str) -> None:
        self.ops.append((type_.rpartition(":")[2], op))

    def failed(self, key: str, type_: str, name: str, message: str) -> None:
        self.errors.append(message)


_URNS = {tokens.SCALING_GROUP: "urn:group", tokens.SCALING_CONFIGURATION: "urn:configuration"}


def _registration(type_: str, inputs: dict[str, Any], options: Options | None = None) -> Registration:
    urn = _URNS.get(type_, f"urn:{type_}")
    needs = () if type_ == tokens.SCALING_GROUP else ("urn:group",)
    return Registration(urn, type_, urn, inputs, frozenset(), needs, options or Options(), frozenset())
