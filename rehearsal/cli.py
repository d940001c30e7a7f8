"""The commands of `./rehearse`. Everything heavy is imported by the command that needs it."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rehearsal.errors import RehearsalError, UserError

ROOT = Path.cwd()


def _name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,50}", value) or value.strip(".") == "":
        shown = value if value.isprintable() else repr(value)
        raise UserError(f"--stack {shown}: allowed: letters, digits and _ . -, 50 at most")
    return value


# What the system says of a disk that has no room, or may not be written to.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

_stack = click.option("--stack", "-s", default="local", show_default=True, callback=_name, help="A stack of stacks/.")
_diff = click.option("--diff", is_flag=True, help="Show every input and every line that changes, however many.")


class _Group(click.Group):
    """Errors that a user can cause, and those of a run, end in their text and their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (UserError, RehearsalError) as error:
            click.echo(f"rehearse: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            click.echo(
                f"rehearse: {error.filename or 'a disk'}: {error.strerror}; make room and run the same again", err=True
            )
            ctx.exit(RehearsalError.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Deploy a stack to machines on this host, with the very program that deploys it to Alibaba Cloud."""


@main.command()
@_stack
@_diff
def preview(stack: str, diff: bool) -> None:
    """Show what up would do: each resource, the files that change, how long the site is away. Needs no root."""
    from rehearsal.run import preview as run

    sys.exit(run(ROOT, stack, diff))


@main.command()
@_stack
@click.option("--yes", "-y", is_flag=True, help="Go on without asking, as it does where there is no terminal.")
@_diff
def up(stack: str, yes: bool, diff: bool) -> None:
    """Create or update the stack's machines, once you have seen what it will do, and prove that the site answers."""
    from rehearsal.run import up as run

    _on_interrupt(
        f"interrupted; go on with: ./rehearse up --stack {stack}, or remove: ./rehearse destroy --stack {stack}"
    )
    sys.exit(run(ROOT, stack, not yes and sys.stdin.isatty() and sys.stdout.isatty(), diff))


@main.command()
@_stack
@click.option("--yes", "-y", is_flag=True, help="Taken for habit's sake: a rehearsal costs nothing and never asks.")
@click.option("--force", is_flag=True, help="Delete protected resources, too.")
def destroy(stack: str, yes: bool, force: bool) -> None:
    """Remove the stack's machines and all that belongs to them."""
    from rehearsal.run import destroy as run

    _on_interrupt(f"interrupted; go on with: ./rehearse destroy --stack {stack}")
    sys.exit(run(ROOT, stack, force))


@main.command()
@_stack
def status(stack: str) -> None:
    """Show the stack's resources and machines, and whether the site answers."""
    from rehearsal.inspect import status as run

    sys.exit(run(ROOT, stack))


@main.command()
@_stack
def logs(stack: str) -> None:
    """Show the last lines of the machines' logs."""
    from rehearsal.inspect import logs as run

    sys.exit(run(ROOT, stack))


@main.command(context_settings={"ignore_unknown_options": True})
@_stack
@click.option("--machine", help="Of several machines the one of this name, such as app-1.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(stack: str, machine: str | None, command: tuple[str, ...]) -> None:
    """Log in to the stack's machine, or run a command there: ./rehearse ssh -- uptime"""
    from rehearsal.inspect import ssh as run

    sys.exit(run(ROOT, stack, command, machine))


@main.command()
@_stack
@click.argument("file")
def backup(stack: str, file: str) -> None:
    """Write a dump of the stack's database into a new file, such as app.sql.gz."""
    from rehearsal.backup import backup as run

    sys.exit(run(ROOT, stack, file))


@main.command()
@_stack
@click.argument("file")
def restore(stack: str, file: str) -> None:
    """Read a dump back: its tables take the place of those in the database."""
    from rehearsal.backup import restore as run

    sys.exit(run(ROOT, stack, file))


@main.command()
@_stack
def graph(stack: str) -> None:
    """Print what the stack builds, as a Mermaid flowchart; neither root nor LXD is needed."""
    from rehearsal.graph import graph as run

    click.echo(run(ROOT, stack))


@main.command()
def setup() -> None:
    """Install what is missing on this host, start LXD, build the base image."""
    from rehearsal import host, image

    say: Callable[[str], None] = click.echo
    host.prepare(say)
    image.ensure(say)


def _on_interrupt(text: str) -> None:
    """End at once on Ctrl-C or TERM: the state is written so that any moment will do."""

    def stop(number: int, frame: object) -> None:
        from rehearsal.processes import stop_all

        stop_all()
        # A terminal whose last lines were being redrawn gets its cursor back.
        ending = "\r\x1b[J\x1b[?25h" if sys.stdout.isatty() else ""
        os.write(sys.stderr.fileno(), f"{ending}rehearse: {text}\n".encode())
        os._exit(128 + number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
