"""What a preview foretold, what a run performed, and on which machines."""

import re

from tests.rehearsal.builders.stack import Done, Stack, lxd


def foretold(done: Done) -> set[tuple[str, str]]:
    """Operation and resource of each line of a preview."""
    assert done.code == 0, done.text
    return set(re.findall(r"^  +([+~-]+) \S+:\S+ +(\S+)", done.out.split("Update\n")[0], re.MULTILINE))


def performed(done: Done) -> set[tuple[str, str]]:
    """The same of a run, in which the old one of a replacement has a line of its own."""
    assert done.code == 0, done.text
    lines = [line for line in done.performed.splitlines() if not line.endswith("s  replaced")]
    return set(re.findall(r"^ ?([+~-]+) \S+:\S+ +(\S+)", "\n".join(lines), re.MULTILINE))


def names(stack: Stack, *ends: str) -> set[str]:
    return {f"wsgi-ecs-{stack.name}-{end}" for end in ends}


def machines(stack: Stack) -> list[str]:
    return list(lxd(f"/1.0/instances?project=wsgi-ecs-{stack.name}"))
