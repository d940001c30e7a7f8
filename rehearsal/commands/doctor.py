"""`doctor`: reads a project, says what it found, and writes the settings that follow into the stack's file."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import yaml

from inspection.report import Advice, Report, inspect
from operations.local_files import FROM
from rehearsal.commands import overlay, stack_edit, stack_file
from rehearsal.engine.errors import UserError
from rehearsal.engine.stack import Stack
from schema.base import printable

_WIDTH = 110
_SYSTEM = Advice("server.os", "debian13", "a current system; the default is centos7, whose Python is 3.6")
_STEP = "secret set "
_RED_HAT = ("centos7", "alinux3")


def doctor(root: Path, name: str, folder: str | None, write: bool) -> int:
    """Print what a project needs, and write it if asked. Returns the exit code. Raises UserError.

    folder: from where the user is; None for the one that the stack names.
    """
    project, file = stack_file.locate(root, name)
    shown = file.relative_to(root)
    content = stack_file.content_of(root, project["name"], file) if file.exists() else {}
    sites = _section(content, project["name"], "sites") or {}
    source = _source(root, content, project["name"], folder)
    site = _site_of(sites, root, source, shown)
    system = str((_section(content, project["name"], "server") or {}).get("os", _SYSTEM.value))
    report = inspect(source, is_red_hat=system in _RED_HAT)
    _refuse_nothing(report, source)
    advice = [Advice("app.source", _relative(source, root), "the project's folder"), *report.advice, _SYSTEM]
    new, present = _divided(advice, content, project["name"], site)
    lacking = [item for advised in present for item in _lacking(advised, content, project["name"], site)]
    _print_findings(report, source)
    taken: list[Advice] = []
    refused: list[tuple[Advice, str]] = []
    for item in new:
        why = overlay.refusal(item.key, item.value, system, [(each.key, each.value) for each in taken])
        refused += [(item, why)] if why else []
        taken += [] if why else [item]
    new = taken
    _print_settings(new, present, f"{shown} {'gets' if write else 'would get'}")
    for item in lacking:
        click.echo(f"already set, and lacks: {item.key}: {', '.join(map(str, item.value))}  # {item.why}")
    for item, why in refused:
        click.echo(f"not written, since the settings refuse it: {item.key}: {item.value}: {why}")
    if write and new:
        changes = [_change(item, content, project["name"], site) for item in new]
        edited = stack_edit.edited(file.read_bytes() if file.exists() else b"", changes, shown)
        stack_edit.replace(file, edited)
    _print_left(report, name, bool(new) and not write, folder)
    return 0


def hints(root: Path, stack: Stack) -> list[str]:
    """Lines about settings that a stack's applications certainly need and that are not set."""
    found = []
    system = overlay.operating_system(stack)
    for key, source, is_set in overlay.applications(stack):
        folder = root / source
        if folder.is_dir():
            report = inspect(folder)
            found += [
                f"{key}{item.key}: {item.hint}; ./rehearse doctor shows what to set"
                for item in report.advice
                if item.hint and not is_set(item.key) and not overlay.refusal(item.key, item.value, system)
            ]
            secrets = [(step.removeprefix(_STEP), why) for step, why in report.left if step.startswith(f"{_STEP}app.")]
            found += [
                f"{key}{name}: {why}; ./rehearse secret set {key}{name} --stack {stack.name}"
                for name, why in secrets
                if not is_set(name)
            ]
    return found


def _section(content: Mapping[str, Any], project: str, name: str) -> Any:
    """A section of a stack's file; None without it."""
    below: Any = content
    for key in stack_edit.place(content, project, (name,)):
        below = (below or {}).get(key)
    return below


def _source(root: Path, content: Mapping[str, Any], project: str, folder: str | None) -> Path:
    """The project's folder. Raises UserError."""
    if folder is None:
        app = _section(content, project, "app")
        found = root / str(app.get("source") or "app" if isinstance(app, dict) else "app")
    else:
        found = Path(os.environ.get(FROM, ".")) / Path(folder).expanduser()
    if not found.is_dir():
        raise UserError(f"{printable(folder or found)}: no folder; allowed: the folder of your project")
    return found.resolve()


def _relative(source: Path, root: Path) -> str:
    found = os.path.relpath(source, root)
    return found if found.startswith("..") else f"./{found}"


def _site_of(sites: Any, root: Path, source: Path, shown: Path) -> str | None:
    """Name of the site whose folder it is; None for a stack without sites. Raises UserError."""
    if not isinstance(sites, dict) or not sites:
        return None
    for name, own in sites.items():
        app = own.get("app") if isinstance(own, dict) else None
        if isinstance(app, dict) and (root / str(app.get("source", ""))).resolve() == source.resolve():
            return str(name)
    first = printable(next(iter(sites)))
    raise UserError(
        f"{shown}: sites: none has this folder; allowed: a site with app.source, such as sites.{first}.app.source: "
        f"{_relative(source, root)}"
    )


def _refuse_nothing(report: Report, source: Path) -> None:
    if report.entry:
        return
    inside = [item.name for item in sorted(source.iterdir()) if item.is_dir() and (item / "manage.py").exists()]
    inside += [item.name for item in sorted(source.iterdir()) if item.is_dir() and (item / "requirements.txt").exists()]
    if report.almost:
        raise UserError(f"{source}: no application found: {report.almost}")
    where = f"; it may be in {inside[0]}: ./rehearse doctor {source / inside[0]}" if inside else ""
    raise UserError(
        f"{source}: no application found{where}; allowed: a folder with a Flask, Django or other WSGI or ASGI "
        "application, made in a module such as app = Flask(__name__)"
    )


def _divided(
    advice: Sequence[Advice], content: Mapping[str, Any], project: str, site: str | None
) -> tuple[list[Advice], list[Advice]]:
    """(advice to write, advice whose setting has a value already)."""
    new: list[Advice] = []
    present: list[Advice] = []
    for item in advice:
        values = _values(item, content, project, site)
        (present if values else new).append(item)
    return new, present


def _values(item: Advice, content: Mapping[str, Any], project: str, site: str | None) -> list[Any]:
    """The values of a setting in the stack's file: its own, and the site's."""
    section, *rest = item.key.split(".")
    values = [_section(content, project, section)]
    if site is not None and not overlay.is_of_machine(item.key):
        values.append(((_section(content, project, "sites") or {}).get(site) or {}).get(section))
    for key in rest:
        values = [value.get(key) if isinstance(value, dict) else None for value in values]
    return [value for value in values if value is not None]


def _lacking(item: Advice, content: Mapping[str, Any], project: str, site: str | None) -> list[Advice]:
    """What a list in the stack's file does not have of a list that is advised; nothing for any other setting."""
    *_, value = _values(item, content, project, site)
    if not isinstance(item.value, list) or not isinstance(value, list):
        return []
    missing = [part for part in item.value if part not in value]
    return [replace(item, value=missing)] if missing else []


def _change(item: Advice, content: Mapping[str, Any], project: str, site: str | None) -> stack_edit.Change:
    setting = tuple(item.key.split("."))
    if site is not None and not overlay.is_of_machine(item.key):
        setting = ("sites", site, *setting)
    comment = tuple(textwrap.wrap(item.why, _WIDTH, break_on_hyphens=False))
    return stack_edit.Change(stack_edit.place(content, project, setting), item.value, comment)


def _print_findings(report: Report, source: Path) -> None:
    click.echo(source)
    for what, which, where in report.findings:
        click.echo(f"  {what}: {which}{f' ({where})' if where else ''}")


def _print_settings(new: Sequence[Advice], present: Sequence[Advice], title: str) -> None:
    if new:
        click.echo(title)
        for item in new:
            value = yaml.safe_dump(item.value, default_flow_style=True, width=1000, sort_keys=False)
            click.echo(f"  {item.key}: {value.removesuffix(chr(10)).removesuffix(f'{chr(10)}...')}  # {item.why}")
    if present:
        click.echo(f"already set: {', '.join(item.key for item in present)}")


def _print_left(report: Report, name: str, is_unwritten: bool, folder: str | None) -> None:
    click.echo("next")
    if is_unwritten:
        click.echo(f"  ./rehearse doctor {folder + ' ' if folder else ''}--stack {name} --write")
    for step, reason in report.left:
        command = f"./rehearse {step} --stack {name}" if step.startswith(_STEP) else step
        click.echo(f"  {command}  # {reason}")
    click.echo(f"  ./rehearse up --stack {name}")
