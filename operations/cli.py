"""The day-to-day commands, which `./rehearse` and `./stack` share. Each imports what it needs when it runs."""

import errno
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from operations.errors import OperationError, UserError
from operations.machines import Stack

ROOT = Path.cwd()
# Errors of a disk that is full or cannot be written.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# The user's stack: its name, --rehearsed, --deployed, and the file of --outputs.
Find = Callable[[str, bool, bool, str | None], Stack]
# The decorator that makes a command of a function of the stack, by the command's name.
Command = Callable[..., Callable[[Callable[..., int]], click.Command]]


class Group(click.Group):
    """Errors that a user can cause, and errors of a run, are printed in one line and end with their exit code."""

    program = "stack"
    errors: tuple[type[Exception], ...] = (UserError, OperationError)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except self.errors as error:
            click.echo(f"{self.program}: {error}", err=True)
            ctx.exit(getattr(error, "exit_code", 1))
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else self.program
            text = " ".join(error.format_message().split()).rstrip(".")
            click.echo(f"{self.program}: {text}; {path} --help says what is allowed", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            where = error.filename or "a disk"
            text = f"{self.program}: {where}: {error.strerror}; make room and run the same again"
            click.echo(text, err=True)
            ctx.exit(OperationError.exit_code)


def stack_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Check the name of a stack, which is part of paths."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,50}", value) or value.strip(".") == "":
        shown = value if value.isprintable() else repr(value)
        raise UserError(f"--stack {shown}: allowed: letters, digits and _ . -, 50 at most")
    return value


def _command(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    if not value and not ctx.resilient_parsing:
        raise UserError("no command; allowed: a program and its arguments, such as python manage.py createsuperuser")
    return value


def _identifier(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "":
        # A shell makes it of a variable that is not set.
        raise UserError("the ID is empty; allowed: an id that releases lists, or no ID for the release before")
    return value


def _lines(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    if value is not None and not 1 <= value <= 1_000_000:
        raise UserError(f"--lines {value}: allowed: a number from 1 to 1000000")
    return value


def status_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `status`."""
    function = click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")(function)
    return click.option("--json", "as_json", is_flag=True, help="Print it as JSON, with numbers.")(function)


def check_watch(watch: bool, as_json: bool) -> None:
    """Raise UserError for --watch with --json, or without a terminal."""
    if watch and (as_json or not sys.stdout.isatty()):
        reason = "is for a terminal" if not as_json else "with --json"
        raise UserError(f"--watch {reason}; allowed: one of --watch and --json, and --json without a terminal")


_machine = click.option("--machine", help="With several machines, the name of one, such as app-1.")
_of_site = click.option("--site", help="With several sites, the name of one.")
_UNKNOWN = {"ignore_unknown_options": True}


def commands(find: Find, says_where: bool) -> list[click.Command]:
    """The commands. says_where: whether a stack may be deployed."""

    def command(name: str, **settings: Any) -> Callable[[Callable[..., int]], click.Command]:
        def made(function: Callable[..., int]) -> click.Command:
            def callback(stack: str, rehearsed: bool, deployed: bool, outputs: str | None, **rest: Any) -> None:
                sys.exit(function(find(stack, rehearsed, deployed, outputs), **rest))

            callback.__doc__ = function.__doc__
            own = getattr(function, "__click_params__", [])
            callback.__click_params__ = [*own, *_where(says_where)]  # type: ignore[attr-defined]
            return click.command(name, context_settings=settings)(callback)

        return made

    @command("ssh", **_UNKNOWN)
    @_machine
    @click.argument("command", nargs=-1, type=click.UNPROCESSED)
    def ssh(stack: Stack, machine: str | None, command: tuple[str, ...]) -> int:
        """Log in to the stack's machine, or run a command there: ssh -- uptime"""
        from operations.ssh import ssh as run

        return run(stack, command, machine)

    @command("run", **_UNKNOWN, allow_interspersed_args=False)
    @_of_site
    @_machine
    @click.argument("command", nargs=-1, type=click.UNPROCESSED, callback=_command)
    def run_command(stack: Stack, site: str | None, machine: str | None, command: tuple[str, ...]) -> int:
        """Run a command of the application, as its user and with app.env: run -- python manage.py shell"""
        from operations.run import run

        return run(stack, site, machine, command)

    @command("maintenance")
    @_of_site
    @click.argument("word", metavar="on|off|status", type=click.Choice(["on", "off", "status"]))
    def maintenance(stack: Stack, site: str | None, word: str) -> int:
        """Close a site with 503 and a page until `off`; releases, the health path and chosen addresses pass."""
        from operations.maintenance import maintenance as run

        return run(stack, word, site)

    @command("status")
    @status_options
    def status(stack: Stack, as_json: bool, watch: bool) -> int:
        """Show what serves on the machines, and how busy they are."""
        from operations import status as run

        check_watch(watch, as_json)
        return run.watch(lambda: run.collect(stack, often=True)) if watch else run.status(stack, as_json)

    always = [ssh, run_command, _logs(command), *_kept(command), maintenance, *_copies(command)]
    # The rehearsal's own status says more of its machines.
    return [*always, *([status] if says_where else [])]


def _logs(command: Command) -> click.Command:
    @command("logs")
    @click.option("--follow", "-f", is_flag=True, help="Go on with what is added, until Ctrl-C.")
    @click.option("--since", metavar="TIME", help="Entries since 10m, 2h, 3d ago, or 2026-01-31T08:30.")
    @click.option("--lines", "-n", type=int, callback=_lines, help="Last lines of each log: 40, or all since a time.")
    @_machine
    @click.option("--site", help="Only the logs of this site.")
    @click.option("--process", help="Only the logs of this process or scheduled command, such as worker.")
    @click.option("--grep", metavar="REGEX", help="Only entries in which this is found.")
    @click.option("--status", metavar="5xx|404", help="Only requests with this status.")
    def logs(stack: Stack, machine: str | None, **options: Any) -> int:
        """Show the logs of all machines as one, by time."""
        from operations.log_choice import choice_of
        from operations.logs import logs as run

        return run(stack, choice_of(**options), machine)

    return logs


def _kept(command: Command) -> list[click.Command]:
    @command("releases")
    @_of_site
    def releases(stack: Stack, site: str | None) -> int:
        """List the releases that a site's servers keep: since when, by whom, from which commit, how large."""
        from operations.rollback import releases as run

        return run(stack, site)

    @command("rollback")
    @_of_site
    @click.option("--force", is_flag=True, help="Roll back even if a later release is irreversible.")
    @click.argument("release", required=False, metavar="[ID]", callback=_identifier)
    def rollback(stack: Stack, site: str | None, force: bool, release: str | None) -> int:
        """Put a kept release live again, by its id or the id's beginning; without ID the release before."""
        from operations.rollback import rollback as run

        return run(stack, site, release, force)

    return [releases, rollback]


def _check_copy(site: str | None, machine: str | None, nightly: str | None) -> None:
    if nightly and site:
        raise UserError("--nightly with --site: a site's data have no nightly dumps; allowed: one of them")
    if machine and not site:
        raise UserError("--machine without --site: a stack has one database; allowed: --site with it")


def _copies(command: Command) -> list[click.Command]:
    of_site = click.option("--site", help="The data folder of this site, in place of the database.")
    of_night = click.option("--nightly", metavar="NAME", help="A nightly dump that status lists, or latest.")

    @command("backup")
    @of_site
    @of_night
    @_machine
    @click.argument("file")
    def backup(stack: Stack, site: str | None, nightly: str | None, machine: str | None, file: str) -> int:
        """Write a dump of the stack's database, or a site's data, into a new file such as app.sql.gz or app.tar.gz."""
        from operations import backup as of_database
        from operations import site_data

        _check_copy(site, machine, nightly)
        return site_data.backup(stack, site, machine, file) if site else of_database.backup(stack, file, nightly)

    @command("restore")
    @of_site
    @of_night
    @_machine
    @click.argument("file", required=False)
    def restore(stack: Stack, site: str | None, nightly: str | None, machine: str | None, file: str | None) -> int:
        """Read a dump back, whose tables replace those of the same name; or replace a site's data."""
        from operations import restore as of_database
        from operations import site_data

        _check_copy(site, machine, nightly)
        if nightly and not file:
            return of_database.restore_nightly(stack, nightly)
        if nightly or not file:
            raise UserError("restore reads one dump; allowed: FILE, or --nightly NAME without a file")
        return site_data.restore(stack, site, machine, file) if site else of_database.restore(stack, file)

    return [backup, restore]


def _where(says_where: bool) -> list[click.Parameter]:
    """The options by which a stack is found."""
    hidden = not says_where
    return [
        click.Option(
            ["--stack", "-s"], default="local", show_default=True, callback=stack_name, help="A stack of stacks/."
        ),
        click.Option(["--rehearsed"], is_flag=True, hidden=hidden, help="The stack that is rehearsed on this host."),
        click.Option(["--deployed"], is_flag=True, hidden=hidden, help="The stack that pulumi up has deployed."),
        click.Option(
            ["--outputs"], hidden=hidden, metavar="FILE", help="What pulumi stack output --json printed for it."
        ),
    ]
