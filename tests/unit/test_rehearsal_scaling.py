"""Scaling groups of a rehearsal: which machines are made and taken, in which order, and what HAProxy hears of them."""

import http.server
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rehearsal.cloud import haproxy, haproxy_socket, tokens
from rehearsal.cloud.haproxy_socket import ask_at, healths, out_of_use, states
from rehearsal.cloud.lxd import LxdError
from rehearsal.cloud.members import Member
from rehearsal.cloud.registry import PROVIDER
from rehearsal.cloud.resources.ess import (
    InstanceRefresh,
    LifecycleHook,
    ScalingConfiguration,
    ScalingGroup,
    ScalingRule,
)
from rehearsal.cloud.scaling import removal_order, spread
from rehearsal.commands.foresee import Change, Preview, _files
from rehearsal.commands.interruptions import away
from rehearsal.engine.compare import KNOWN_LATER, Op, Options, Recorded, compare
from rehearsal.engine.engine import Engine
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.state import Record
from tests.builders.scaled import CONFIGURATION, GROUP, LISTENER, SERVERS, Scaled
from tests.builders.stores import NOWHERE

NEXT = {**CONFIGURATION, "userData": "#cloud-config\n# next"}
RULE = {"scalingRuleType": "TargetTrackingScalingRule", "metricName": "CpuUtilization", "targetValue": 60}


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scaled:
    return Scaled(monkeypatch, tmp_path)


def test_a_configuration_makes_the_fewest_machines_evenly_over_the_switches(scaled: Scaled) -> None:
    group = scaled.up(SCALING_RULE=RULE)
    assert {(member.name, member.switch, member.address) for member in group.members} == {
        ("member-1", "vsw-1", "10.71.0.1"),
        ("member-2", "vsw-2", "10.72.0.2"),
    }
    made = scaled.lxd.machines[f"{group.id}-1"]
    assert made["devices"]["eth0"]["network"] == "vsw-1-sg-1"
    assert (made["config"]["user.user-data"], made["config"]["limits.memory"]) == ("#cloud-config", "2048MiB")
    assert made["config"]["user.public-keys"] == '["ssh-ed25519 AAAA", "ssh-ed25519 BBBB"]'
    assert made["source"]["alias"] == "alias"


def test_its_machines_are_servers_of_the_groups_that_it_names(scaled: Scaled) -> None:
    group = scaled.up()
    text = scaled.lxd.written[haproxy.CONFIG]
    assert f"    server {group.id}-1 10.71.0.1:8080 check inter 2s rise 3 fall 3\n" in text
    # HAProxy takes a new server for healthy, unless the states say otherwise.
    assert f"0 sgp-1 0 {group.id}-2 10.72.0.2 0 " in scaled.lxd.written["/var/lib/haproxy/states"]


def test_a_second_run_changes_nothing(scaled: Scaled) -> None:
    scaled.up(SCALING_RULE=RULE)
    scaled.ops.clear()
    scaled.up(SCALING_RULE=RULE)
    assert {op for _, op in scaled.ops} == {Op.SAME}
    assert scaled.numbers() == [1, 2]


def test_what_is_desired_outlives_the_next_run_and_stays_within_the_limits(scaled: Scaled) -> None:
    group = scaled.up()
    group.want(4)
    group.settle()
    assert scaled.up().desired == 4
    assert scaled.up({**GROUP, "maxSize": 3}).desired == 3
    assert scaled.numbers() == [1, 2, 3]
    assert scaled.up({**GROUP, "minSize": 4}).desired == 4
    assert scaled.numbers() == [1, 2, 3, 5], "a number is given once"


def test_the_newest_leave_first_and_get_no_request_before_they_go(scaled: Scaled) -> None:
    group = scaled.up()
    group.want(4)
    group.settle()
    one, two, three, four = (f"{group.id}-{number}" for number in (1, 2, 3, 4))
    busy = iter([1, 1, 0])
    scaled.requests = lambda member: next(busy, 0) if member == four else 0
    scaled.lxd.events.clear()
    group.want(2)
    group.settle()
    events = [event for event in scaled.lxd.events if event != haproxy_socket.SHOW_STATES]
    assert events == [
        out_of_use("sgp-1", three),
        out_of_use("sgp-1", four),
        f"servers {one} {two}",
        f"delete {four}",
        f"delete {three}",
    ]
    assert next(busy, None) is None, "it was waited for the last request"


def test_requests_that_do_not_end_are_waited_for_as_long_as_the_balancer_drains(scaled: Scaled) -> None:
    group = scaled.up({**GROUP, "minSize": 3})
    scaled.requests = lambda member: 7
    started = time.monotonic()
    group.take(group.members[:1])
    assert 1 <= time.monotonic() - started < 5
    assert "7 requests have not ended in 1 s" in scaled.said


def test_a_group_that_another_one_replaces_serves_until_it_is_deleted(scaled: Scaled) -> None:
    old = scaled.up().id
    scaled.lxd.events.clear()
    new = scaled.up({**GROUP, "scalingGroupName": "next"}, NEXT).id
    one, two, three, four = (f"{group}-{number}" for group in (old, new) for number in (1, 2))
    assert [event for event in scaled.lxd.events if event != haproxy_socket.SHOW_STATES] == [
        f"servers {one} {two} {three} {four}",
        out_of_use("sgp-1", one),
        out_of_use("sgp-1", two),
        f"servers {three} {four}",
        f"delete {one}",
        f"delete {two}",
    ]


def test_a_machine_that_is_gone_or_off_is_made_again_by_the_next_run(scaled: Scaled) -> None:
    group = scaled.up({**GROUP, "minSize": 3})
    del scaled.lxd.machines[f"{group.id}-1"]
    scaled.lxd.machines[f"{group.id}-3"]["status"] = "Stopped"
    scaled.ops.clear()
    scaled.up({**GROUP, "minSize": 3})
    assert ("ScalingGroup", Op.UPDATE) in scaled.ops
    assert scaled.numbers() == [2, 4, 5]
    del scaled.lxd.machines[f"{group.id}-5"]
    scaled.up({**GROUP, "minSize": 3})
    assert scaled.numbers() == [2, 4, 6]


def test_what_a_killed_run_left_is_deleted(scaled: Scaled) -> None:
    group = scaled.up()
    half = {"user.wsgi-ecs.scaling-group": group.id, "user.wsgi-ecs.configuration": "c", "user.wsgi-ecs.switch": "s"}
    scaled.lxd.machines[f"{group.id}-9"] = {"name": f"{group.id}-9", "status": "Running", "config": half}
    assert f"{group.id}-9" not in scaled.lxd.servers()
    group.settle()
    assert scaled.numbers() == [1, 2]


def test_a_machine_that_cannot_be_made_fails_the_run_and_the_next_one_begins_again(scaled: Scaled) -> None:
    scaled.lxd.broken = "no space left on device"
    with pytest.raises(LxdError, match="no space left"):
        scaled.up()
    scaled.lxd.broken = ""
    scaled.up()
    assert len(scaled.lxd.machines) == 2


def test_a_refresh_makes_new_machines_before_it_takes_old_ones(scaled: Scaled) -> None:
    """The trigger is the configuration's, so the first run refreshes, too, as the provider does."""
    refresh = {"minHealthyPercentage": 100, "maxHealthyPercentage": 150}
    four = {**GROUP, "minSize": 4}
    scaled.up(four, INSTANCE_REFRESH=refresh)
    assert scaled.numbers() == [5, 6, 7, 8]
    scaled.lxd.events.clear()
    scaled.up(four, NEXT, INSTANCE_REFRESH=refresh)
    assert scaled.numbers() == [9, 10, 11, 12]
    sizes = [len(event.split()) - 1 for event in scaled.lxd.events if event.startswith("servers")]
    assert sizes == [6, 4, 6, 4], "two more than the four, never fewer"


def test_a_refresh_with_unhealthy_machines_takes_them_back(scaled: Scaled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rehearsal.cloud.scaling.Group.wait.__defaults__", (0.1,))
    group = scaled.up()
    scaled.ill = {f"{group.id}-3": 1}
    with pytest.raises(RehearsalError, match=r"has not found member-3 healthy in 0 s"):
        group.refresh(100, skips_matching=False)
    assert scaled.numbers() == [1, 2]


def test_a_refresh_before_the_first_release_waits_for_nothing(scaled: Scaled) -> None:
    group = scaled.up()
    scaled.heals = False
    started = time.monotonic()
    assert group.refresh(200, skips_matching=False) == 2
    assert time.monotonic() - started < 5


def test_a_refresh_that_has_nothing_to_replace_is_refused_as_the_cloud_does(scaled: Scaled) -> None:
    with pytest.raises(RehearsalError, match="NoInstanceNeedBeRefreshed"):
        scaled.up(INSTANCE_REFRESH={"skipMatching": True})


def test_destroy_leaves_no_machine_and_deletes_those_first(scaled: Scaled) -> None:
    scaled.up(SCALING_RULE=RULE)
    context = scaled.context()
    records = context.state.records(tokens.SCALING_GROUP, tokens.SCALING_CONFIGURATION, tokens.SCALING_RULE)
    scaled.ops.clear()
    Engine(context, PROVIDER, scaled).delete(records)
    assert scaled.lxd.machines == {}
    assert [type_ for type_, _ in scaled.ops][-1] == "ScalingGroup"


def test_the_last_configuration_needs_force_delete(scaled: Scaled) -> None:
    scaled.up(GROUP, {**CONFIGURATION, "forceDelete": False})
    context = scaled.context()
    (configuration,) = context.state.records(tokens.SCALING_CONFIGURATION)
    with pytest.raises(RehearsalError, match="without force_delete"):
        ScalingConfiguration().delete(context, configuration)
    assert scaled.numbers() == [1, 2]


@pytest.mark.parametrize(
    ("policies", "order"),
    [
        (("NewestInstance",), [4, 3, 2, 1]),
        (("OldestInstance",), [1, 2, 3, 4]),
        (("OldestScalingConfiguration", "NewestInstance"), [2, 1, 4, 3]),
        (("OldestScalingConfiguration", "OldestInstance"), [1, 2, 3, 4]),
    ],
)
def test_the_removal_policies_say_who_leaves(policies: tuple[str, ...], order: list[int]) -> None:
    present = [Member(f"g-{n}", "g", n, "old" if n < 3 else "new", "s", "a", "Running") for n in (1, 2, 3, 4)]
    assert [member.number for member in removal_order(present, policies, ["new"])] == order


def test_new_machines_are_where_the_fewest_are() -> None:
    assert spread(["a", "b"], ["a", "a", "gone"], 3) == ["b", "b", "a"]


@pytest.mark.parametrize(
    ("op", "before", "after", "shown"),
    [
        (Op.CREATE, None, "#cloud-config", True),
        (Op.CREATE, None, KNOWN_LATER, False),
        (Op.UPDATE, "#cloud-config", "#cloud-config\n# next", True),
        (Op.UPDATE, "#cloud-config", "#cloud-config", False),
    ],
)
def test_a_preview_shows_what_the_next_machines_boot_with(op: Op, before: Any, after: Any, shown: bool) -> None:
    old, new = (
        Record("1", "u", tokens.SCALING_CONFIGURATION, "c", "c", {"userData": text}) if text else None
        for text in (before, after)
    )
    found = list(_files(NOWHERE, [Change(op, "", old, new)]))
    assert [rendered.title for rendered in found] == (["c boots with"] if shown else [])


def test_a_preview_says_how_long_machines_are_replaced_and_that_the_site_answers() -> None:
    configuration = Record("1", "u", tokens.SCALING_CONFIGURATION, "c", "c", {})
    refresh = Record("2", "v", tokens.INSTANCE_REFRESH, "r", "r", {}, seconds=90.0)
    changes = [Change(Op.SAME, "", configuration, configuration), Change(Op.REPLACE, "", refresh, refresh)]
    assert list(away(Preview(changes, (), (), NOWHERE))) == [
        "the machines of the scaling group are replaced, some at a time: about 90 s, as it took the last time",
        "the site goes on answering",
    ]


@pytest.mark.parametrize(
    ("handler", "inputs", "reason"),
    [
        (ScalingGroup(), {**GROUP, "desiredCapacity": 2}, "desired_capacity"),
        (ScalingGroup(), {**GROUP, "minSize": 5}, "min_size 5 is above max_size 4"),
        (ScalingGroup(), {**GROUP, "albServerGroups": None}, "without albServerGroups"),
        (ScalingGroup(), {**GROUP, "removalPolicies": ["Custom"]}, "removalPolicies='Custom'"),
        (ScalingConfiguration(), {**CONFIGURATION, "active": False}, "without active"),
        (ScalingConfiguration(), {**CONFIGURATION, "securityGroupIds": ["a", "b"]}, "2 security groups"),
        (ScalingConfiguration(), {**CONFIGURATION, "instanceTypes": ["ecs.x9.unknown"]}, r"ecs\.x9\.unknown is not in"),
        (ScalingConfiguration(), {**CONFIGURATION, "internetMaxBandwidthOut": 5}, "internetMaxBandwidthOut"),
        (ScalingRule(), {**RULE, "scalingRuleType": "SimpleScalingRule"}, "SimpleScalingRule"),
        (LifecycleHook(), {"lifecycleTransition": "SCALE_IN", "defaultResult": "ABANDON"}, "ABANDON"),
        (InstanceRefresh(), {"checkpoints": [{"percentage": 50}]}, "checkpoints"),
    ],
)
def test_what_is_not_rehearsed_is_refused_by_name(handler: Any, inputs: dict[str, Any], reason: str) -> None:
    with pytest.raises(RehearsalError, match=reason):
        handler.check(inputs)


@pytest.mark.parametrize(
    ("handler", "old", "change", "op"),
    [
        (ScalingGroup, GROUP, {"maxSize": 9}, Op.UPDATE),
        (ScalingGroup, GROUP, {"multiAzPolicy": "PRIORITY"}, Op.REPLACE),
        (ScalingConfiguration, CONFIGURATION, {"userData": "other"}, Op.UPDATE),
        (ScalingConfiguration, CONFIGURATION, {"securityEnhancementStrategy": "Active"}, Op.REPLACE),
        (ScalingRule, RULE, {"targetValue": 70}, Op.UPDATE),
        (ScalingRule, RULE, {"scalingRuleType": "StepScalingRule"}, Op.REPLACE),
        (InstanceRefresh, {"minHealthyPercentage": 100}, {"minHealthyPercentage": 90}, Op.REPLACE),
    ],
)
def test_a_change_is_made_as_the_provider_makes_it(
    handler: Any, old: dict[str, Any], change: dict[str, Any], op: Op
) -> None:
    assert compare(Recorded(old), {**old, **change}, Options(), handler.schema).op is op


class Page(http.server.BaseHTTPRequestHandler):
    """/healthz answers 200 while its port is in `well`; /slow takes a second; others name the port."""

    well: ClassVar[set[int]] = set()

    def do_GET(self) -> None:
        port = self.connection.getsockname()[1]
        if self.path == "/slow":
            time.sleep(1)
        self.send_response(200 if port in self.well else 503)
        self.end_headers()
        self.wfile.write(str(port).encode())

    def log_message(self, *_: object) -> None:
        pass


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not shutil.which("haproxy"), reason="HAProxy is not installed here")
def test_haproxy_itself_takes_a_new_member_for_down_keeps_what_it_knows_and_drains(tmp_path: Path) -> None:
    backs = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(2)]
    for back in backs:
        threading.Thread(target=back.serve_forever, daemon=True).start()
    ports = [int(back.server_address[1]) for back in backs]
    Page.well = {ports[0]}
    front, config, path = _free_port(), tmp_path / "haproxy.cfg", str(tmp_path / "socket")
    server_group = Record("1", "u", tokens.SERVER_GROUP, "sgp-1", "sgp-1", SERVERS)
    listener = Record("2", "v", tokens.LISTENER, "lsn-1", "lsn-1", {**LISTENER, "listenerPort": front})

    def write(*numbers: int) -> None:
        found = {
            "sgp-1": [{"serverId": f"m-{n}", "serverIp": "127.0.0.1", "port": ports[n]} for n in numbers],
        }
        parts = {
            tokens.LISTENER: [listener],
            tokens.LISTENER_CERTIFICATE: [],
            tokens.LISTENER_RULE: [],
            tokens.SERVER_GROUP: [server_group],
        }
        text = haproxy.config([listener], parts, "127.0.0.1", found).replace(haproxy_socket.SOCKET, path)
        text = text.replace("/var/lib/haproxy/states", str(tmp_path / "states"))
        text = text.replace("    user haproxy\n    group haproxy\n", "").replace("inter 2s", "inter 200ms")
        config.write_text(text)
        (tmp_path / "states").write_text(states(ask_at(path, haproxy_socket.SHOW_STATES), found))

    def status() -> dict[str, str]:
        answer = ask_at(path, haproxy_socket.SHOW_HEALTH)
        return {name: each.status.split(" ")[0] for name, found in healths(answer).items() for each in found}

    def get(page: str = "/") -> int:
        with socket.create_connection(("127.0.0.1", front)) as connection:
            connection.sendall(f"GET {page} HTTP/1.0\r\n\r\n".encode())
            return int(connection.makefile().readline().split()[1])

    write(0)
    with _running(["haproxy", "-W", "-f", str(config)], tmp_path) as process:
        # The member would be UP at once without the states.
        _until(lambda: "m-0" in status())
        _until(lambda: status() == {"m-0": "UP"})
        assert get() == 200
        write(0, 1)
        process.send_signal(12)
        _until(lambda: "m-1" in status())
        assert status() == {"m-0": "UP", "m-1": "DOWN"}
        assert {get() for _ in range(20)} == {200}
        Page.well = set(ports)
        _until(lambda: status() == {"m-0": "UP", "m-1": "UP"})
        slow = [threading.Thread(target=get, args=("/slow",)) for _ in range(2)]
        for thread in slow:
            thread.start()
        _until(lambda: all(each.requests for each in _flat(path)))
        ask_at(path, out_of_use("sgp-1", "m-1"))
        assert status()["m-1"] == "MAINT"
        assert [each.requests for each in _flat(path)] == [1, 1], "its request goes on"
        for thread in slow:
            thread.join()
        _until(lambda: not any(each.requests for each in _flat(path)))
        write(0)
        process.send_signal(12)
        _until(lambda: list(status()) == ["m-0"])
        assert get() == 200


def _flat(path: str) -> list[haproxy_socket.Health]:
    return [each for found in healths(ask_at(path, haproxy_socket.SHOW_HEALTH)).values() for each in found]
