"""The policy pack as Pulumi's engine uses it: in its own environment, asked over gRPC about what the program registers.

It needs no LXD, but the package index.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf import empty_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from tests.builders.policies import SECURE, WRONG
from tests.builders.program import Recorder, Run
from tests.builders.stack import PROJECT


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[analyzer_pb2_grpc.AnalyzerStub]:
    """The pack's own server, as `pulumi up --policy-pack policy` starts it."""
    venv = tmp_path_factory.mktemp("policy") / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    requirements = PROJECT / "policy/requirements.txt"
    python = f"{venv}/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--require-hashes", "-r", requirements], check=True)
    server = subprocess.Popen([python, "-u", PROJECT / "policy"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        with grpc.insecure_channel(f"127.0.0.1:{int(server.stdout.readline())}") as channel:
            yield analyzer_pb2_grpc.AnalyzerStub(channel)
    finally:
        server.terminate()
        server.wait()


def refused(pack: analyzer_pb2_grpc.AnalyzerStub, program: Recorder) -> set[tuple[str, str]]:
    """Policy and resource of each violation, which must end the run."""
    found = set()
    for request in program.requests.values():
        answer = pack.Analyze(
            analyzer_pb2.AnalyzeRequest(
                type=request.type,
                properties=request.object,
                urn=f"urn:pulumi:prod::wsgi-ecs::{request.type}::{request.name}",
                name=request.name,
                options=analyzer_pb2.AnalyzerResourceOptions(protect=request.protect),
            )
        )
        for line in answer.diagnostics:
            assert line.enforcementLevel == analyzer_pb2.MANDATORY
            found.add((line.policyName, request.name))
    return found


def test_the_pack_names_its_policies(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    info = pack.GetAnalyzerInfo(empty_pb2.Empty())
    assert info.name == "wsgi-ecs"
    assert {policy.name for policy in info.policies} == {*WRONG, "tagged"}
    assert (Path(PROJECT) / "policy/PulumiPolicy.yaml").read_text().startswith("description: ")


def test_the_pack_allows_a_secure_stack(pack: analyzer_pb2_grpc.AnalyzerStub, run_program: Run) -> None:
    assert refused(pack, run_program(SECURE, stack="prod")) == set()


@pytest.mark.parametrize("policy", WRONG)
def test_the_pack_refuses_a_stack(policy: str, pack: analyzer_pb2_grpc.AnalyzerStub, run_program: Run) -> None:
    settings, names = WRONG[policy]
    program = run_program({**SECURE, **settings}, stack="prod")
    assert refused(pack, program) == {(policy, f"wsgi-ecs-prod{name}") for name in names}
