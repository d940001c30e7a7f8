"""Each machine proves its host key once, and a machine with another one is refused in one line.

Two machines, one behind the other. The tests run in this order.
"""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from contract.resources import FIRST_CONTACT
from tests.rehearsal.builders.stack import Stack, entering, lxd

KEY = "/etc/ssh/ssh_host_ed25519_key"
FIRST = "-host-key"
MACHINES = ("front", "app-1")


@pytest.fixture(scope="module", autouse=True)
def up(stack: Stack) -> None:
    stack.settings = {"topology": {"app_servers": 1}}
    done = stack.up()
    assert done.performed.count(FIRST) == len(MACHINES)
    outputs = json.loads(lxd(f"/1.0/projects/wsgi-ecs-{stack.name}")["config"]["user.outputs"])
    stack.known = {machine["name"]: machine for machine in outputs["machines"]}


def inside(stack: Stack, machine: str, script: str) -> str:
    """Run a script on a machine, not through SSH."""
    command = [*entering(f"wsgi-ecs-{stack.name}", stack.known[machine]["id"]), "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout


@pytest.fixture
def changed(stack: Stack, request: pytest.FixtureRequest) -> Iterator[str]:
    """A machine that has another host key for the time of a test."""
    machine: str = request.param
    inside(stack, machine, f"cd /etc/ssh && mkdir kept && mv {KEY} {KEY}.pub kept/")
    inside(stack, machine, f"ssh-keygen -q -t ed25519 -N '' -f {KEY}")
    inside(stack, machine, "systemctl restart ssh")
    yield machine
    inside(stack, machine, "cd /etc/ssh && mv kept/* . && rmdir kept && systemctl restart ssh")


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_knows_the_key_that_the_machine_has_made_and_that_its_user_data_do_not_have(
    stack: Stack, machine: str
) -> None:
    assert inside(stack, machine, f"cut -d ' ' -f 1,2 {KEY}.pub").strip() == stack.known[machine]["host_key"]
    text = inside(stack, machine, "cat /var/lib/cloud/instance/user-data.txt")
    (secret,) = re.findall(f"^{FIRST_CONTACT}(.{{43}})$", text, re.MULTILINE)
    state = json.dumps(lxd(f"/1.0/projects/wsgi-ecs-{stack.name}"))
    assert secret not in state
    assert "PRIVATE KEY" not in text
    assert inside(stack, machine, "stat -c %a /var/lib/cloud/instance/user-data.txt").strip() == "600"


def test_another_up_does_not_begin_anew(stack: Stack) -> None:
    stack.settings["release"] = {"generation": 2}
    done = stack.up()
    assert "-site-app-apply" in done.performed
    assert FIRST not in done.performed


@pytest.mark.parametrize("changed", MACHINES, indirect=True)
def test_a_machine_with_another_host_key_is_refused_at_once_in_one_line(stack: Stack, changed: str) -> None:
    before = stack.settings["release"]["generation"]
    stack.settings["release"] = {"generation": before + 1}
    done = stack.run("up", seconds=120)
    assert done.code == 1, done.text
    refusal = (
        f"machine {stack.known[changed]['id']} shows another host key than at its first contact, so nothing was sent "
        "to it; put its key back, or destroy the stack and run up again"
    )
    assert refusal in done.text.replace("\n", " ")


def test_with_their_keys_the_release_goes_on(stack: Stack) -> None:
    done = stack.up()
    assert "-site-app-apply" in done.performed
