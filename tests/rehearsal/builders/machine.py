"""What a test asks of a machine."""

import socket

from tests.rehearsal.builders.stack import Stack


def listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def boot_id(stack: Stack) -> str:
    return stack.shell("cat /proc/sys/kernel/random/boot_id; stat -c %i /etc/machine-id")
