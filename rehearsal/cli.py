"""The commands of `./rehearse`. Each command imports what it needs, because some imports are slow."""

import os
import signal
import sys
from pathlib import Path

import click

from operations.cli import Group, check_watch, commands, stack_name, status_options
from operations.machines import Stack
from rehearsal.engine.errors import RehearsalError, UserError

ROOT = Path.cwd()


_stack = click.option(
    "--stack", "-s", default="local", show_default=True, callback=stack_name, help="A stack of stacks/."
)
_diff = click.option("--diff", is_flag=True, help="Show every input and every line that changes, however many.")


class _Group(Group):
    program = "rehearse"
    errors = (*Group.errors, UserError, RehearsalError)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Deploy a stack to machines on this host, with the very program that deploys it to Alibaba Cloud."""


@main.command()
@_stack
@_diff
def preview(stack: str, diff: bool) -> None:
    """Show what up would do: each resource, the files that change, how long the site is away. Needs no root."""
    from rehearsal.commands.preview import preview as run

    sys.exit(run(ROOT, stack, diff))


@main.command()
@_stack
@click.option("--yes", "-y", is_flag=True, help="Do not ask. Without a terminal, up never asks.")
@_diff
def up(stack: str, yes: bool, diff: bool) -> None:
    """Show what will be done, create or update the stack's machines, and prove that the site answers."""
    from rehearsal.commands.up import up as run

    _on_interrupt(
        f"interrupted; go on with: ./rehearse up --stack {stack}, or remove: ./rehearse destroy --stack {stack}"
    )
    sys.exit(run(ROOT, stack, not yes and sys.stdin.isatty() and sys.stdout.isatty(), diff))


@main.command()
@_stack
@click.option("--yes", "-y", is_flag=True, help="Accepted for compatibility; destroy never asks.")
@click.option("--force", is_flag=True, help="Delete protected resources, too.")
def destroy(stack: str, yes: bool, force: bool) -> None:
    """Remove the stack's machines and everything that belongs to them."""
    from rehearsal.commands.destroy import destroy as run

    _on_interrupt(f"interrupted; go on with: ./rehearse destroy --stack {stack}")
    sys.exit(run(ROOT, stack, force))


@main.command(context_settings={"ignore_unknown_options": True})
@_stack
@click.argument("count", metavar="N", type=int)
def scale(stack: str, count: int) -> None:
    """Let the scaling group of topology.scaling have N machines, from its min to its max."""
    from rehearsal.commands.scale import scale as run

    _on_interrupt(f"interrupted; go on with: ./rehearse scale --stack {stack} {count}")
    sys.exit(run(ROOT, stack, count))


@main.command()
@_stack
# ./stack hands its command line over.
@click.option("--rehearsed", is_flag=True, hidden=True)
@status_options
def status(stack: str, rehearsed: bool, as_json: bool, watch: bool) -> None:
    """Show the stack's resources and machines, how busy they are, and whether the site answers."""
    from rehearsal.commands.status import status as run

    check_watch(watch, as_json)
    sys.exit(run(ROOT, stack, as_json, watch))


@main.command()
@_stack
def graph(stack: str) -> None:
    """Print what the stack builds, as a Mermaid flowchart. Needs neither root nor LXD."""
    from rehearsal.commands.graph import graph as run

    click.echo(run(ROOT, stack))


@main.command()
@_stack
@click.option("--write", is_flag=True, help="Write the settings into the stack's file, which may be a new one.")
@click.argument("folder", required=False)
def doctor(stack: str, write: bool, folder: str | None) -> None:
    """Read the project in FOLDER, say what it needs, and which settings follow. Runs nothing of the project."""
    from rehearsal.commands.doctor import doctor as run

    sys.exit(run(ROOT, stack, folder, write))


@main.group()
def secret() -> None:
    """Encrypted values of a stack's file."""


@secret.command("set")
@_stack
@click.argument("key")
def set_secret(stack: str, key: str) -> None:
    """Encrypt a value from standard input or a hidden prompt, as KEY of the stack: app.env.TOKEN"""
    from rehearsal.commands.secret import set_secret as run

    sys.exit(run(ROOT, stack, key))


@secret.command("list")
@_stack
def list_secrets(stack: str) -> None:
    """Print the keys of the stack's encrypted values, without the values."""
    from rehearsal.commands.secret import list_secrets as run

    sys.exit(run(ROOT, stack))


@main.command()
@click.argument("systems", nargs=-1, metavar="[SYSTEM]...")
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="SYSTEM=REMOTE:NAME",
    help="Let new machines of SYSTEM boot an image of an image server; SYSTEM= for the rehearsal's own image.",
)
def setup(systems: tuple[str, ...], images: tuple[str, ...]) -> None:
    """Install what is missing on this host, start LXD, build the base images of each SYSTEM (debian12)."""
    from rehearsal.commands.setup import setup as run

    run(click.echo, systems, images)


def _rehearsed(stack: str, rehearsed: bool, deployed: bool, outputs: str | None) -> Stack:
    """The rehearsed stack. The options say the same as ./stack's, which hands its command line over."""
    from rehearsal.commands import machines

    if deployed or outputs:
        raise UserError("--deployed, --outputs: a rehearsal is not deployed; allowed: ./stack with the same options")
    return machines.rehearsed(ROOT, stack)


for _command in commands(_rehearsed, says_where=False):
    main.add_command(_command)


def _on_interrupt(text: str) -> None:
    """End at once on Ctrl-C or TERM. The state is written so that a run can be stopped at any moment."""

    def stop(number: int, frame: object) -> None:
        from rehearsal.cloud.processes import stop_all

        stop_all()
        # Show the cursor of a terminal whose last lines were being redrawn.
        ending = "\r\x1b[J\x1b[?25h" if sys.stdout.isatty() else ""
        os.write(sys.stderr.fileno(), f"{ending}rehearse: {text}\n".encode())
        os._exit(128 + number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
