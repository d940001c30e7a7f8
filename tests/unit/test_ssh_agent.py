"""What the program asks an SSH agent before it builds servers that nobody could log in to."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pulumi
import pytest

from reference.samples import CLOUD
from settings import ssh_agent
from settings.server import Access
from tests.builders.program import Run
from tests.builders.stack import ssh_key

PRIVATE, PUBLIC = ssh_key()
pytestmark = pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="there is no ssh-agent")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A running agent's socket."""
    path = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        yield path
        process.send_signal(signal.SIGTERM)


def add(private: str) -> None:
    subprocess.run(["ssh-add", "-q", "-"], input=private.encode(), check=True)


def test_an_agent_with_the_key_is_no_doubt(agent: Path) -> None:
    add(ssh_key()[0])
    add(PRIVATE)
    assert ssh_agent.look(Access(public_key=f"{PUBLIC} me")) == (None, None)


def test_an_agent_with_another_key_is_a_warning(agent: Path) -> None:
    add(ssh_key()[0])
    lacking, doubt = ssh_agent.look(Access(public_key=PUBLIC))
    assert lacking is None
    assert str(doubt).startswith("access.public_key: the SSH agent does not have its private key")


def test_an_agent_without_keys_and_none_at_all_are_refused(agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(public_key=PUBLIC)
    assert "the SSH agent has no key; allowed: " in str(ssh_agent.look(access)[0])
    monkeypatch.setenv("SSH_AUTH_SOCK", f"{agent}-gone")
    assert f"no SSH agent answers at {agent}-gone; allowed: " in str(ssh_agent.look(access)[0])
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert "no SSH agent runs (SSH_AUTH_SOCK is not set); allowed: " in str(ssh_agent.look(access)[0])
    assert ssh_agent.look(Access(private_key_file="key")) == (None, None)


def test_nothing_is_registered_when_nobody_could_log_in(run_program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_agent, "look", lambda access: ("access.private_key_file: not set", None))
    with pytest.raises(pulumi.RunError, match=r"^stacks/Pulumi\.dev\.yaml: access\.private_key_file: not set$"):
        run_program(CLOUD)
    assert run_program(CLOUD, rehearsed=True).outputs["release"]
