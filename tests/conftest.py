"""What the tests share: a public key, and the program run under Pulumi's mocks."""

import asyncio
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime
import pytest
from pulumi.runtime import mocks
from pulumi.runtime.settings import SETTINGS, set_root_resource
from pulumi.runtime.stack import run_in_stack

from components import way_in
from reference.samples import CLOUD, PUBLIC_KEY
from settings import ssh_agent
from tests.builders.program import Cloud, Recorder
from tests.builders.stack import PROJECT


@pytest.fixture
def run_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Recorder]:
    """Run `__main__.py` with a stack's settings under mocks; returns what it registered."""

    # No address of a test's is scanned.
    monkeypatch.setattr(way_in, "host_keys", lambda address: [])

    def run(config: dict[str, Any] | None = None, *, stack: str = "dev", rehearsed: bool = False) -> Recorder:
        settings: dict[str, Any] = CLOUD if config is None else config
        # The program writes its archive beside itself; a test's goes to its own folder.
        for name in ("app", "stacks"):
            if not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(PROJECT / name)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
        public_key: str = settings.get("access", {}).get("public_key") or PUBLIC_KEY
        monkeypatch.setattr(ssh_agent, "_keys", lambda path: [public_key.split()[1]])
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

        try:
            asyncio.run(program())
        finally:
            # Otherwise the next run would wait for outputs that a failed run has left.
            SETTINGS.outputs.clear()
        return recorder

    return run
