"""Hosts that are not ready for machines: firewalls that drop what these need, disks without room."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rehearsal.cloud import daemon, group_bridge
from rehearsal.cloud.image import CACHE
from tests.rehearsal.builders.stack import Done, Stack, new_stack, traces

# An nftables.conf as many servers have it, and one rule for the bridge of one stack.
CLOSED = """
table inet filter {
    chain input { type filter hook input priority 0; policy drop; ct state established accept; iif lo accept; }
    chain forward { type filter hook forward priority 0; policy drop; }
}
"""
DROP = "table inet %s { chain mine { type filter hook input priority 0; policy accept; iifname %s %s drop; }; }"
# The command, with less patience.
IMPATIENT = "from rehearsal.cloud import machine; machine._BOOT = 20; from rehearsal.cli import main; main()"


@pytest.fixture(scope="module")
def stack(project_copy: Path) -> Iterator[Stack]:
    made = new_stack(project_copy, "hosts")
    yield made
    made.run("destroy")


def run(stack: Stack, before: Sequence[str] = (), program: Sequence[str] = ("-m", "rehearsal")) -> Done:
    """`up`, started by another program or with another one in its place."""
    stack.write()
    command = [*before, sys.executable, *program, "up", "--stack", stack.name]
    done = subprocess.run(
        command, cwd=stack.folder, env=stack.environment("up"), capture_output=True, text=True, timeout=420
    )
    print(done.stdout, done.stderr)
    return Done(done.returncode, done.stdout, done.stderr)


def nft(text: str, *before: str) -> None:
    subprocess.run([*before, "nft", "-f", "-"], input=text, text=True, check=True)


def full(folder: Path, options: str) -> list[str]:
    """Starts a program that alone sees a small file system in the place of a folder."""
    return ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o {options} tmpfs {folder}; exec "$@"', "sh"]


@pytest.fixture
def namespace(stack: Stack) -> Iterator[str]:
    subprocess.run(["ip", "netns", "add", stack.name], check=True)
    yield stack.name
    subprocess.run(["ip", "netns", "delete", stack.name], check=True)


@pytest.fixture
def table(stack: Stack) -> Iterator[str]:
    """The name of a table that goes away again."""
    name = f"test_{stack.name.replace('-', '_')}"
    yield name
    subprocess.run(["nft", "delete", "table", "inet", name], capture_output=True)


def test_a_host_whose_firewall_is_closed_is_refused_until_its_commands_were_run(stack: Stack, namespace: str) -> None:
    inside = ("ip", "netns", "exec", namespace)
    nft(CLOSED, *inside)
    done = run(stack, inside)
    assert done.code == 2
    said, _, commands = done.err.strip().partition(" and run the same again: ")
    assert said == (
        "rehearse: this host's firewall drops what machines send or get: "
        "input (nft, table inet filter), forward (nft, table inet filter); let the rehearsals' bridges pass"
    )
    assert "\n" not in commands
    assert traces(stack) == set()
    for command in commands.split("; "):
        subprocess.run([*inside, "sh", "-c", command], check=True)
    check = f"from rehearsal.cloud import firewall; firewall.check('{group_bridge.bridge_name(stack.name, 1)}')"
    subprocess.run([*inside, sys.executable, "-c", check], cwd=stack.folder, check=True)


def test_a_rule_against_the_stacks_bridge_is_seen_on_this_host(stack: Stack, table: str) -> None:
    nft(DROP % (table, group_bridge.bridge_name(stack.name, 1), "udp dport 67"))
    done = run(stack)
    assert done.code == 2
    assert f"mine (nft, table inet {table})" in done.err
    assert traces(stack) == set()


def test_a_machine_whose_packets_are_dropped_points_to_the_firewall(stack: Stack, table: str) -> None:
    """By a rule that is not understood beforehand: a machine without an address has this one."""
    nft(DROP % (table, group_bridge.bridge_name(stack.name, 1), "ip saddr 0.0.0.0"))
    done = run(stack, program=("-c", IMPATIENT))
    assert done.code == 1
    assert (
        f"has got no address from the bridge {group_bridge.bridge_name(stack.name, 1)} after 20 s; a firewall"
        in done.text
    )
    assert "look at iptables-save and nft list ruleset" in done.text


def test_a_disk_that_fills_up_during_the_run_is_told_and_destroy_goes_on(stack: Stack) -> None:
    """The key pair still has its place; the machine is there when its host key has none any more."""
    folder = stack.folder / ".rehearsal"
    folder.mkdir(exist_ok=True)
    done = run(stack, full(folder, "size=1m,nr_inodes=4"))
    assert done.code == 1
    path = folder / stack.name / "known_hosts.new"
    assert done.err == f"rehearse: {path}: No space left on device; make room and run the same again\n"
    assert any("/instances/" in path for path in traces(stack))
    assert stack.run("destroy").code == 0
    assert traces(stack) == set()


@pytest.mark.parametrize("folder", [CACHE.parent, daemon.current().folder / "storage-pools"])
def test_a_disk_without_room_is_refused_with_both_figures(stack: Stack, folder: Path) -> None:
    used = daemon.current()
    # On a host with both, the folder that is hidden would have the other one used.
    done = run(stack, ["env", f"{used.variable}={used.folder}", *full(folder, "size=200m")])
    needed = "0.25" if folder == CACHE.parent else "1.00"
    assert done.code == 2
    assert done.err.strip().endswith(
        f"{folder}: 0.20 GiB free, and this takes {needed} GiB there; make room and run the same again"
    )
    assert traces(stack) == set()
