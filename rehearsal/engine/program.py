"""Runs the Pulumi program of a folder, without Pulumi's CLI, against a monitor."""

import asyncio
import logging
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks, set_all_config
from pulumi.runtime.settings import SETTINGS, set_root_resource
from pulumi.runtime.stack import run_in_stack

from rehearsal.engine.errors import UserError
from rehearsal.engine.monitor import RehearsalMonitor
from rehearsal.engine.registration import Registrar
from rehearsal.engine.resource import Provider
from rehearsal.engine.stack import Stack

# Resources that may be under way at once. The SDK's default would be the number of CPUs + 4.
_WORKERS = 32


def run(root: Path, stack: Stack, monitor: mocks.MockMonitor, logger: logging.Logger, preview: bool = False) -> None:
    """Run `__main__.py` of `root` until everything that it registers is done. preview: outputs stay unknown.

    Raises what the program raises: pulumi.RunError is a user's error, others are the program's own. Worker threads
    call the monitor; after a failure, the calls that are under way still finish.
    """
    set_all_config(dict(stack.config), list(stack.secret_keys))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    workers = ThreadPoolExecutor(max_workers=_WORKERS)
    loop.set_default_executor(workers)
    # A failure leaves futures whose exceptions nobody reads; the monitor has reported the failure.
    loop.set_exception_handler(lambda loop, context: None)
    sys.path.insert(0, str(root))

    async def main() -> None:
        mocks.set_mocks(monitor.mocks, stack.project, stack.name, preview=preview, logger=logger, monitor=monitor)
        # Drop the root stack of set_mocks, because its outputs are already registered; run_in_stack makes another one.
        set_root_resource(None)  # type: ignore[arg-type]
        await run_in_stack(_program)

    def _program() -> None:
        runpy.run_path(str(root / "__main__.py"), run_name="__main__")

    try:
        loop.run_until_complete(main())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        # Otherwise the next run would wait for outputs that a failed run has left.
        SETTINGS.outputs.clear()
        workers.shutdown(cancel_futures=True)
        loop.close()
        sys.path.remove(str(root))


def dry(
    root: Path,
    stack: Stack,
    registrar: Registrar,
    provider: Provider[Any],
    logger: logging.Logger,
    preview: bool = True,
) -> None:
    """Run a program without making its resources. preview: as in run. Raises UserError for what the program refuses."""
    refused: list[str] = []
    try:
        run(root, stack, RehearsalMonitor(registrar, provider, refused.append), logger, preview)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{error.filename}: {error.strerror}; allowed: a checkout that you may write to") from None
    except BaseException as error:
        text = refused[0] if refused else user_error(error)
        if text is None:
            raise
        raise UserError(text) from None


def user_error(error: BaseException) -> str | None:
    """The text of an error that the program raised for its user; None for any other error."""
    return str(error) if isinstance(error, pulumi.RunError) else None
