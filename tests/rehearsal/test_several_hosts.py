"""Several machines in one stack: who reaches whom, SSH through the front, a disk that outlives its machine.

A program of its own, programs/several_hosts, with three machines. The tests run in this order.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders.stack import PROJECT
from tests.rehearsal.builders.machine import listens
from tests.rehearsal.builders.stack import Stack, entering, in_whole_runs, lxd, traces

pytestmark = in_whole_runs

PORTS = (22, 80, 5432, 8000)
SECRET = "correct-horse-battery-staple"
# Answers each caller with the machine's name and the caller's address, as it is seen there.
LISTEN = """
import socket, threading
def serve(port):
    listener = socket.create_server(("", port))
    while True:
        caller, address = listener.accept()
        caller.sendall(f"{socket.gethostname()} {address[0]}".encode())
        caller.close()
for port in (80, 5432, 8000):
    threading.Thread(target=serve, args=(port,)).start()
"""
# Prints address, port and what came from there, for each address and port that answers.
ASK = """
import socket, sys
for target in sys.argv[1:]:
    address, port = target.split(":")
    try:
        with socket.create_connection((address, int(port)), timeout=3) as connection:
            print(address, port, connection.recv(100).decode().strip())
    except OSError:
        pass
"""
# Goes on writing to the data disk for as long as it lives.
WRITE = (
    "import time\nwith open('/srv/data/busy', 'a') as file:\n    while True: file.write('.' * 9000); time.sleep(0.01)"
)


@dataclass
class Hosts(Stack):
    def write(self) -> None:
        path = self.folder / "stacks" / f"Pulumi.{self.name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"config": self.settings}))

    def exec(self, machine: str, *command: str) -> str:
        """Run a command on a machine, not through SSH."""
        line = [*entering(f"wsgi-ecs-{self.name}", self.known["machines"][machine]), *command]
        return subprocess.run(line, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout

    def outputs(self) -> dict[str, Any]:
        return dict(json.loads(lxd(f"/1.0/projects/wsgi-ecs-{self.name}")["config"]["user.outputs"]))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("several") / "hosts"
    shutil.copytree(Path(__file__).parent / "programs/several_hosts", folder)
    made = Hosts(folder, f"test-{secrets.token_hex(3)}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(PROJECT))
        yield made
        made.run("destroy", "--force")


def ask(hosts: Hosts, caller: str) -> dict[tuple[str, int], str]:
    """What a machine hears from each port of the others: (machine, port) → answer."""
    names = {address: name for name, address in hosts.known["private"].items() if name != caller}
    lines = hosts.exec(caller, "python3", "-c", ASK, *(f"{address}:{port}" for address in names for port in PORTS))
    heard = (line.split(" ", 2) for line in lines.splitlines())
    return {(names[address], int(port)): text for address, port, text in heard}


def ssh_host_key(address: str) -> str:
    """The machine's public host key, in base64."""
    done = subprocess.run(["ssh-keyscan", "-t", "ed25519", address], capture_output=True, text=True, check=True)
    return done.stdout.split()[2]


def test_destroy_finds_all_that_a_killed_up_has_left(hosts: Hosts) -> None:
    hosts.write()
    log = hosts.folder / "killed.log"
    with log.open("w") as out, subprocess.Popen(hosts.command("up"), cwd=hosts.folder, stdout=out, stderr=out) as run:
        while {"volumes", "instances"} - {kind for path in traces(hosts) for kind in path.split("/")}:
            assert run.poll() is None, log.read_text()
            time.sleep(0.1)
        os.kill(run.pid, signal.SIGKILL)
    assert hosts.run("destroy", "--force").code == 0
    assert traces(hosts) == set()


def test_machines_of_one_stack_boot_side_by_side(hosts: Hosts) -> None:
    started = time.monotonic()
    done = hosts.up()
    took = time.monotonic() - started
    boots = [float(seconds) for seconds in re.findall(r"alicloud:Instance +\S+ ([0-9.]+) s", done.out)]
    assert len(boots) == 3
    assert sum(boots) > took
    hosts.known.update(hosts.outputs())
    for name in hosts.known["machines"]:
        hosts.exec(name, "systemd-run", "-q", "--unit=listen", "python3", "-c", LISTEN)


def test_a_private_address_is_known_and_is_the_machines_own(hosts: Hosts) -> None:
    for name, address in hosts.known["private"].items():
        assert hosts.exec(name, "hostname", "-I").split() == [address]
        assert hosts.known["primary"][name] == address


def test_only_what_the_rules_allow_is_reached_and_nobody_hides_who_calls(hosts: Hosts) -> None:
    rules = {"front": {("app", 22), ("app", 8000), ("db", 22)}, "app": {("db", 5432), ("front", 80)}}
    for caller in hosts.known["machines"]:
        heard = ask(hosts, caller)
        assert set(heard) == rules.get(caller, {("front", 80)}), caller
        for (machine, port), text in heard.items():
            if port != 22:
                assert text.split() == [hosts.known["machines"][machine], hosts.known["private"][caller]]


def test_each_public_address_leads_to_its_own_machine(hosts: Hosts) -> None:
    assert len(set(hosts.known["public"].values())) == 2
    for name, address in hosts.known["public"].items():
        assert ssh_host_key(address) in hosts.exec(name, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
    assert [port for port in PORTS if listens(hosts.known["public"]["front"], port)] == [22, 80]
    assert [port for port in PORTS if listens(hosts.known["public"]["db"], port)] == [22]
    assert [port for port in PORTS if listens(hosts.known["private"]["app"], port)] == [], "not even from this host"


def test_commands_and_copies_go_through_the_front(hosts: Hosts) -> None:
    copied, stdin, connection = hosts.known["seen"].splitlines()
    assert (copied, stdin) == ("copied", SECRET)
    assert connection.split()[0::2] == [hosts.known["private"]["front"], hosts.known["private"]["app"]]


def test_a_machine_without_a_public_address_wants_a_proxy(hosts: Hosts) -> None:
    hosts.settings = {"straight": True}
    done = hosts.run("up")
    assert done.code == 1
    assert f"connection.host {hosts.known['private']['app']} is no public address" in done.text


def test_the_disk_and_its_data_outlive_the_machine(hosts: Hosts) -> None:
    volumes = {path for path in traces(hosts) if "/volumes/" in path}
    assert len(volumes) == 1
    first = hosts.known["machines"]["db"]
    hosts.exec("db", "systemd-run", "-q", "--unit=busy", "python3", "-c", WRITE)
    hosts.settings = {"generation": 2, "open": False}
    done = hosts.up()
    hosts.known.update(hosts.outputs())
    assert "/dev/vdb is not rehearsed" in done.out
    assert hosts.known["machines"]["db"] != first
    *machines, before, after = hosts.known["written"].splitlines()
    assert machines == [first, hosts.known["machines"]["db"]]
    assert int(before) == int(after) > 0, "the old machine's program has not written on"
    assert {path for path in traces(hosts) if "/volumes/" in path} == volumes


def test_a_rule_that_is_gone_is_gone_at_once(hosts: Hosts) -> None:
    assert set(ask(hosts, "front")) & {("app", port) for port in PORTS} == {("app", 22)}


def test_destroy_leaves_a_protected_disk_alone_until_it_is_forced(hosts: Hosts) -> None:
    before = traces(hosts)
    done = hosts.run("destroy")
    assert done.code == 1
    assert "protected, nothing is deleted: disk" in done.text
    assert traces(hosts) == before
    assert hosts.run("destroy", "--force").code == 0
    assert traces(hosts) == set()
