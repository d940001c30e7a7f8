"""A Procfile in the application's folder: its lines become processes, in the form that Honcho and Heroku read.

https://honcho.readthedocs.io/en/latest/using_procfiles.html
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from kinds.app_servers import APP_SERVERS
from schema.base import SettingsError, printable
from schema.command import Command, sequence
from schema.processes import Process, ProcessName
from settings.site import SiteSettings
from settings.stack import StackSettings

NAME = "Procfile"
# The site itself, and what runs before it.
_WEB, _RELEASE = "web", "release"
_COMMAND: TypeAdapter[tuple[str, ...]] = TypeAdapter(Command)
_PROCESS_NAME: TypeAdapter[str] = TypeAdapter(ProcessName)
# Options of gunicorn, uWSGI and Granian → the settings of their names. "": the program decides it.
_SHORT = {"w": "workers", "k": "worker_class", "t": "timeout", "b": "bind", "p": "processes", "c": "config"}
_OURS = (
    *("bind", "host", "port", "socket", "http", "http_socket", "http_port", "chdir", "pythonpath", "interface"),
    *("log_file", "access_logfile", "error_logfile", "log_level", "master", "module", "callable", "wsgi_file"),
    *(
        "config",
        "log_config",
        "access_logformat",
        "pid",
        "pidfile",
        "name",
        "env",
        "user",
        "uid",
        "gid",
        "umask",
        "ini",
    ),
    *("certfile", "keyfile", "worker_tmp_dir", "forwarded_allow_ips"),
)
# Ends of file names, which look like a module's.
_FILES = (".py", ".ini", ".conf", ".toml", ".yaml", ".yml", ".json", ".sock", ".log", ".pid")


def resolve(stack: StackSettings, folder: Path, file: str) -> StackSettings:
    """The settings with the processes of the sites' Procfiles, and notes of what was taken and what was not.

    folder: the project's. file: the stack's, for a message. Raises SettingsError for a line that is wrong, and for a
    process that has no command anywhere.
    """
    sites, notes = [], list(stack.notes)
    for site in stack.sites:
        path = folder / site.app.source / NAME
        lines = _read(path, f"{file}: {stack.key_of(site)}app.procfile") if site.app.procfile else {}
        of = f"site {site.site.name}: " if stack.is_named else ""
        site, more = _with(site, lines)
        for name, process in site.processes.items():
            if process.command is None:
                raise SettingsError(
                    f"{file}: {stack.key_of(site)}processes.{name}.command: missing, and {site.app.source} has no "
                    f"{NAME} with a line {name}:; allowed: a command such as python worker.py"
                )
        sites.append(site)
        notes += [f"{of}{note}" for note in more]
    return replace(stack, sites=tuple(sites), notes=tuple(notes))


def _read(path: Path, key: str) -> dict[str, str]:
    """Name → command of each line; of `web` as it is. Raises SettingsError."""
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{key}: {NAME} is no text in UTF-8; allowed: lines such as worker: rq worker") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{key}: {NAME} line {number}"
        match = re.fullmatch(r"([A-Za-z0-9_-]+):\s*(\S.*?)\s*", line)
        if not match:
            raise SettingsError(f"{where} is not `name: command`; allowed: lines such as worker: rq worker")
        name, command = match.groups()
        if name in found:
            raise SettingsError(f"{where}: {name} stands there twice; allowed: a line for each name")
        if name != _WEB:
            try:
                _PROCESS_NAME.validate_python(name)
                for part in sequence(command) if name == _RELEASE else [command]:
                    _COMMAND.validate_python(part)
            except ValidationError as error:
                reason = error.errors(include_url=False)[0]["ctx"]["error"]
                raise SettingsError(f"{where} ({name}): {reason}") from None
        found[name] = command
    return found


def _with(site: SiteSettings, lines: dict[str, str]) -> tuple[SiteSettings, list[str]]:
    """A site with the lines of its Procfile, and what to say of them. What the settings have wins."""
    processes, taken = dict(site.processes), []
    for name, command in lines.items():
        if name in (_WEB, _RELEASE):
            continue
        own = processes.get(name, Process())
        if own.command is None:
            processes[name] = own.model_copy(update={"command": _COMMAND.validate_python(command)})
            taken.append(f"{name} x {own.count}")
    notes = [f"{NAME}: {', '.join(taken)} of it run as processes"] if taken else []
    site = site.model_copy(update={"processes": processes})
    if _RELEASE in lines:
        site, note = _with_release(site, lines[_RELEASE])
        notes.append(note)
    if _WEB in lines:
        notes.append(_web(site, lines[_WEB]))
    return site, notes


def _with_release(site: SiteSettings, line: str) -> tuple[SiteSettings, str]:
    """The `release:` line, of which && makes several commands, runs before the switch, unless release.before is set."""
    if "before" in site.release.model_fields_set:
        return site, f"{NAME}: release is not run, because release.before is set"
    commands = tuple(_COMMAND.validate_python(part) for part in sequence(line))
    release = site.release.model_copy(update={"before": commands})
    return site.model_copy(update={"release": release}), f"{NAME}: release runs before each release"


def _web(site: SiteSettings, line: str) -> str:
    """What of the `web:` line the site does not do, with the settings that would."""
    wanted = [f"{key}: {value}" for key, value in _settings(line) if _value(site, key) != value]
    rest = f"; to have what it says, set {', '.join(wanted)}" if wanted else ""
    return f"{NAME}: web is the site itself, so {printable(line)} is not run{rest}"


def _value(site: SiteSettings, key: str) -> str:
    section, _, name = key.partition(".")
    value = getattr(getattr(site, section), name, None)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _settings(line: str) -> Iterator[tuple[str, str]]:
    """Setting → value of what a command of gunicorn, uWSGI or Granian says, as far as there is a setting."""
    try:
        words = [word for word in shlex.split(line) if not re.match(r"[A-Za-z_]\w*=", word)]
    except ValueError:
        return
    names = [word.rpartition("/")[2] for word in words]
    server = next((name for name in names if name in APP_SERVERS), None)
    if server is None:
        return
    yield "serving.app_server", server
    fields = APP_SERVERS[server].model_fields
    rest = iter(words[names.index(server) + 1 :])
    for word in rest:
        match = re.fullmatch(r"--?([A-Za-z][\w-]*)(?:=(.*))?", word)
        if not match:
            if re.fullmatch(r"(?=.*[.:])[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?", word) and not word.endswith(_FILES):
                module, _, name = word.partition(":")
                yield "app.module", module
                yield "app.callable", name or "application"
            continue
        option, value = match.groups()
        option = _SHORT.get(option, option).replace("-", "_")
        kind = fields[option].annotation if option in fields else None
        if value is None and kind is bool:
            value = "true"
        elif value is None and (kind is not None or option in _OURS):
            value = next(rest, "")
        # A variable has its value only where the line runs.
        if option in fields and option not in _OURS and "$" not in (value or ""):
            yield f"{server}.{option}", value or ""
