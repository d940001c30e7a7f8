"""The policy pack's policies, asked about every resource that the program registers."""

from collections.abc import Mapping

import pytest
from pulumi.runtime import rpc

from policies import POLICIES, Resource
from tests.builders.policies import SECURE, WRONG
from tests.builders.program import Recorder, Run


def refused(program: Recorder, stack: str = "prod", without: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """Policy → names of the resources that it refuses. without: end of a type → an input that is left out."""
    found: dict[str, list[str]] = {}
    for request in program.requests.values():
        inputs = dict(rpc.deserialize_properties(request.object, keep_unknowns=False))
        for end, name in (without or {}).items():
            if request.type.endswith(end):
                inputs.pop(name, None)
        for policy in POLICIES:
            lines = list(policy.check(Resource(request.type, stack, inputs, request.protect)))
            assert all(line and "\n" not in line for line in lines)
            if lines:
                found.setdefault(policy.name, []).append(request.name)
    return {name: sorted(names) for name, names in found.items()}


def test_a_secure_stack_is_allowed(run_program: Run) -> None:
    assert refused(run_program(SECURE, stack="prod")) == {}


@pytest.mark.parametrize("policy", WRONG)
def test_a_stack_is_refused_by_the_policy_that_it_breaks_and_by_no_other(policy: str, run_program: Run) -> None:
    settings, names = WRONG[policy]
    assert refused(run_program({**SECURE, **settings}, stack="prod")) == {policy: [f"wsgi-ecs-prod{n}" for n in names]}


def test_a_resource_without_tags_is_refused(run_program: Run) -> None:
    program = run_program(SECURE, stack="prod")
    assert refused(program, without={":EipAddress": "tags"}) == {"tagged": ["wsgi-ecs-prod-address"]}
    # Each resource that takes tags is asked.
    tagged = [request for request in program.requests.values() if "tags" in request.object]
    types = {request.type.rpartition(":")[2]: "tags" for request in tagged}
    found = refused(program, without={f":{name}": "tags" for name in types})
    assert found == {"tagged": sorted(request.name for request in tagged)}


def test_only_production_must_be_protected(run_program: Run) -> None:
    settings = {**SECURE, "server": {"encrypted": True}, "mysql": {"password": "x" * 12}}
    assert refused(run_program(settings, stack="staging"), stack="staging") == {}


def test_each_policy_has_a_stack_that_it_refuses() -> None:
    assert {policy.name for policy in POLICIES} == {*WRONG, "tagged"}


@pytest.mark.parametrize("protect", [True, False])
def test_a_managed_database_of_production_is_protected_and_tagged(run_program: Run, protect: bool) -> None:
    mysql = {"managed": True, "password": "Hunter2-hunter2", "protect": protect}
    program = run_program({**SECURE, "mysql": mysql}, stack="prod")
    assert refused(program) == ({} if protect else {"protected-prod": ["wsgi-ecs-prod-mysql"]})
    found = refused(program, without={"rds/instance:Instance": "tags"})
    assert found["tagged"] == ["wsgi-ecs-prod-mysql"]


@pytest.mark.parametrize("protect", [True, False])
def test_a_managed_redis_of_production_is_protected_and_tagged(run_program: Run, protect: bool) -> None:
    redis = {"managed": True, "password": "Hunter2-hunter2-01", "protect": protect}
    program = run_program({**SECURE, "redis": redis}, stack="prod")
    assert refused(program) == ({} if protect else {"protected-prod": ["wsgi-ecs-prod-redis"]})
    found = refused(program, without={"kvstore/instance:Instance": "tags"})
    assert found["tagged"] == ["wsgi-ecs-prod-redis"]


@pytest.mark.parametrize(
    ("inputs", "count"),
    [
        ({"portRange": "1/65535", "cidrIp": "0.0.0.0/0"}, 1),
        ({"ipProtocol": "all", "cidrIp": "0.0.0.0/0"}, 1),
        ({"portRange": "22/22", "ipv6CidrIp": "::/0"}, 1),
        ({"portRange": "22/22", "cidrIp": "10.0.0.0/8"}, 0),
        ({"portRange": "23/65535", "cidrIp": "0.0.0.0/0"}, 0),
        ({"portRange": "22/22", "cidrIp": "0.0.0.0/0", "policy": "drop"}, 0),
        ({"portRange": "22/22", "cidrIp": "0.0.0.0/0", "type": "egress"}, 0),
        ({"portRange": "22/22", "cidrIp": "0.0.0.0/0", "ipProtocol": "udp"}, 0),
    ],
)
def test_ssh_is_open_by_a_range_of_ports_too(inputs: dict[str, str], count: int) -> None:
    policy = next(policy for policy in POLICIES if policy.name == "no-ssh-from-the-world")
    rule = {"type": "ingress", "ipProtocol": "tcp", "policy": "accept", **inputs}
    resource = Resource("alicloud:ecs/securityGroupRule:SecurityGroupRule", "dev", rule, False)
    assert len(list(policy.check(resource))) == count
