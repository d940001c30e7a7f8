"""What a test asks of a machine."""

import json
import socket
import subprocess
import sys

from tests.rehearsal.builders.stack import Stack


def listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def boot_id(stack: Stack) -> str:
    return stack.shell("cat /proc/sys/kernel/random/boot_id; stat -c %i /etc/machine-id")


def ssh_faults(address: str) -> set[str]:
    """What ssh-audit finds wrong with the SSH server at an address."""
    command = [sys.executable, "-m", "ssh_audit", "--json", "--skip-rate-test", address]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout)
    algorithms = [each for kind in ("kex", "key", "enc", "mac") for each in found[kind]]
    assert len(algorithms) >= 8, "it has read the server's lists"
    faults = {f"{each['algorithm']}: {note}" for each in algorithms for note in each["notes"].get("fail", [])}
    return faults | {each["name"] for each in found["cves"]}


def ways_in(address: str) -> str:
    """What an SSH server says to somebody without a key: the ways by which it lets people in."""
    options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes"]
    said = subprocess.run(["ssh", *options, f"root@{address}"], capture_output=True, text=True, timeout=60).stderr
    return said.strip().splitlines()[-1].rpartition("Permission denied ")[2]
