"""What a stack builds, drawn: the charts of the READMEs, and what no text of a stack does to one."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rehearsal.cli import main
from rehearsal.cloud import tokens
from rehearsal.commands.graph import chart, graph
from rehearsal.commands.passphrase import VARIABLE
from rehearsal.engine.compare import Options
from rehearsal.engine.errors import UserError
from rehearsal.engine.registration import Registration
from tests.builders.encrypted import PASSPHRASE
from tests.builders.stack import PROJECT


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readmes_charts_are_what_the_command_prints(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    charts = re.findall(r"```mermaid\n(.*?)```", (PROJECT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert charts == [printed("dev"), printed("showcase")]


def printed(stack: str) -> str:
    done = CliRunner().invoke(main, ["graph", "--stack", stack])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one's own that runs the program of this one."""
    (tmp_path / "stacks").mkdir()
    for name in ("app", "__main__.py"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_name_ends_its_place_in_a_chart(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: 'a\"] --> b[\"<b>x #quot; 名'\nstackConfigDir: stacks\n")
    (project / "stacks/Pulumi.one.yaml").write_text("config: {}\n")
    text = graph(project, "one")
    labels = re.findall(r'"(.*?)"', text)
    assert "security group a#34;#93; --#62; b#91;#34;#60;b#62;x #35;quot#59; 名-one" in labels
    # Everything outside the labels is of the chart itself.
    rest = re.sub(r'".*?"', "", text)
    assert re.sub(r"w0|g0|s0|vpc|-->|subgraph|end|flowchart LR|[\s()\[\]|]", "", rest) == ""


def test_a_chart_says_who_comes_in_by_what(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    (project / "stacks/Pulumi.one.yaml").write_text(
        "config: {'wsgi-ecs:access': {ssh: 203.0.113.0/24, http: [203.0.113.0/24, 0.0.0.0/0]}, "
        "'wsgi-ecs:server': {spot: true, bandwidth_mbps: 7}, 'wsgi-ecs:app': {env: {TOKEN: s3cr3t}}}"
    )
    text = graph(project, "one")
    assert 'w0(["everybody"])' in text
    assert 'w1(["203.0.113.0/24"])' in text
    assert 'w0 -->|"80"| g0' in text
    assert 'w1 -->|"22, 80"| g0' in text
    assert "<br>spot<br>public address, 7 Mbit/s<br>" in text
    assert "s3cr3t" not in text


def test_redis_is_on_the_server_that_has_it(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    stack = project / "stacks/Pulumi.one.yaml"
    stack.write_text("config: {'wsgi-ecs:redis': {}}")
    assert '<br>site: app<br>Redis"' in graph(project, "one")
    stack.write_text("config: {'wsgi-ecs:redis': {own_server: true, password: hunter2-hunter2-hunter2}}")
    text = graph(project, "one")
    assert '"wsgi-ecs-one-redis<br>ecs.e-c1m1.large<br>Redis<br>release: step 1 of 2"' in text
    assert text.count("Redis") == 1
    assert 'g0 -->|"22, 6379"| g1' in text
    assert "hunter2" not in text


def test_what_up_refuses_has_no_chart(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    (project / "stacks/Pulumi.one.yaml").write_text("config: {'wsgi-ecs:server': {os: plan9}}")
    with pytest.raises(UserError, match=r"server\.os: got \w+; allowed"):
        graph(project, "one")


def test_a_managed_database_is_in_the_network_and_no_server(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    stack = project / "stacks/Pulumi.one.yaml"
    settings = "managed: true, password: Hunter2-hunter2, storage_gib: 50"
    stack.write_text(f"config: {{'wsgi-ecs:mysql': {{{settings}}}}}")
    text = graph(project, "one")
    assert 'r0[("RDS wsgi-ecs-one<br>mysql.n2.medium.2c<br>50 GiB<br>standby in a second zone")]' in text
    assert "3306" not in text
    stack.write_text(f"config: {{'wsgi-ecs:mysql': {{{settings}, high_availability: false}}}}")
    assert '<br>mysql.n2.medium.1<br>50 GiB")]' in graph(project, "one")


def test_a_managed_redis_is_in_the_network_and_no_server(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    stack = project / "stacks/Pulumi.one.yaml"
    settings = "managed: true, password: Hunter2-hunter2-01"
    stack.write_text(f"config: {{'wsgi-ecs:redis': {{{settings}}}}}")
    text = graph(project, "one")
    assert 'k0[("Tair wsgi-ecs-one<br>redis.shard.small.ce<br>standby in a second zone")]' in text
    assert "Redis" not in text
    assert "6379" not in text
    assert "Hunter2" not in text
    stack.write_text(f"config: {{'wsgi-ecs:redis': {{{settings}, high_availability: false}}}}")
    assert 'k0[("Tair wsgi-ecs-one<br>redis.shard.small.ce")]' in graph(project, "one")


def test_a_load_balancer_is_between_the_world_and_the_servers(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    (project / "stacks/Pulumi.one.yaml").write_text(
        "config: {'wsgi-ecs:access': {ssh: 203.0.113.0/24}, 'wsgi-ecs:server': {bandwidth_mbps: 7}, "
        "'wsgi-ecs:topology': {entrance: alb, app_servers: 2}}"
    )
    text = graph(project, "one")
    assert 'b0["ALB wsgi-ecs-one<br>public address in each of 2 zones, 7 Mbit/s"]' in text
    (everybody,) = re.findall(r'(w\d)\(\["everybody"\]\)', text)
    assert f'{everybody} -->|"80"| b0' in text
    assert text.count('b0 -->|"80"| g') == 2, "the group of the first server, and that of the others"
    assert "10.76.18.0/23" not in text
    assert re.search(r'g\d -->\|"22"\| g\d', text)
    assert "release: step 1 of 2" in text


def test_a_shared_file_system_is_beside_the_servers_that_mount_it(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    stack = project / "stacks/Pulumi.one.yaml"
    stack.write_text("config: {'wsgi-ecs:data': {shared: true}, 'wsgi-ecs:topology': {app_servers: 2}}")
    text = graph(project, "one")
    assert 'n0[("NAS wsgi-ecs-one<br>data of the sites")]' in text
    servers = dict(re.findall(r'(s\d)\["wsgi-ecs-one-([a-z0-9-]+)<br>', text))
    assert sorted(servers[key] for key in re.findall(r"(s\d) --- n0", text)) == ["app-1", "app-2"]


def test_who_is_told_is_outside_the_network(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    stack = project / "stacks/Pulumi.one.yaml"
    stack.write_text("config: {'wsgi-ecs:alarms': {email: ops@example.com}}")
    text = graph(project, "one")
    assert text.splitlines()[-1] == '  m0(["CloudMonitor<br>ops#64;example.com"]) -.-> s0'


def test_a_scaling_group_is_one_box_behind_the_balancer() -> None:
    """Registered as components/ registers it."""
    mapping = {"vswitchId": "entrance", "allocationId": "eip"}
    found = [
        registered(tokens.VPC, "vpc", {"cidrBlock": "10.76.0.0/20"}),
        registered(tokens.IPV4_CIDR_BLOCK, "block", {"secondaryCidrBlock": "10.76.18.0/23"}),
        registered(tokens.SWITCH, "entrance", {"cidrBlock": "10.76.18.0/24"}),
        registered(tokens.EIP_ADDRESS, "eip", {"bandwidth": "5"}),
        registered(tokens.SECURITY_GROUP, "members", {"securityGroupName": "one-members"}),
        registered(
            tokens.SECURITY_GROUP_RULE,
            "rule",
            {"securityGroupId": "members", "cidrIp": "10.76.18.0/23", "portRange": "80/80"},
        ),
        registered(tokens.LOAD_BALANCER, "alb", {"loadBalancerName": "one", "zoneMappings": [mapping, mapping]}),
        registered(tokens.LISTENER, "listener", {"loadBalancerId": "alb", "listenerPort": 443}),
        registered(tokens.SCALING_GROUP, "group", {"scalingGroupName": "one-x", "minSize": 2, "maxSize": 8}),
        registered(
            tokens.SCALING_CONFIGURATION,
            "configuration",
            {"scalingGroupId": "group", "securityGroupIds": ["members"], "instanceTypes": ["ecs.a.b", "ecs.c.d"]},
        ),
        registered(tokens.NAS_FILE_SYSTEM, "nas", {"description": "one"}),
        registered(tokens.NAS_MOUNT_TARGET, "target", {}),
        *(
            registered(tokens.INSTANCE, name, {**SERVER, "instanceName": name, "userData": text})
            for name, text in (("release", "mount target-address:/store"), ("db", "#cloud-config"))
        ),
    ]
    lines = [line.strip() for line in chart(found, lambda copied: False).splitlines()]
    assert 'a0["one-x<br>2#8211;8 servers<br>ecs.a.b, ecs.c.d"]' in lines
    assert lines.index('subgraph g0["security group one-members"]') < lines.index("end")
    assert {'b0 -->|"80"| g0', "a0 --- n0", "s0 --- n0"} < set(lines)
    assert "s1 --- n0" not in lines, "no user data name the file system"


SERVER = {"instanceType": "ecs.a.b", "securityGroups": ["members"]}


def registered(type_: str, name: str, inputs: dict[str, Any]) -> Registration:
    return Registration(name, type_, name, inputs, frozenset(), (), Options(), frozenset())
