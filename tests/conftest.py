"""What the tests share: a public key, and the program run under Pulumi's mocks."""

import asyncio
import contextlib
import json
import runpy
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pulumi.runtime import mocks, rpc
from pulumi.runtime.settings import set_root_resource
from pulumi.runtime.stack import run_in_stack

PROJECT = Path(__file__).parent.parent
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBc3ifE1ZTmCWcvqxHn0zdLPbtkKRqUpgAKQXNBlxmfK"
OFFICE = "203.0.113.0/24"


def ssh_key() -> tuple[str, str]:
    """A new key → the text of its private file, and its public half."""
    key, form = Ed25519PrivateKey.generate(), serialization.PrivateFormat.OpenSSH
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


@contextlib.contextmanager
def accepting(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Hands each connection to 127.0.0.1 over, one after the other. Yields the port."""

    def loop() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=loop)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


CLOUD = {"access": {"ssh": [OFFICE], "public_key": PUBLIC_KEY}}


class Cloud(mocks.Mocks):
    """Answers as the provider does, with made-up ids. printed: what each command prints."""

    printed = ""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        known = {
            ":EipAddress": {"ipAddress": "198.51.100.7"},
            ":Instance": {"primaryIpAddress": "10.0.0.1"},
            ":Command": {"stdout": self.printed},
        }
        extra = next((outputs for end, outputs in known.items() if args.typ.endswith(end)), {})
        return f"{args.name}-id", {**args.inputs, **extra}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        if args.token.endswith(":getZones"):
            return {"ids": ["cn-hangzhou-i", "cn-hangzhou-j"], "zones": []}, []
        if args.token.endswith(":getImages"):
            return {"ids": [f"{args.args['nameRegex'].strip('^')}-image"], "images": []}, []
        raise AssertionError(f"the program calls {args.token}")


class Recorder(mocks.MockMonitor):
    """Keeps every registration as the engine receives it, with secrets marked.

    messages: all that was sent, in its order.
    """

    def __init__(self, answers: mocks.Mocks) -> None:
        super().__init__(answers)
        self.requests: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.messages: list[Any] = []

    def Invoke(self, request: Any) -> Any:
        self.messages.append(request)
        return super().Invoke(request)  # type: ignore[no-untyped-call]

    def RegisterResource(self, request: Any) -> Any:
        self.messages.append(request)
        self.requests[f"{request.type}::{request.name}"] = request
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:
        self.messages.append(request)
        if "pulumi:pulumi:Stack" in request.urn:
            self.outputs = rpc.deserialize_properties(request.outputs)
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]

    def inputs(self, type_: str, name: str = "") -> dict[str, Any]:
        """Inputs of the one resource of a type (its end is enough) whose name ends in `name`."""
        return dict(rpc.deserialize_properties(self.request(type_, name).object, keep_unknowns=False))

    def request(self, type_: str, name: str = "") -> Any:
        found = [r for r in self.requests.values() if r.type.endswith(type_) and r.name.endswith(name)]
        assert len(found) == 1, [r.name for r in found]
        return found[0]


@pytest.fixture
def run_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Recorder]:
    """Run `__main__.py` with a stack's settings under mocks; returns what it registered."""

    def run(config: dict[str, Any] | None = None, *, stack: str = "dev", rehearsed: bool = False) -> Recorder:
        settings = CLOUD if config is None else config
        # The program writes its archive beside itself; a test's goes to its own folder.
        for name in ("app", "stacks"):
            if not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(PROJECT / name)
        monkeypatch.chdir(tmp_path)
        values = {f"wsgi-ecs:{key}": json.dumps(value) for key, value in settings.items()}
        if rehearsed:
            values["rehearsal:active"] = "true"
        recorder = Recorder(Cloud())

        async def program() -> None:
            mocks.set_mocks(recorder.mocks, project="wsgi-ecs", stack=stack, preview=False, monitor=recorder)
            pulumi.runtime.set_all_config(values)
            # set_mocks finishes its stack at once; the program's exports need one that is open.
            set_root_resource(None)  # type: ignore[arg-type]
            await run_in_stack(main)

        def main() -> None:
            runpy.run_path(str(PROJECT / "__main__.py"))

        asyncio.run(program())
        return recorder

    return run
