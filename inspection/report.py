"""What was found in a project, the settings that follow from it, and what is left for its owner."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspection import django_settings, health, needs, requirements, writes
from inspection.almost import almost
from inspection.entry import Entry, entries
from inspection.project import Project

_AT_NIGHT = "0 3 * * *"


@dataclass(frozen=True)
class Advice:
    """A setting. key: with dots. why: one line. hint: what a preview says while the key is not set, "" for nothing."""

    key: str
    value: Any
    why: str
    hint: str = ""


@dataclass(frozen=True)
class Report:
    """findings: (what, which, where). left: (a command or a step, the reason). entry: None without an application.

    almost: what an application without entry lacks, "" if nothing is close to one.
    """

    entry: Entry | None
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    almost: str = ""


def inspect(folder: Path, is_red_hat: bool = False) -> Report:
    """Read a project's files. The folder exists. is_red_hat: whether the server's OS has packages of that family."""
    project = Project(folder)
    entry = next(iter(entries(project)), None)
    if entry is None:
        return Report(None, almost=almost(project))
    required = requirements.names(project)
    advice = [
        *_served(project, entry, required),
        *_kept(project, required),
        *_run(project, entry, required, is_red_hat),
    ]
    return Report(entry, list(_findings(project, entry)), advice, list(_left(project, entry, required)))


def _findings(project: Project, entry: Entry) -> Iterator[tuple[str, str, str]]:
    yield f"{entry.framework}, {entry.interface.upper()}", entry.name, entry.place
    file = requirements.file(project)
    yield "requirements", file or "none", ""
    if asked := requirements.python(project):
        yield "Python", asked, ""
    page = health.page(project, entry.framework)
    yield "page for the health check", page.url if page else "none found", page.place if page else ""
    for item in writes.written(project):
        yield "writes", item.path, f"{item.what}, {item.place}"
    for name, command in needs.procfile(project).items():
        yield "Procfile", f"{name}: {command}", ""
    for name in needs.environment(project):
        yield "needs the variable", name, ""


def _served(project: Project, entry: Entry, required: set[str]) -> Iterator[Advice]:
    """Yield what the web server needs."""
    made = f"{entry.framework} is made in {entry.place}"
    yield Advice("app.module", entry.module, made)
    yield Advice("app.callable", f"{entry.callable}()" if entry.is_factory else entry.callable, made)
    file = requirements.file(project)
    if file and file != "requirements.txt":
        yield Advice("app.requirements", file, "the file that says what to install")
    page = health.page(project, entry.framework)
    if page:
        yield Advice(
            "app.health", page.url, f"a page that anybody may see, {page.place}; a release has to answer it with 2xx"
        )
    if entry.interface == "asgi":
        why = f"{entry.framework} speaks ASGI, which only Granian serves here"
        yield Advice("serving.app_server", "granian", why)
        yield Advice("granian.interface", "asgi", why)
    if project.import_folder and file == "requirements.txt" and not _installs_itself(project):
        yield Advice("app.pythonpath", [project.import_folder], "the modules are in this folder")
    if paths := needs.websockets(project, required):
        yield from _threads(entry, required)
        yield Advice("nginx.websocket", paths, "the code has websockets there")


def _threads(entry: Entry, required: set[str]) -> Iterator[Advice]:
    """Yield what a WSGI application needs for its websockets, each of which occupies a thread."""
    if entry.interface == "wsgi":
        yield Advice("serving.app_server", "gunicorn", "websockets of a WSGI application need its threads")
        yield Advice("gunicorn.worker_class", "gthread", "a websocket occupies a thread")
        if "flask-socketio" in required:
            yield Advice("gunicorn.workers", 1, "Flask-SocketIO keeps its clients in the memory of one process")
        yield Advice("gunicorn.threads", 100, "so many websockets and requests at once, in each worker")


def _installs_itself(project: Project) -> bool:
    lines = [line.strip().rstrip("/") for line in project.text("requirements.txt").splitlines()]
    return any(line.removeprefix("-e ").partition("[")[0] == "." for line in lines)


def _kept(project: Project, required: set[str]) -> Iterator[Advice]:
    """Yield what must outlive a release."""
    with_mysql = bool(needs.MYSQL & required) and _reads_mysql(project)
    found = [item for item in writes.written(project) if not (with_mysql and "SQLite" in item.what)]
    if found:
        reasons = "; ".join(f"{item.path}: {item.what}, {item.place}" for item in found)
        paths = ", ".join(item.path for item in found)
        hint = f"the application writes {paths} ({found[0].place}), which the next release does not have"
        yield Advice("app.persistent", [item.path for item in found], reasons, hint)
    if served := writes.media(project):
        folder = next(iter(served.values()))
        if any(item.path == folder for item in found):
            yield Advice("data.served", served, "Django does not serve uploads itself without DEBUG; nginx does")


def _reads_mysql(project: Project) -> bool:
    return any("MYSQL_HOST" in project.text(path) for path in project.python)


def _run(project: Project, entry: Entry, required: set[str], is_red_hat: bool) -> Iterator[Advice]:
    """Yield what runs beside the web server, and the services that it needs."""
    lines = needs.procfile(project)
    commands = needs.release_commands(project, entry, required)
    line = lines.get("release", "")
    if line:
        # Heroku collects static files itself, so a Procfile does not say it.
        missing = [
            command for command in commands if "collectstatic" in command.command and "collectstatic" not in line
        ]
        commands = [*needs.sequence(line), *missing] if missing else []
    if commands:
        why = "; ".join(dict.fromkeys(command.why for command in commands))
        hint = f"{commands[-1].why}: no release runs `{commands[-1].command}`"
        yield Advice("release.before", [command.command for command in commands], f"before each release: {why}", hint)
    if not set(lines) - {"web", "release"}:
        for name, command in needs.processes(project, required).items():
            hint = f"{command.why} has no process `{name}`"
            yield Advice(f"processes.{name}.command", command.command, command.why, hint)
    for name, command in needs.schedule(project).items():
        yield Advice(f"schedule.{name}.command", command.command, command.why)
        yield Advice(f"schedule.{name}.at", _AT_NIGHT, "minute, hour, day, month, weekday")
    if needs.uses_redis(project, required):
        yield Advice("redis", {}, "the code connects to a Redis; its URL is in REDIS_URL")
    if needs.MYSQL & required and _reads_mysql(project):
        yield Advice("mysql.database", "app", "the code reads MYSQL_HOST and its companions, which this sets")
    wanted, packages = needs.libraries(required, is_red_hat)
    if wanted:
        yield Advice("server.packages", packages, f"pip builds {', '.join(wanted)} with them")


def _left(project: Project, entry: Entry, required: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what no file says."""
    for name, place in needs.environment(project).items():
        yield f"secret set app.env.{name}", f"{place} does not start without it"
    if needs.MYSQL & required and _reads_mysql(project):
        yield "secret set mysql.password", "the password of the new database; any text"
    elif needs.MYSQL & required:
        yield (
            "MySQL",
            "the requirements have a driver: `mysql: {database: app}` sets up a MySQL, "
            "and the code finds it in MYSQL_HOST, MYSQL_PORT, MYSQL_DATABASE, MYSQL_USER and MYSQL_PASSWORD",
        )
    if needs.POSTGRES & required:
        yield "PostgreSQL", "the requirements have a driver, and this program sets up none: name your own in app.env"
    if entry.framework.startswith("Django"):
        yield from django_settings.left(project)
    if health.page(project, entry.framework) is None:
        yield "a page for the health check", f"none was found that answers 2xx to anybody: add {health.DEFAULT}"
    if requirements.file(project) is None:
        yield "requirements.txt", "none was found: pip freeze > requirements.txt"
