"""An LXD that serves other things, too: a stack comes and goes, and all of theirs stays as it was."""

import contextlib
import io
import json
import secrets
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud import daemon, group_bridge
from tests.rehearsal.builders.stack import CLIENT, Stack, in_whole_runs, lxd, new_stack, traces

pytestmark = in_whole_runs


def lxc(*words: str) -> str:
    return subprocess.run([CLIENT, *words], check=True, capture_output=True, text=True).stdout


def image(folder: Path) -> Path:
    """Of somebody else, for a machine that never starts."""
    path = folder / "image.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        text = json.dumps({"architecture": "x86_64", "creation_date": 1, "properties": {"of": folder.name}}).encode()
        member = tarfile.TarInfo("metadata.yaml")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
        rootfs = tarfile.TarInfo("rootfs")
        rootfs.type, rootfs.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(rootfs)
    return path


@pytest.fixture(scope="module")
def stack(project_copy: Path) -> Iterator[Stack]:
    made = new_stack(project_copy, "shared")
    yield made
    made.run("destroy")


@pytest.fixture(scope="module")
def others(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Objects that no rehearsal made, some under names that the stack would give; API paths of all of them."""
    token = f"x{secrets.token_hex(4)}"
    folder = tmp_path_factory.mktemp(token)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    alike = [group_bridge.bridge_name(stack.name, index) for index in range(3)]
    project = f"wsgi-ecs-{token}"
    plain = ("ipv4.address=none", "ipv6.address=none")
    with contextlib.ExitStack() as undo:

        def make(*words: str, undone: tuple[str, ...]) -> None:
            lxc(*words)
            undo.callback(lxc, *undone)

        if not lxd("/1.0")["config"]:
            make(
                "config", "set", "core.https_address", f"127.0.0.1:{port}",
                undone=("config", "unset", "core.https_address"),
            )  # fmt: skip
        make("project", "create", project, "-c", "features.images=false", undone=("project", "delete", project))
        pool = ("storage", "create", token, "dir", f"source={folder}")
        make(*pool, undone=("storage", "delete", token))
        for network in (token, *alike[:2]):
            make("network", "create", network, *plain, undone=("network", "delete", network))
        make("network", "acl", "create", alike[2], undone=("network", "acl", "delete", alike[2]))
        device = ("profile", "device", "add", "default", token, "none")
        make(*device, undone=("profile", "device", "remove", "default", token))
        make("image", "import", str(image(folder)), "--alias", token, undone=("image", "delete", token))
        make("init", token, token, "--storage", token, undone=("delete", token))
        fingerprint = lxd(f"/1.0/images/aliases/{token}")["target"]
        yield [
            f"/1.0/projects/{project}",
            f"/1.0/profiles/default?project={project}",
            f"/1.0/storage-pools/{token}",
            *(f"/1.0/networks/{name}" for name in (token, *alike[:2])),
            f"/1.0/network-acls/{alike[2]}",
            "/1.0/profiles/default",
            f"/1.0/images/{fingerprint}",
            f"/1.0/instances/{token}",
        ]


def dump(paths: list[str]) -> dict[str, Any]:
    """What LXD says of objects, and its own configuration."""
    return {"/1.0": lxd("/1.0")["config"], **{path: lxd(path) for path in paths}}


def test_what_is_others_stays_byte_for_byte_while_a_stack_comes_and_goes(stack: Stack, others: list[str]) -> None:
    before = dump(others)
    assert "200 OK" in stack.up().out
    assert dump(others) == before
    names = {path.rsplit("/", 1)[-1] for path in traces(stack) if path.startswith("/1.0/networks/")}
    assert {group_bridge.bridge_name(stack.name, index) for index in (3, 4)} <= names
    assert stack.run("destroy").code == 0
    assert traces(stack) == set()
    assert dump(others) == before


@pytest.mark.parametrize("command", ["preview", "up", "status", "destroy"])
def test_somebody_elses_project_of_a_stacks_name_is_let_be(stack: Stack, others: list[str], command: str) -> None:
    before = dump(others)
    project = others[0].rsplit("/", 1)[-1]
    done = Stack(stack.folder, project.removeprefix("wsgi-ecs-")).run(command)
    assert done.code == 2
    assert done.err == (
        f"rehearse: {daemon.name()}'s project {project} is not of a rehearsal, so it is left alone; "
        f"rename it ({CLIENT} project rename) or choose another stack name\n"
    )
    assert dump(others) == before
