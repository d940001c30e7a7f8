"""The commands of `./rehearse`. Each command imports what it needs, because some imports are slow."""

import errno
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import click

from rehearsal.engine.errors import RehearsalError, UserError

ROOT = Path.cwd()


def _name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,50}", value) or value.strip(".") == "":
        shown = value if value.isprintable() else repr(value)
        raise UserError(f"--stack {shown}: allowed: letters, digits and _ . -, 50 at most")
    return value


# Errors of a disk that is full or cannot be written.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

_stack = click.option("--stack", "-s", default="local", show_default=True, callback=_name, help="A stack of stacks/.")
_diff = click.option("--diff", is_flag=True, help="Show every input and every line that changes, however many.")

_site = click.option("--site", help="The data folder of this site, in place of the database.")
_machine = click.option("--machine", help="With several machines, the name of the site's one, such as app-1.")


class _Group(click.Group):
    """Errors that a user can cause, and errors of a run, are printed as their text and end with their exit code."""

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


@main.command()
@_stack
def status(stack: str) -> None:
    """Show the stack's resources and machines, and whether the site answers."""
    from rehearsal.commands.status import status as run

    sys.exit(run(ROOT, stack))


@main.command()
@_stack
@click.option("--process", help="Only the logs of this process or scheduled command, such as worker.")
def logs(stack: str, process: str | None) -> None:
    """Show the last lines of the machines' logs."""
    from rehearsal.commands.logs import logs as run

    sys.exit(run(stack, process))


@main.command(context_settings={"ignore_unknown_options": True})
@_stack
@click.option("--machine", help="With several machines, the name of one, such as app-1.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(stack: str, machine: str | None, command: tuple[str, ...]) -> None:
    """Log in to the stack's machine, or run a command there: ./rehearse ssh -- uptime"""
    from rehearsal.commands.ssh import ssh as run

    sys.exit(run(ROOT, stack, command, machine))


@main.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_stack
@click.option("--site", help="With several sites, the name of one.")
@_machine
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run_command(stack: str, site: str | None, machine: str | None, command: tuple[str, ...]) -> None:
    """Run a command of the application, as its user and with app.env: ./rehearse run -- python manage.py shell"""
    from rehearsal.commands.run import run

    sys.exit(run(ROOT, stack, site, machine, command))


@main.command()
@_stack
@_site
@_machine
@click.argument("file")
def backup(stack: str, site: str | None, machine: str | None, file: str) -> None:
    """Write a dump of the stack's database, or a site's data, into a new file such as app.sql.gz or app.tar.gz."""
    if site:
        from rehearsal.commands.site_data import backup as run_site

        sys.exit(run_site(ROOT, stack, site, machine, file))
    from rehearsal.commands.backup import backup as run

    sys.exit(run(ROOT, stack, file))


@main.command()
@_stack
@_site
@_machine
@click.argument("file")
def restore(stack: str, site: str | None, machine: str | None, file: str) -> None:
    """Read a dump back, whose tables replace those of the same name; or replace a site's data."""
    if site:
        from rehearsal.commands.site_data import restore as run_site

        sys.exit(run_site(ROOT, stack, site, machine, file))
    from rehearsal.commands.restore import restore as run

    sys.exit(run(ROOT, stack, file))


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
def setup() -> None:
    """Install what is missing on this host, start LXD, build the base image."""
    from rehearsal.commands.setup import setup as run

    run(click.echo)


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
